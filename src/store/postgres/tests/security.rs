//! What the server itself keeps of who got in: an audit log that nobody changes and no two nodes fork, one enrolment of a
//! device.

use super::*;
use crate::domain::DevicePattern;
use crate::store::chain::Walk;
use crate::store::{Access, AuditEntry, AuditFilter, AuditOutcome, Claim, Enrolment, NewEnrolment, Sealed};

fn entry(n: i64, actor: &str) -> AuditEntry {
    AuditEntry {
        at: Timestamp(n),
        actor: actor.into(),
        address: None,
        action: "key.create".into(),
        target: String::new(),
        outcome: AuditOutcome::Done,
        request_id: None,
        detail: String::new(),
    }
}

/// Walks the audit log; its last id.
fn audited(store: &PostgresStore) -> i64 {
    let mut walk = Walk::behind(store.audit_ends().unwrap().anchor);
    let mut each = |row| {
        walk.step(&row).unwrap();
        ControlFlow::Continue(())
    };
    store.scan_audit(&AuditFilter::default(), &mut each).unwrap();
    walk.id
}

#[test]
fn the_database_refuses_to_change_or_lose_an_audit_entry() {
    let (store, url) = store();
    store.append_audit(&[entry(1, "local"), entry(2, "a\0b"), entry(3, "local")]).unwrap();
    assert_eq!(audited(&store), 3, "what Postgres cannot hold is not hashed either");
    let mut outsider = PgConnection::establish(&url).unwrap();
    for statement in [
        "UPDATE audit_log SET actor = 'nobody' WHERE id = 2",
        "UPDATE audit_log SET hash = decode(repeat('00', 32), 'hex')",
        "DELETE FROM audit_log WHERE id = 3",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "DELETE FROM audit_anchor",
        "TRUNCATE audit_anchor",
        "UPDATE audit_anchor SET last_id = 99",
        "UPDATE audit_anchor SET hash = decode(repeat('11', 32), 'hex')",
        "UPDATE audit_anchor SET last_id = 2, hash = decode(repeat('00', 32), 'hex')",
        "UPDATE audit_anchor SET last_given = 2",
        "INSERT INTO audit_log SELECT * FROM audit_log WHERE id = 2 ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
    ] {
        let refused = outsider.batch_execute(statement).expect_err(statement).to_string();
        assert!(refused.contains("append-only"), "{statement}: {refused}");
    }
    // Without the triggers a cut tail still shows: ids are never given twice.
    outsider
        .batch_execute("DROP TRIGGER audit_log_no_delete ON audit_log; DELETE FROM audit_log WHERE id = 3")
        .unwrap();
    assert_eq!(store.audit_ends().unwrap().last_given, 3);
    assert_eq!(store.audit(&AuditFilter::default(), Page::behind(None, 1)).unwrap().items[0].id, 2);
}

#[test]
fn nodes_that_write_the_audit_log_at_once_make_one_chain() {
    let (first, url) = store();
    let start = Barrier::new(4);
    let stores = [(); 4].map(|()| store_at(&url));
    std::thread::scope(|scope| {
        for (node, store) in stores.iter().enumerate() {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for n in 0..25 {
                    store.append_audit(&[entry(n, &format!("node-{node}")), entry(n, "local")]).unwrap();
                    if node == 0 && n == 20 {
                        store.trim_audit(Timestamp(3), 10, Timestamp(9)).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!((audited(&first), first.audit_ends().unwrap().last_given), (201, 201), "the trim is one too");
}

#[test]
fn of_nodes_that_take_in_the_same_device_at_once_one_does() {
    let (first, url) = store();
    for prefix in ["c1", "c2"] {
        let claim = Claim {
            prefix: prefix.into(),
            token_sha256: [3; 32],
            name: "depot".into(),
            devices: DevicePattern::parse("d-*").unwrap(),
            max_uses: 100,
            uses: 0,
            created_at: at(0),
            created_by: "local".into(),
            expires_at: at(100),
            revoked_at: None,
        };
        first.create_claim(&claim).unwrap();
    }
    let start = Barrier::new(4);
    let stores = [(); 4].map(|()| store_at(&url));
    let taken: usize = std::thread::scope(|scope| {
        let nodes: Vec<_> = (stores.iter().enumerate())
            .map(|(node, store)| {
                let start = &start;
                scope.spawn(move || {
                    let enrol = |n: u32| {
                        let new = NewEnrolment {
                            claim_prefix: if node % 2 == 0 { "c1" } else { "c2" }.into(),
                            device: new_device(&format!("d-{n}")),
                            secret: ("command_key", Sealed { key_id: "k".into(), envelope: vec![1] }),
                            certificate: None,
                        };
                        start.wait();
                        store.enrol(&new, at(1))
                    };
                    // What fails does so behind the last barrier.
                    let done: Vec<_> = (0..10).map(enrol).collect();
                    done.into_iter().filter(|one| *one.as_ref().unwrap() != Outcome::Conflict).count()
                })
            })
            .collect();
        nodes.into_iter().map(|node| node.join().unwrap()).sum()
    });
    let uses: u32 = first.claims().unwrap().iter().map(|claim| claim.uses).sum();
    assert_eq!((taken, uses), (10, 10));
}
