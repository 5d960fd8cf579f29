//! The suite on a real Postgres, and what only a server has: two nodes, partitions, going away and coming back, the view.

use std::ops::ControlFlow;
use std::sync::Barrier;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use diesel_migrations::MigrationHarness;

use self::server::Server;
use super::super::tests::{at, id, new_device, row, scan, suite};
use super::*;
use crate::domain::command::CommandStatus;
use crate::domain::device::Latest;
use crate::domain::metric::Known;
use crate::domain::{Metric, Sequence, Telemetry};
use crate::store::{Certificates, CommandChange, Revocation};

mod days;
mod live;
mod nodes;
mod nul;
mod security;
#[path = "../../../tests/it/support/postgres.rs"]
#[allow(dead_code)]
pub(crate) mod server;
mod way;

fn store_at(url: &str) -> PostgresStore {
    let node_file = Some(Server::shared().dir().join(format!("{}.db", Uuid::new_v4())));
    open(url, &Options { pool_size: 4, node_file, ..Options::default() }).unwrap()
}

fn store() -> (PostgresStore, String) {
    let url = Server::shared().database();
    (store_at(&url), url)
}

fn count(url: &str, what: &str) -> String {
    Server::shared().query(url, &format!("SELECT count(*) FROM {what}"))
}

fn batch(checkpoint: u64, telemetry: Vec<TelemetryRow>) -> Batch {
    Batch { checkpoint: Some(checkpoint), telemetry, ..Batch::default() }
}

#[test]
fn postgres_keeps_every_promise_of_a_store() {
    suite(&store().0);
}

#[test]
fn a_table_that_is_not_cut_by_day_keeps_every_promise_too() {
    let (store, url) = store();
    drop(store);
    // As somebody does who wants an extension to cut it.
    Server::shared().query(
        &url,
        "DROP VIEW readings; CREATE TABLE t (LIKE telemetry INCLUDING ALL); DROP TABLE telemetry; \
         ALTER TABLE t RENAME TO telemetry; CREATE TABLE e (LIKE device_events INCLUDING ALL); \
         DROP TABLE device_events; ALTER TABLE e RENAME TO device_events",
    );
    suite(&store_at(&url));
}

#[test]
fn hypertables_keep_every_promise_too() {
    let server = Server::timescaledb();
    let url = server.database();
    drop(store_at(&url));
    server.script(&url, "timescaledb.sql");
    suite(&store_at(&url));
}

#[test]
fn migrations_go_up_down_and_up_again() {
    let url = Server::shared().database();
    let all = migrate(&url, true).unwrap();
    assert!(!all.is_empty());
    assert_eq!(count(&url, "pg_class WHERE relnamespace = 'public'::regnamespace"), "0", "looking creates nothing");
    assert_eq!(migrate(&url, false).unwrap(), all);
    assert_eq!(migrate(&url, false).unwrap(), Vec::<String>::new());
    assert_eq!(migrate(&url, true).unwrap(), Vec::<String>::new());
    store_at(&url).commit(&batch(1, vec![row("a", 1, 1)])).unwrap();
    PgConnection::establish(&url).unwrap().revert_all_migrations(migrations::MIGRATIONS).unwrap();
    let left = "pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE '\\_\\_diesel%'";
    assert_eq!(count(&url, left), "0", "down leaves nothing behind");
    assert_eq!(migrate(&url, false).unwrap(), all);
}

#[test]
fn a_schema_newer_than_the_program_is_refused() {
    let (first, url) = store();
    drop(first);
    Server::shared().query(&url, "INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231235959')");
    assert!(matches!(migrate(&url, true), Err(Error::Migrate { .. })));
    for is_patient in [false, true] {
        let refused = open(&url, &Options { is_patient, ..Options::default() });
        assert!(matches!(refused, Err(Error::Migrate { .. })), "also by one that would wait");
    }
}

#[test]
fn nodes_that_start_together_migrate_once() {
    let url = Server::shared().database();
    let start = Barrier::new(6);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                start.wait();
                store_at(&url).ping().unwrap();
            });
        }
    });
    assert!(migrate(&url, true).unwrap().is_empty());
}

#[test]
fn nodes_that_store_the_same_messages_store_each_once_and_keep_their_own_places() {
    let (_, url) = store();
    let start = Barrier::new(4);
    // Before the barrier, at which the others would wait for ever for one that fails.
    let stores = [0, 1, 2, 3]
        .map(|n| open(&url, &Options { node: Uuid::from_u128(n + 1), pool_size: 2, ..Options::default() }).unwrap());
    let stored: usize = std::thread::scope(|scope| {
        let nodes: Vec<_> = (0..4u32)
            .zip(&stores)
            .map(|(n, store)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let mut stored = 0;
                    for part in 0..20u32 {
                        // The same rows for all, a day each, in an order of each node's own.
                        let mut rows: Vec<_> = (0..50)
                            .map(|i| row(&format!("m{}", i % 7), 86_400 * i64::from(part), part * 50 + i))
                            .collect();
                        rows.rotate_left(n as usize * 11);
                        let states = rows
                            .iter()
                            .take(7)
                            .map(|r| (r.device.clone(), DeviceState::default()))
                            .collect::<std::collections::BTreeMap<_, _>>();
                        let batch =
                            Batch { states: states.into_iter().collect(), ..batch(u64::from(part * 10 + n), rows) };
                        stored += store.commit(&batch).unwrap().telemetry;
                    }
                    assert_eq!(store.checkpoint().unwrap(), Some(u64::from(190 + n)));
                    stored
                })
            })
            .collect();
        nodes.into_iter().map(|node| node.join().unwrap()).sum()
    });
    assert_eq!((stored, count(&url, "telemetry").as_str()), (1000, "1000"));
    assert_eq!(count(&url, "pg_inherits WHERE inhparent = 'telemetry'::regclass"), "20");
}

#[test]
fn what_a_node_knows_lets_its_devices_in_while_the_database_is_away() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        node_file: Some(dir.path().join("node.db")),
        connect_timeout: Duration::from_secs(1),
        is_patient: true,
        ..Options::default()
    };
    let url = server.database();
    let store = open(&url, &options).unwrap();
    for name in ["stays", "goes", "unseen"] {
        let new = NewDevice { token_sha256: Some([1; 32]), ..new_device(name) };
        store.create_device(&new, at(0)).unwrap();
    }
    for name in ["stays", "goes"] {
        assert!(store.device_credential(&id(name)).unwrap().is_some());
    }
    assert!(store.delete_device(&id("goes"), false).unwrap());
    assert!(store.device_credential(&id("goes")).unwrap().is_none());
    let revocation = Revocation { at: at(1), by: "admin".into(), reason: "lost".into() };
    for serial in ["01", "02"] {
        store.revoke_certificate(serial, &revocation, Some(at(100))).unwrap();
    }
    assert_eq!(store.revoked_certificates(at(2)).unwrap().len(), 2);
    store.revoke_certificate("03", &revocation, Some(at(100))).unwrap();
    assert!(store.certificate("03").unwrap().is_some());
    drop(store);
    server.stop();
    let store = open(&url, &options).unwrap();
    let known = |name: &str| store.device_credential(&id(name)).map(|found| found.and_then(|c| c.token_sha256));
    assert_eq!(known("stays").unwrap(), Some([1; 32]));
    for name in ["goes", "unseen"] {
        assert!(known(name).is_err_and(|error| error.is_transient()), "{name}");
    }
    let mut revoked = store.last_known_revocations().unwrap();
    revoked.sort();
    assert_eq!(revoked, ["01", "02", "03"].map(|serial| (serial.to_owned(), at(100))));
    store.save_sessions(&[], &[RetainedChange { topic: "t".into(), message: Some("m".into()) }]).unwrap();
    let mut topics = Vec::new();
    store.load_retained(&mut |topic, _| topics.push(topic)).unwrap();
    assert_eq!(topics, ["t"]);
}

#[test]
fn a_batch_that_fails_changes_nothing_and_the_next_one_works() {
    let (store, _) = store();
    store.commit(&batch(5, vec![row("a", 1, 1)])).unwrap();
    let bad = Batch { registrations: vec![new_device("a")], ..batch(u64::MAX, vec![row("a", 2, 2)]) };
    assert!(store.commit(&bad).is_err_and(|error| !error.is_transient()), "the checkpoint does not fit");
    assert_eq!(store.checkpoint().unwrap(), Some(5));
    assert_eq!(scan(&store, "a", 0, 9).len(), 1);
    assert_eq!(store.device(&id("a")).unwrap(), None);
    store.commit(&batch(6, vec![row("a", 2, 2)])).unwrap();
    assert_eq!(store.checkpoint().unwrap(), Some(6));
}

#[test]
fn a_character_that_postgres_cannot_hold_does_not_hold_up_what_comes_behind() {
    let (store, url) = store();
    let nul = "a\0b";
    let mut values = Telemetry::default();
    values.push(0, Metric::Known(Known::VoltageDc), Some(nul), 1.0);
    let telemetry = vec![TelemetryRow { values, ..row("a", 1, 1) }];
    let body = serde_json::json!({ nul: [nul, "\\u0000"] });
    let event = EventRow {
        device: id("a"),
        ts: at(2),
        seq: Sequence::Counted(2),
        received_at: at(2),
        kind: "hello".into(),
        body,
    };
    let latest = Latest { ts: at(1), value: 1.0, unit: Some(nul.into()) };
    let state = DeviceState {
        fw_version: Some(nul.into()),
        latest: [(Metric::Known(Known::VoltageDc), latest)].into(),
        ..DeviceState::default()
    };
    let alerts = vec![crate::store::AlertChange::Raise {
        device: id("a"),
        kind: crate::domain::alert::AlertKind::DeviceOffline,
        message: nul.into(),
        at: at(3),
    }];
    let registrations = vec![NewDevice { device_name: nul.into(), location: Some(nul.into()), ..new_device("a") }];
    let first = Batch {
        registrations,
        telemetry,
        events: vec![event],
        states: vec![(id("a"), state)],
        alerts,
        ..batch(1, vec![])
    };
    store.commit(&first).unwrap();
    let new = NewCommand {
        cmd_id: CommandId::random(),
        device: id("a"),
        cmd: "x".into(),
        params: serde_json::json!({ "p": nul }).as_object().unwrap().clone(),
        created_at: at(0),
        created_by: nul.into(),
        expires_at: at(100),
    };
    store.create_command(&new).unwrap().unwrap();
    let answer = CommandChange {
        cmd_id: new.cmd_id,
        device: None,
        to: CommandStatus::Rejected,
        detail: Some(nul.into()),
        at: at(4),
    };
    store.commit(&Batch { commands: vec![answer], ..Batch::default() }).unwrap();
    assert_eq!(store.command(new.cmd_id).unwrap().unwrap().detail.as_deref(), Some("a\u{fffd}b"));
    let read = store.device_states(&[id("a")]).unwrap().remove(0).1;
    assert_eq!(read.fw_version.as_deref(), Some("a\u{fffd}b"));
    let unit = |unit: &Option<std::sync::Arc<str>>| unit.as_deref() == Some("a\u{fffd}b");
    assert!(read.latest.values().all(|latest| unit(&latest.unit)), "{:?}", read.latest);
    assert!(unit(&scan(&store, "a", 0, 9)[0].values.series[0].unit));
    assert_eq!(Server::shared().query(&url, "SELECT other FROM readings"), r#"{ "voltage_dc" : 1.0 }"#);
    let page = Page::offset(0, 9);
    let body = store.events(&id("a"), None, page).unwrap().items.remove(0).body;
    assert_eq!(body, serde_json::json!({ "a\u{fffd}b": ["a\u{fffd}b", "\\u0000"] }));
}

#[test]
fn every_value_reads_back_to_the_same_bits() {
    let (store, _) = store();
    let mut values = Telemetry::default();
    let odd = [0.1 + 0.2, -0.0, 5e-324, f64::MAX, f64::MIN, 1e16, -1.5];
    for (slot, value) in (0i64..).zip(odd) {
        values.push(slot * slot, Metric::Known(Known::CurrentDc), Some("A"), value);
        values.push(slot * slot, Metric::parse("x.y").unwrap(), None, value);
        if slot == 2 {
            values.push(slot * slot, Metric::Known(Known::Battery), Some("V"), value);
        }
    }
    let ends = [i64::MIN, 0, i64::MAX].map(|offset| {
        let mut far = Telemetry::default();
        far.push(offset, Metric::Known(Known::Pf), Some(""), 1.0);
        far
    });
    let rows = std::iter::once(values)
        .chain(ends)
        .zip(1u32..)
        .map(|(values, n)| TelemetryRow { values, ..row("a", n.into(), n) });
    let rows: Vec<_> = rows.collect();
    store.commit(&batch(1, rows.clone())).unwrap();
    let read = scan(&store, "a", 0, 99);
    let bits = |rows: &[TelemetryRow]| -> Vec<(Vec<i64>, Vec<Vec<u64>>)> {
        let series = |row: &TelemetryRow| {
            let mut all: Vec<_> = row
                .values
                .series
                .iter()
                .map(|s| s.values.iter().map(|v| if v.is_nan() { 1 } else { v.to_bits() }).collect())
                .collect();
            all.sort_unstable();
            all
        };
        rows.iter().map(|row| (row.values.offsets_us.clone(), series(row))).collect()
    };
    assert_eq!(bits(&read), bits(&rows));
}

#[test]
fn the_view_readings_has_one_row_a_slot() {
    let (store, url) = store();
    let mut values = Telemetry::default();
    values.push(-1_500_000, Metric::Known(Known::VoltageDc), Some("V"), 751.5);
    values.push(0, Metric::Known(Known::VoltageDc), Some("V"), 752.0);
    values.push(0, Metric::Known(Known::Battery), Some("V"), 3.6);
    values.push(0, Metric::parse("x.y").unwrap(), Some("m"), 4.0);
    let mut uneven = Telemetry::default();
    for offset in [-7, -5, 0] {
        uneven.push(offset, Metric::Known(Known::VoltageDc), Some("V"), 1.0);
    }
    let plain = TelemetryRow { values, ..row("train-1", 10, 4) };
    store.commit(&batch(1, vec![plain, TelemetryRow { values: uneven, ..row("train-2", 10, 4) }])).unwrap();
    let query = "SELECT device_id, to_char(ts, 'HH24:MI:SS.MS'), voltage_dc, battery, other, seq FROM readings \
                 WHERE device_id = 'train-1' AND message_ts >= '2026-02-12' ORDER BY ts";
    let shown = Server::shared().query(&url, &format!("SET TIME ZONE 'UTC'; {query}"));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines,
        ["train-1|10:00:08.500|751.5||{ \"x.y\" : null }|4", "train-1|10:00:10.000|752|3.6|{ \"x.y\" : 4.0 }|4"]
    );
    let offsets = "SELECT string_agg(extract(microseconds FROM ts - message_ts)::text, ' ' ORDER BY ts) FROM readings WHERE device_id = 'train-2'";
    assert_eq!(Server::shared().query(&url, offsets), "-7 -5 0");
}

#[test]
fn a_database_that_goes_away_is_unavailable_and_the_store_works_again_when_it_is_back() {
    let server = Server::start();
    let url = server.database();
    server.stop();
    let options = Options { connect_timeout: Duration::from_secs(2), ..Options::default() };
    assert!(matches!(open(&url, &options), Err(Error::Open { .. })), "who does not wait is told");
    let store = open(&url, &Options { is_patient: true, ..options }).unwrap();
    let unavailable = |store: &PostgresStore| {
        assert!(store.ping().is_err_and(|error| error.is_transient()));
        assert!(store.commit(&batch(1, vec![row("a", 1, 1)])).is_err_and(|error| error.is_transient()));
    };
    unavailable(&store);
    let back = |store: &PostgresStore| {
        let end = Instant::now() + Duration::from_secs(20);
        while let Err(error) = store.ping() {
            assert!(Instant::now() < end && error.is_transient(), "{error:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    server.restart();
    back(&store);
    assert_eq!(store.commit(&batch(1, vec![row("a", 1, 1)])).unwrap().telemetry, 1);
    for hard in [false, true] {
        if hard {
            server.crash()
        } else {
            server.stop()
        }
        unavailable(&store);
        server.restart();
        back(&store);
        assert_eq!(store.checkpoint().unwrap(), Some(1));
    }
    assert_eq!(store.commit(&batch(2, vec![row("a", 1, 1), row("a", 2, 2)])).unwrap().duplicates, 1);
}

#[test]
fn a_wrong_address_is_told_at_once_without_the_password() {
    let url = Server::shared().url("no_such_database").replace("postgres:///", "postgres://me:secret@/");
    let refused = open(&url.replace("&user=postgres", ""), &Options { is_patient: true, ..Options::default() })
        .map(drop)
        .unwrap_err();
    let mut words = format!("{refused:?} {refused}");
    let mut source = std::error::Error::source(&refused);
    while let Some(cause) = source {
        words += &cause.to_string();
        source = cause.source();
    }
    assert!(words.contains("does not exist") && !words.contains("secret"), "{words}");
}

#[test]
fn a_statement_that_takes_too_long_is_broken_off_and_worth_another_try() {
    let url = Server::shared().database();
    let store = open(&url, &Options { statement_timeout: Duration::from_millis(500), ..Options::default() }).unwrap();
    let slow = store.write("sleep", |c| Ok(c.batch_execute("SELECT pg_sleep(20)")?));
    assert!(slow.is_err_and(|error| error.is_transient()));
    store.ping().unwrap();
}

#[test]
fn a_reader_that_stops_early_leaves_its_connection_usable() {
    let (store, _) = store();
    store.commit(&batch(1, (0..3000).map(|n| row("a", i64::from(n), n)).collect())).unwrap();
    for _ in 0..20 {
        let mut seen = 0;
        let mut each = |_| {
            seen += 1;
            if seen == 1500 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.scan_telemetry(&id("a"), at(0), at(9000), &mut each).unwrap();
        assert_eq!(seen, 1500);
    }
}
