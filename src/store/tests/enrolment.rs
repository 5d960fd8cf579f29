//! What devices and services are let in with: secrets, claims, accounts.

use super::*;
use crate::domain::DevicePattern;

pub(super) fn all(store: &dyn Store) {
    a_secret_stays_with_its_device_until_it_is_replaced_or_the_device_goes(store);
    secrets_of_other_keys_are_found_and_replaced_once(store);
    a_claim_takes_in_what_it_admits_and_as_many_as_it_may(store);
    a_device_enrols_once_and_again_only_when_allowed(store);
    a_known_device_is_not_taken_over_by_a_claim(store);
    uses_of_a_claim_hold_when_many_come_at_once(store);
    a_service_account_is_changed_and_removed(store);
    a_changed_or_removed_account_is_told_of(store);
}

fn sealed(key_id: &str, envelope: &[u8]) -> Sealed {
    Sealed { key_id: key_id.into(), envelope: envelope.to_vec() }
}

fn claim(prefix: &str, devices: &str, max_uses: u32) -> Claim {
    Claim {
        prefix: prefix.into(),
        token_sha256: [3; 32],
        name: "depot".into(),
        devices: DevicePattern::parse(devices).unwrap(),
        max_uses,
        uses: 0,
        created_at: T,
        created_by: "key:aaa".into(),
        expires_at: at(100),
        revoked_at: None,
    }
}

fn newcomer(claim: &str, device: &str) -> NewEnrolment {
    NewEnrolment {
        claim_prefix: claim.into(),
        device: NewDevice { is_active: true, token_sha256: Some([8; 32]), ..new_device(device) },
        secret: ("command_key", sealed("k1", device.as_bytes())),
        certificate: None,
    }
}

fn a_secret_stays_with_its_device_until_it_is_replaced_or_the_device_goes(store: &dyn Store) {
    create(store, &new_device("keeper"));
    let set = |device: &str, envelope: &[u8]| {
        store.set_device_secret(&id(device), "command_key", &sealed("k1", envelope), T).unwrap()
    };
    let get = || store.device_secret(&id("keeper"), "command_key").unwrap();
    assert!(set("keeper", b"one") && set("keeper", b"two") && !set("nobody", b"x"));
    assert_eq!(get().as_deref(), Some(&b"two"[..]));
    assert_eq!(store.device_secret(&id("keeper"), "other").unwrap(), None);
    assert!(store.delete_device(&id("keeper"), false).unwrap());
    create(store, &new_device("keeper"));
    assert_eq!(get(), None, "a device of the same name does not inherit it");
}

fn secrets_of_other_keys_are_found_and_replaced_once(store: &dyn Store) {
    for n in 0..3 {
        create(store, &new_device(&format!("sealed-{n}")));
        store.set_device_secret(&id(&format!("sealed-{n}")), "command_key", &sealed("old", &[n]), T).unwrap();
    }
    let of_old = |after: Option<(&str, &str)>, limit| -> Vec<_> {
        let all = store.secrets_not_of("new", after, limit).unwrap();
        all.into_iter().filter(|(device, ..)| device.starts_with("sealed-")).map(|(device, ..)| device).collect()
    };
    assert_eq!(of_old(None, 100), ["sealed-0", "sealed-1", "sealed-2"]);
    assert_eq!(of_old(Some(("sealed-0", "command_key")), 1), ["sealed-1"]);
    assert!(store.sealing_keys().unwrap().contains(&"old".to_owned()));
    let replace = |old: &[u8]| store.replace_secret("sealed-1", "command_key", old, &sealed("new", b"n")).unwrap();
    assert!(replace(&[1]) && !replace(&[1]), "what has changed meanwhile stays");
    assert_eq!(of_old(None, 100), ["sealed-0", "sealed-2"]);
}

fn a_claim_takes_in_what_it_admits_and_as_many_as_it_may(store: &dyn Store) {
    store.create_claim(&claim("c1", "depot-*", 2)).unwrap();
    assert!(store.create_claim(&claim("c1", "x", 1)).is_err());
    let enrol =
        |claim: &str, device: &str, now| store.enrol(&newcomer(claim, device), now).unwrap() != Outcome::Conflict;
    assert!(!enrol("c1", "other-1", T) && !enrol("nothing", "depot-1", T) && !enrol("c1", "depot-1", at(100)));
    assert!(enrol("c1", "depot-1", T) && enrol("c1", "depot-2", T) && !enrol("c1", "depot-3", T));
    let device = store.device(&id("depot-1")).unwrap().unwrap();
    assert!(device.is_active && store.device(&id("depot-3")).unwrap().is_none());
    assert_eq!(store.device_secret(&id("depot-1"), "command_key").unwrap().as_deref(), Some(&b"depot-1"[..]));
    assert!(store.device_credential(&id("depot-1")).unwrap().unwrap().token_sha256 == Some([8; 32]));
    store.create_claim(&claim("c2", "depot-", 9)).unwrap();
    assert!(store.revoke_claim("c2", at(1)).unwrap() && !store.revoke_claim("nothing", at(1)).unwrap());
    assert!(!enrol("c2", "depot-4", T));
    let all = store.claims().unwrap();
    let state = |prefix: &str| all.iter().find(|c| c.prefix == prefix).map(|c| (c.uses, c.state(at(2))));
    assert_eq!((state("c1"), state("c2")), (Some((2, "used up")), Some((0, "revoked"))));
}

fn a_device_enrols_once_and_again_only_when_allowed(store: &dyn Store) {
    store.create_claim(&claim("c3", "once-", 9)).unwrap();
    let enrol = || store.enrol(&newcomer("c3", "once-1"), T).unwrap() != Outcome::Conflict;
    let may = || store.claim_for("c3", &id("once-1")).unwrap().1;
    assert!(may() && enrol() && !may() && !enrol());
    store.delete_device(&id("once-1"), true).unwrap();
    assert!(!may() && !enrol(), "what was removed does not come back by itself");
    assert!(store.allow_enrolment(&id("once-1"), at(1)).unwrap() && may() && enrol() && !enrol());
    let switched_off = DeviceChange { is_active: Some(false), ..DeviceChange::default() };
    store.update_device(&id("once-1"), &switched_off, None, T).unwrap();
    assert!(store.allow_enrolment(&id("once-1"), at(1)).unwrap() && enrol());
    assert!(store.device(&id("once-1")).unwrap().unwrap().is_active);
    assert!(!store.allow_enrolment(&id("never-seen"), at(1)).unwrap());
    // Nor does what was registered by hand and removed.
    create(store, &new_device("once-2"));
    store.delete_device(&id("once-2"), false).unwrap();
    assert!(store.enrol(&newcomer("c3", "once-2"), T).unwrap() == Outcome::Conflict);
    let uses = store.claims().unwrap().into_iter().find(|c| c.prefix == "c3").unwrap().uses;
    assert_eq!(uses, 3, "a refused enrolment takes no use");
}

fn a_known_device_is_not_taken_over_by_a_claim(store: &dyn Store) {
    store.create_claim(&claim("c4", "known-", 9)).unwrap();
    create(store, &NewDevice { token_sha256: Some([1; 32]), ..new_device("known-1") });
    let token = || store.device_credential(&id("known-1")).unwrap().unwrap().token_sha256;
    assert!(!store.claim_for("c4", &id("known-1")).unwrap().1);
    assert_eq!(store.enrol(&newcomer("c4", "known-1"), T).unwrap(), Outcome::Conflict);
    assert!(token() == Some([1; 32]));
    store.allow_enrolment(&id("known-1"), T).unwrap();
    assert!(store.enrol(&newcomer("c4", "known-1"), T).unwrap() != Outcome::Conflict);
    assert!(token() == Some([8; 32]), "the old credential is void");
}

fn uses_of_a_claim_hold_when_many_come_at_once(store: &dyn Store) {
    store.create_claim(&claim("c5", "many-", 5)).unwrap();
    let enrol = |n: u32| {
        // A busy database is no answer; somebody else is writing for a moment.
        let new = newcomer("c5", &format!("many-{n}"));
        store.enrol(&new, T).unwrap() != Outcome::Conflict
    };
    let taken_in = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|n| scope.spawn(move || enrol(n))).collect();
        all.into_iter().map(|one| u32::from(one.join().unwrap())).sum::<u32>()
    });
    assert_eq!(taken_in, 5);
}

fn a_service_account_is_changed_and_removed(store: &dyn Store) {
    let new = ServiceAccount {
        name: "grafana".into(),
        token_sha256: [4; 32],
        read: vec!["iot/+/telemetry".into()],
        write: vec![],
        created_at: T,
        created_by: "local".into(),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    assert_eq!(store.create_service(&new).unwrap(), Outcome::Done(()));
    assert_eq!(store.create_service(&new).unwrap(), Outcome::Conflict);
    assert!(store.service("grafana").unwrap() == Some(new.clone()) && store.service("x").unwrap().is_none());
    let change = ServiceChange { write: Some(vec!["app/#".into()]), ..ServiceChange::default() };
    let changed = store.update_service("grafana", &change).unwrap().unwrap();
    assert!(changed.read == new.read && changed.write == ["app/#"] && changed.token_sha256 == [4; 32]);
    assert!(store.update_service("grafana", &ServiceChange::default()).unwrap() == Some(changed));
    assert!(store.update_service("x", &change).unwrap().is_none());
    store.note_service_use("grafana", at(7)).unwrap();
    let all = store.services().unwrap();
    assert!(all.len() == 1 && all[0].last_used_at == Some(at(7)) && all[0].state(T) == "valid");
    assert!(store.delete_service("grafana").unwrap() && !store.delete_service("grafana").unwrap());
}

fn a_changed_or_removed_account_is_told_of(store: &dyn Store) {
    let mut seen = store.last_credential_change().unwrap();
    let mut told = |count: usize| {
        let changes = store.credential_changes(seen, 10).unwrap();
        assert_eq!(changes.len(), count);
        assert!(changes.iter().all(|(_, change)| *change == CredentialChange::Service("s".into())), "{changes:?}");
        seen = changes.last().map_or(seen, |(number, _)| *number);
    };
    let account = ServiceAccount {
        name: "s".into(),
        token_sha256: [4; 32],
        read: vec![],
        write: vec![],
        created_at: T,
        created_by: "local".into(),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    store.create_service(&account).unwrap();
    store.note_service_use("s", T).unwrap();
    told(0);
    store.update_service("s", &ServiceChange { revoked_at: Some(T), ..ServiceChange::default() }).unwrap();
    store.delete_service("s").unwrap();
    told(2);
}
