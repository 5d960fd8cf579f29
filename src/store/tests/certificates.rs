//! Certificates, and rights that were taken away.

use super::*;

fn certificate(serial: &str, device: Option<&str>, not_after: i64) -> Certificate {
    Certificate {
        serial: serial.into(),
        device: device.map(id),
        not_before: at(0),
        not_after: at(not_after),
        fingerprint: format!("f-{serial}"),
        pem: "-----BEGIN CERTIFICATE-----".into(),
        issued_at: at(1),
        issued_by: "key:abc".into(),
        revocation: None,
    }
}

fn revocation(seconds: i64) -> Revocation {
    Revocation { at: at(seconds), by: "local".into(), reason: "lost".into() }
}

pub fn a_certificate_is_found_listed_and_revoked_once(store: &dyn Store) {
    let all = [
        certificate("01", Some("cert-a"), 100),
        certificate("02", Some("cert-a"), 50),
        certificate("03", Some("cert-b"), 200),
        certificate("04", None, 300),
    ];
    for certificate in &all {
        store.add_certificate(certificate).unwrap();
    }
    assert!(store.add_certificate(&all[0]).is_err_and(|error| !error.is_transient()));
    assert_eq!(store.certificate("03").unwrap().as_ref(), Some(&all[2]));
    assert_eq!(store.certificate("ff").unwrap(), None);
    let list = |filter: CertificateFilter| {
        let found = store.certificates(&filter, ALL).unwrap();
        assert_eq!(found.total, Some(found.items.len() as u64));
        found.items.into_iter().map(|c| c.serial).collect::<Vec<_>>()
    };
    assert_eq!(list(CertificateFilter::default()), ["04", "03", "02", "01"]);
    assert_eq!(list(CertificateFilter { device: Some(id("cert-a")), ..CertificateFilter::default() }), ["02", "01"]);
    assert_eq!(list(CertificateFilter { id_prefix: Some("cert-b".into()), ..CertificateFilter::default() }), ["03"]);
    let expiring = || CertificateFilter { expiring: Some((at(60), at(201))), ..CertificateFilter::default() };
    assert_eq!(list(expiring()), ["03", "01"]);
    let walk = store.certificates(&CertificateFilter::default(), Page::behind(None, 3)).unwrap();
    let rest = store.certificates(&CertificateFilter::default(), Page::behind(walk.next, 3)).unwrap();
    assert_eq!((walk.items.len(), rest.items.len(), rest.next), (3, 1, None));

    let revoked = store.revoke_certificate("01", &revocation(7), None).unwrap().unwrap();
    assert_eq!(revoked.revocation, Some(revocation(7)));
    let again = store.revoke_certificate("01", &revocation(8), Some(at(9))).unwrap();
    assert_eq!(again, Some(revoked), "the first one stays");
    assert_eq!(store.revoke_certificate("ff", &revocation(8), None).unwrap(), None);
    assert_eq!(list(expiring()), ["03"]);
    let revoked = RevokedCertificate { serial: "01".into(), revoked_at: at(7), not_after: at(100) };
    assert_eq!(store.revoked_certificates(at(60)).unwrap(), [revoked]);
    assert_eq!(store.revoked_certificates(at(101)).unwrap(), [], "it has ended by itself");
    let figures = store.certificate_figures(at(151), at(201)).unwrap();
    let next_expiry = Some(at(200));
    assert_eq!(figures, CertificateFigures { valid: 1, expiring: 1, expired: 1, revoked: 1, next_expiry });
    assert_eq!(store.revoke_certificates_of(&id("cert-a"), &revocation(9)).unwrap(), ["02"]);
    assert_eq!(store.revoke_certificates_of(&id("cert-a"), &revocation(9)).unwrap(), Vec::<String>::new());
}

pub fn what_was_renewed_is_not_expiring(store: &dyn Store) {
    // Long after whatever others have made.
    const NOW: i64 = 1_000_000_000;
    let issue = |serial: &str, device: &str, from: i64, until: i64| {
        let new = certificate(serial, Some(device), NOW + until);
        store.add_certificate(&Certificate { not_before: at(NOW + from), ..new }).unwrap();
    };
    let check = |valid: u64, expiring: u64, next: i64, listed: &[&str]| {
        let figures = store.certificate_figures(at(NOW), at(NOW + 30)).unwrap();
        let found = (figures.valid, figures.expiring, figures.next_expiry);
        assert_eq!(found, (valid, expiring, Some(at(NOW + next))), "{listed:?}");
        let filter = CertificateFilter { expiring: Some((at(NOW), at(NOW + 30))), ..CertificateFilter::default() };
        let found = store.certificates(&filter, ALL).unwrap();
        assert_eq!(found.total, Some(listed.len() as u64));
        assert_eq!(found.items.into_iter().map(|c| c.serial).collect::<Vec<_>>(), listed);
    };
    issue("5eed01", "renew-a", -340, 20);
    check(1, 1, 20, &["5eed01"]);
    issue("5eed02", "renew-a", 0, 360);
    check(2, 0, 360, &[]);
    // Good for a short time: near its end, and not late yet; and late.
    issue("5eed03", "renew-b", -5, 15);
    check(3, 0, 15, &["5eed03"]);
    issue("5eed04", "renew-c", -18, 4);
    check(4, 1, 4, &["5eed04", "5eed03"]);
    // The later one may end sooner: it is what the meter has got.
    issue("5eed05", "renew-d", -90, 270);
    issue("5eed06", "renew-d", -29, 1);
    check(6, 2, 1, &["5eed06", "5eed04", "5eed03"]);
    // One that was revoked, or has ended, is no later one.
    store.revoke_certificate("5eed02", &revocation(NOW), None).unwrap();
    check(5, 3, 1, &["5eed06", "5eed04", "5eed03", "5eed01"]);
    issue("5eed07", "renew-a", -10, -1);
    check(5, 3, 1, &["5eed06", "5eed04", "5eed03", "5eed01"]);
}

pub fn a_certificate_nobody_knows_is_revoked_by_its_serial_alone(store: &dyn Store) {
    let start = store.last_credential_change().unwrap();
    let revoke =
        |n: i64, until: i64| store.revoke_certificate("5e1", &revocation(n), Some(at(until))).unwrap().unwrap();
    let first = revoke(7, 400);
    assert_eq!(first, Certificate::unknown("5e1", at(400), &revocation(7)));
    assert_eq!(store.certificate("5e1").unwrap().as_ref(), Some(&first));
    assert_eq!(revoke(8, 500), first, "the first word stays");
    let changes: Vec<_> = store.credential_changes(start, 100).unwrap().into_iter().map(|(_, change)| change).collect();
    assert_eq!(changes, [CredentialChange::Certificate("5e1".into())], "told once");
    let is_listed = |now: i64| store.revoked_certificates(at(now)).unwrap().iter().any(|r| r.serial == "5e1");
    assert!(is_listed(399) && !is_listed(401));
    let known = certificate("5e1", Some("cert-z"), 100);
    assert!(store.add_certificate(&known).is_err(), "it does not become good again");
}

pub fn every_right_taken_away_is_told_in_order(store: &dyn Store) {
    let start = store.last_credential_change().unwrap();
    let heard = |after: i64| {
        let changes = store.credential_changes(after, 100).unwrap();
        assert!(changes.iter().map(|(number, _)| number).is_sorted());
        changes.into_iter().map(|(_, change)| change).collect::<Vec<_>>()
    };
    assert_eq!(heard(start), []);
    for device in ["change-a", "change-b"] {
        store.create_device(&new_device(device), T).unwrap();
    }
    store.add_certificate(&certificate("0a", Some("change-a"), 100)).unwrap();
    for _ in 0..2 {
        store.revoke_certificate("0a", &revocation(7), None).unwrap();
    }
    for is_active in [Some(true), Some(false), None] {
        let change = DeviceChange { is_active, ..DeviceChange::default() };
        store.update_device(&id("change-a"), &change, None, at(8)).unwrap();
    }
    store.set_device_token(&id("change-b"), Some([1; 32])).unwrap();
    store.set_device_token(&id("change-b"), None).unwrap();
    store.set_device_token(&id("nobody"), None).unwrap();
    store.delete_device(&id("change-b"), false).unwrap();
    let all = [
        CredentialChange::Certificate("0a".into()),
        CredentialChange::Device(id("change-a")),
        CredentialChange::Token(id("change-b")),
        CredentialChange::Token(id("change-b")),
        CredentialChange::Device(id("change-b")),
    ];
    assert_eq!(heard(start), all);
    // Whatever time the one who took it away speaks of: nothing is forgotten before it was heard.
    store.add_certificate(&certificate("0b", Some("change-a"), 100)).unwrap();
    store.revoke_certificate("0b", &revocation(9 * 86_400), None).unwrap();
    assert_eq!(heard(start), [&all[..], &[CredentialChange::Certificate("0b".into())]].concat());
    assert_eq!(store.credential_changes(start, 1).unwrap().len(), 1);
    assert_eq!(heard(store.last_credential_change().unwrap()), []);
}

pub fn a_device_that_has_changed_is_not_removed_by_who_has_read_it_before(store: &dyn Store) {
    let read = create(store, &new_device("remove-a"));
    store.commit(&Batch { telemetry: vec![row("remove-a", 1, 1)], ..Batch::default() }).unwrap();
    store.add_certificate(&certificate("0c", Some("remove-a"), 100)).unwrap();
    let renamed = DeviceChange { device_name: Some("Neu".into()), ..DeviceChange::default() };
    store.update_device(&id("remove-a"), &renamed, Some(read.version), at(5)).unwrap();
    let start = store.last_credential_change().unwrap();
    let found = || {
        let certificate = store.certificate("0c").unwrap().unwrap();
        let reach = store.reach(&id("remove-a")).unwrap();
        let rows = scan(store, "remove-a", 0, 9).len();
        (store.device(&id("remove-a")).unwrap(), certificate.revocation, reach.purged_at, rows)
    };
    let before = found();
    let remove = |device: &str, version| store.remove_device(&id(device), version, true, &revocation(9)).unwrap();
    assert_eq!(remove("remove-a", Some(read.version)), Some(Outcome::Conflict));
    assert_eq!((found(), store.last_credential_change().unwrap()), (before.clone(), start), "nothing has happened");
    assert_eq!([remove("nobody", Some(1)), remove("nobody", None)], [None, None]);
    let version = before.0.unwrap().version;
    assert_eq!(remove("remove-a", Some(version)), Some(Outcome::Done(())));
    assert_eq!(found(), (None, Some(revocation(9)), Some(at(9)), 0));
    assert_eq!(remove("remove-a", Some(version)), None);
    create(store, &new_device("remove-b"));
    assert_eq!(remove("remove-b", None), Some(Outcome::Done(())));
}

pub fn only_an_active_device_is_issued_one_and_only_so_many(store: &dyn Store) {
    let issue = |serial: &str, device: &str, follows: Option<&str>| {
        store.issue_certificate(&certificate(serial, Some(device), 100), follows).unwrap()
    };
    let set_active = |device: &str, is_active: bool| {
        let change = DeviceChange { is_active: Some(is_active), ..DeviceChange::default() };
        store.update_device(&id(device), &change, None, at(5)).unwrap();
    };
    assert_eq!(issue("155e01", "issue-a", None), Issuance::NoDevice);
    create(store, &new_device("issue-a"));
    assert_eq!(issue("155e01", "issue-a", None), Issuance::Kept);
    assert_eq!(issue("155e02", "issue-a", Some("155e01")), Issuance::Kept);
    assert_eq!(issue("155e03", "issue-a", Some("155eff")), Issuance::Kept, "another authority's");
    set_active("issue-a", false);
    assert_eq!(issue("155e04", "issue-a", Some("155e02")), Issuance::Disabled);
    set_active("issue-a", true);
    store.revoke_certificate("155e02", &revocation(6), None).unwrap();
    assert_eq!(issue("155e04", "issue-a", Some("155e02")), Issuance::Revoked);
    assert_eq!(store.certificate("155e04").unwrap(), None, "nothing is kept of what is refused");

    // Neither a revoked one nor one that is over counts.
    store.add_certificate(&certificate("155e05", Some("issue-a"), 0)).unwrap();
    let mut good = 2;
    while good < MAX_GOOD_CERTIFICATES {
        assert_eq!(issue(&format!("155e1{good}"), "issue-a", Some("155e01")), Issuance::Kept);
        good += 1;
    }
    assert_eq!(issue("155e06", "issue-a", Some("155e01")), Issuance::TooMany);
    assert_eq!(issue("155e06", "issue-a", None), Issuance::TooMany);
    create(store, &new_device("issue-b"));
    assert_eq!(issue("155e07", "issue-b", None), Issuance::Kept, "another device's do not count");
    store.revoke_certificate("155e01", &revocation(6), None).unwrap();
    assert_eq!(issue("155e06", "issue-a", Some("155e03")), Issuance::Kept);

    store.remove_device(&id("issue-a"), None, false, &revocation(9)).unwrap();
    assert_eq!(issue("155e08", "issue-a", Some("155e06")), Issuance::NoDevice);
    create(store, &new_device("issue-a"));
    assert_eq!(issue("155e08", "issue-a", Some("155e06")), Issuance::Revoked, "of whoever had the id before");
    let server = Certificate { device: None, ..certificate("155e09", None, 100) };
    assert_eq!(store.issue_certificate(&server, None).unwrap(), Issuance::Kept);
}

pub fn a_device_that_is_removed_while_it_renews_leaves_no_good_certificate(store: &dyn Store) {
    for round in 0..5 {
        let device = format!("renewing-{round}");
        create(store, &new_device(&device));
        let issue = |n: i64, follows: Option<&str>| {
            let serial = format!("4e{round}{n}");
            (store.issue_certificate(&certificate(&serial, Some(&device), 100), follows).unwrap(), serial)
        };
        let (kept, first) = issue(0, None);
        assert_eq!(kept, Issuance::Kept);
        let starts = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for follows in [Some(first.as_str()), None] {
                let (issue, starts) = (&issue, &starts);
                scope.spawn(move || {
                    starts.wait();
                    let from = if follows.is_some() { 1 } else { 4 };
                    (from..from + 3).for_each(|n| drop(issue(n, follows)));
                });
            }
            starts.wait();
            store.remove_device(&id(&device), None, false, &revocation(9)).unwrap();
        });
        let filter = CertificateFilter { device: Some(id(&device)), ..CertificateFilter::default() };
        let found = store.certificates(&filter, ALL).unwrap().items;
        assert!(found.iter().all(|certificate| certificate.revocation.is_some()), "{found:?}");
    }
}
