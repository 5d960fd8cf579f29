//! Last use of keys, sessions of the console, the audit log.

use std::ops::ControlFlow;

use super::{at, counted};
use crate::store::chain::{Break, Walk};
use crate::store::*;

fn key(prefix: &str) -> ApiKey {
    ApiKey {
        prefix: prefix.into(),
        key_sha256: [1; 32],
        role: Role::Operator,
        name: "x".into(),
        device_prefix: None,
        created_at: at(0),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_from: None,
    }
}

pub(super) fn the_last_use_of_a_key_is_the_latest_that_was_noted(store: &dyn Store) {
    store.create_api_key(&key("used")).unwrap();
    let used = |second: i64, last: u8| KeyUse {
        prefix: "used".into(),
        at: at(second),
        address: Some([10, 0, 0, last].into()),
    };
    let gone = KeyUse { prefix: "gone".into(), at: at(1), address: None };
    store.note_uses(&[used(5, 1), gone], &[]).unwrap();
    store.note_uses(&[used(4, 2)], &[]).unwrap();
    let last = || store.api_key("used").unwrap().map(|k| (k.last_used_at, k.last_used_from)).unwrap();
    assert_eq!(last(), (Some(at(5)), Some([10, 0, 0, 1].into())));
    store.note_uses(&[used(6, 3)], &[]).unwrap();
    assert_eq!(last(), (Some(at(6)), Some([10, 0, 0, 3].into())));
    let listed = store.list_api_keys(Page::behind(None, 1)).unwrap();
    assert_eq!((listed.items[0].prefix.as_str(), listed.next.is_some()), ("used", true));
    let all = store.list_api_keys(Page::offset(0, 500)).unwrap();
    assert_eq!(all.total, Some(all.items.len() as u64));
}

fn session(id: u8, actor: &str, begun: i64, ends: i64) -> WebSession {
    WebSession {
        id_sha256: [id; 32],
        actor: actor.into(),
        key_prefix: actor.strip_prefix("key:").map(str::to_owned),
        role: Role::Viewer,
        device_prefix: Some("dc-".into()),
        created_at: at(begun),
        last_used_at: at(begun),
        expires_at: at(ends),
    }
}

pub(super) fn a_session_shows_its_key_as_it_is_now_and_ends(store: &dyn Store) {
    store.create_api_key(&key("sess")).unwrap();
    let own = session(1, "key:sess", 0, 100);
    store.create_web_session(&own, 9).unwrap();
    let found = || store.web_session(&[1; 32]).unwrap();
    let (kept, of_key) = found().unwrap();
    assert!(kept == own && of_key.is_some_and(|k| k.is_good(at(1))));
    store.note_uses(&[], &[SessionUse { id_sha256: [1; 32], at: at(7) }]).unwrap();
    assert_eq!(found().unwrap().0.last_used_at, at(7));
    store.revoke_api_key("sess", at(8)).unwrap();
    assert!(!found().unwrap().1.unwrap().is_good(at(9)));
    assert!(store.web_session(&[2; 32]).unwrap().is_none());
    assert!(store.end_web_session(&[1; 32]).unwrap() && !store.end_web_session(&[1; 32]).unwrap());
    assert!(found().is_none());
}

pub(super) fn an_actor_keeps_so_many_sessions_and_none_that_is_over(store: &dyn Store) {
    let is_there = |id: u8| store.web_session(&[id; 32]).unwrap().is_some();
    for id in 10..14 {
        store.create_web_session(&session(id, "user:a", i64::from(id), 100), 3).unwrap();
    }
    store.create_web_session(&session(20, "user:b", 14, 100), 3).unwrap();
    assert_eq!([10, 11, 12, 13, 20].map(is_there), [false, true, true, true, true]);
    store.create_web_session(&session(21, "user:b", 100, 200), 3).unwrap();
    assert_eq!([11, 13, 20, 21].map(is_there), [false, false, false, true]);
}

fn entry(second: i64, actor: &str, action: &str, outcome: AuditOutcome) -> AuditEntry {
    AuditEntry {
        at: at(second),
        actor: actor.into(),
        address: (actor != "local").then(|| "2001:db8::1".parse().unwrap()),
        action: action.into(),
        target: "m-1".into(),
        outcome,
        request_id: (actor != "local").then(|| "r-1".into()),
        detail: String::new(),
    }
}

fn walk(store: &dyn Store) -> Result<Walk, Break> {
    let mut walk = Walk::behind(store.audit_ends().unwrap().anchor);
    let mut result = Ok(());
    let mut each = |row: AuditRow| {
        result = walk.step(&row);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    store.scan_audit(&AuditFilter::default(), &mut each).unwrap();
    result.map(|()| walk)
}

pub(super) fn the_audit_log_is_one_chain_found_by_who_what_and_when(store: &dyn Store) {
    use AuditOutcome::{Done, Failed, Refused};
    store.append_audit(&[]).unwrap();
    assert_eq!(walk(store).unwrap().id, 0);
    let a = entry(1, "local", "key.create", Done);
    let b = entry(2, "key:aa", "POST /api/devices", Failed);
    let c = entry(3, "-", "key.refused", Refused);
    store.append_audit(&[a.clone(), b.clone()]).unwrap();
    store.append_audit(std::slice::from_ref(&c)).unwrap();
    let end = walk(store).unwrap();
    assert_eq!((end.id, store.audit_ends().unwrap().last_given), (3, 3));
    let find = |filter: AuditFilter| {
        let listing = store.audit(&filter, Page::offset(0, 10)).unwrap();
        counted(listing.items.into_iter().map(|row| row.entry).collect(), listing.total.unwrap())
    };
    let none = AuditFilter::default;
    assert_eq!(find(none()), counted(vec![c.clone(), b.clone(), a.clone()], 3));
    assert_eq!(find(AuditFilter { actor: Some("local".into()), ..none() }), counted(vec![a.clone()], 1));
    assert_eq!(find(AuditFilter { action: Some("key.".into()), ..none() }), counted(vec![c.clone(), a], 2));
    assert_eq!(find(AuditFilter { outcome: Some(Refused), ..none() }), counted(vec![c.clone()], 1));
    assert_eq!(find(AuditFilter { target: Some("m-2".into()), ..none() }), counted(vec![], 0));
    assert_eq!(find(AuditFilter { from: Some(at(2)), to: Some(at(3)), ..none() }), counted(vec![b], 1));
    let first = store.audit(&none(), Page::behind(None, 2)).unwrap();
    let rest = store.audit(&none(), Page::behind(first.next, 2)).unwrap();
    assert_eq!((first.items.len(), rest.items[0].id, rest.next), (2, 1, None));
}

pub(super) fn a_trimmed_audit_log_is_still_a_chain(store: &dyn Store) {
    let (before, end) = (store.audit_ends().unwrap(), walk(store).unwrap());
    assert_eq!((before.anchor.0, end.id), (0, 3));
    assert_eq!(store.trim_audit(at(1), 10, at(9)).unwrap(), 0);
    // Each time an entry says what is gone.
    let newest = || store.audit(&AuditFilter::default(), Page::behind(None, 1)).unwrap().items.remove(0);
    for (limit, gone) in [(1, 1), (10, 2)] {
        assert_eq!(store.trim_audit(at(3), limit, at(9)).unwrap(), 1);
        let (last_id, hash) = store.audit_ends().unwrap().anchor;
        let said = newest();
        assert_eq!((last_id, said.id, said.entry.at), (gone, gone + 3, at(9)));
        assert_eq!(Trimmed::of(&said.entry), Some(Trimmed { last_id, last_at: at(gone), hash }));
        assert_eq!(walk(store).unwrap().id, said.id);
    }
    assert_eq!(store.trim_audit(at(99), 10, at(99)).unwrap(), 3);
    assert_eq!((store.audit_ends().unwrap().anchor.0, walk(store).unwrap().id), (5, 6));
    store.append_audit(&[entry(10, "local", "key.create", AuditOutcome::Done)]).unwrap();
    assert_eq!(walk(store).unwrap().id, 7);
}
