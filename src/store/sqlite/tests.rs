//! The suite on SQLite, and what only a file has: reopening, a full disk, readers beside the writer, the view.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::query_builder::QueryFragment;
use diesel::sql_types::{BigInt, Double, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{QueryableByName, RunQueryDsl, sql_query};

use super::super::tests::{at, id, live, new_device, row, scan, suite};
use super::listing::Part;
use super::*;
use crate::domain::command::CommandStatus;
use crate::domain::metric::Known;
use crate::domain::{Metric, Sequence, Telemetry};
use crate::store::{Access, AuditEntry, AuditFilter, AuditOutcome, CertificateFilter, Place};

fn open_in(dir: &Path) -> SqliteStore {
    open(dir.join("a.db").to_str().unwrap()).unwrap()
}

fn batch(checkpoint: u64, telemetry: Vec<TelemetryRow>) -> Batch {
    Batch { checkpoint: Some(checkpoint), telemetry, ..Batch::default() }
}

#[test]
fn sqlite_keeps_every_promise_of_a_store() {
    let dir = tempfile::tempdir().unwrap();
    suite(&open_in(dir.path()));
}

#[test]
fn changes_are_kept_for_their_time_and_until_they_could_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    let age = || {
        let older = sql_query("UPDATE live_changes SET at = at - 3600");
        store.write("age changes", |c| Ok(older.execute(c)?)).unwrap();
    };
    live::what_is_old_is_forgotten_when_it_could_be_read(&store, age);
}

#[test]
fn a_url_names_a_file_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("a.db").display());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let names = std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    assert_eq!(crate::store::migrate(&url, true).unwrap(), names);
    assert!(!dir.path().join("a.db").exists());
    crate::store::open(&url).unwrap().ping().unwrap();
    assert_eq!(crate::store::migrate(&url, false).unwrap(), Vec::<String>::new());
    let check = |url: &str| crate::store::open(url).map(drop).unwrap_err();
    assert!(matches!(check("mysql://host/db"), Error::UnknownScheme { scheme } if scheme == "mysql"));
    #[cfg(not(feature = "postgres"))]
    assert!(check("postgres://host/db").to_string().contains("--features postgres"));
    assert!(matches!(check("a.db"), Error::UnknownScheme { .. }));
    assert!(matches!(check("sqlite://"), Error::Open { .. }));
    assert!(matches!(check("sqlite:///no/such/directory/a.db"), Error::Open { .. }));
    std::fs::write(dir.path().join("text"), "not a database, but long enough to look like one ".repeat(99)).unwrap();
    assert!(matches!(check(&format!("sqlite://{}", dir.path().join("text").display())), Error::Open { .. }));
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    store.commit(&batch(5, vec![row("a", 1, 1)])).unwrap();
    drop(store);
    let store = open_in(dir.path());
    assert_eq!(store.checkpoint().unwrap(), Some(5));
    assert_eq!(scan(&store, "a", 0, 9), [row("a", 1, 1)]);
    assert_eq!(store.commit(&batch(6, vec![row("a", 1, 1)])).unwrap().duplicates, 1);
}

#[test]
fn a_batch_that_fails_changes_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
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
fn a_call_that_panics_leaves_the_store_usable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    let work = || store.connections.write(Sync::Lazy, |_| -> Result<(), fault::Fault> { panic!("on purpose") });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
    store.commit(&batch(1, vec![row("a", 1, 1)])).unwrap();
}

#[test]
fn a_full_disk_is_worth_another_try_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    store.commit(&batch(1, vec![row("a", 1, 1)])).unwrap();
    limit_pages(&store, "PRAGMA max_page_count = 60");
    let rows = |from: u32| (from..from + 2000).map(|n| row("a", i64::from(n) + 10, n)).collect::<Vec<_>>();
    let error = store.commit(&batch(2, rows(10))).unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(store.checkpoint().unwrap(), Some(1));
    assert_eq!(scan(&store, "a", 0, 99_999).len(), 1);
    assert_eq!(store.commit(&batch(2, rows(10))).unwrap().telemetry, 2000, "there is room again");
    assert_eq!(store.checkpoint().unwrap(), Some(2));
}

#[test]
fn a_ping_does_not_wait_for_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    let pinged = store.connections.write(Sync::Lazy, |_| Ok(store.ping()));
    pinged.unwrap().unwrap();
    store.ping().unwrap();
}

/// The limit of one connection: it stands for a disk that fills up, with SQLite's own SQLITE_FULL.
fn limit_pages(store: &SqliteStore, pragma: &str) {
    store.connections.write(Sync::Lazy, |connection| Ok(connection.batch_execute(pragma)?)).unwrap();
}

#[test]
fn readers_see_whole_batches_while_the_writer_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    let is_done = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(60);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Acquire) && Instant::now() < end {
                    let (checkpoint, rows) = (store.checkpoint().unwrap().unwrap_or(0), scan(&store, "a", 0, 99_999));
                    assert!(rows.len() as u64 >= checkpoint * 7, "{} rows at {checkpoint}", rows.len());
                    assert_eq!(rows.len() % 7, 0, "part of a batch");
                }
            });
        }
        for n in 0..60 {
            let rows = (0..7).map(|i| row("a", i64::from(n * 7 + i), n * 7 + i)).collect();
            store.commit(&batch(u64::from(n) + 1, rows)).unwrap();
        }
        is_done.store(true, Ordering::Release);
    });
    assert_eq!(scan(&store, "a", 0, 99_999).len(), 420);
}

#[derive(QueryableByName, PartialEq, Debug)]
struct Reading {
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = Text)]
    ts: String,
    #[diesel(sql_type = Nullable<Double>)]
    voltage_dc: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    battery: Option<f64>,
    #[diesel(sql_type = Nullable<Text>)]
    other: Option<String>,
    #[diesel(sql_type = BigInt)]
    ts_us: i64,
}

#[test]
fn the_view_readings_has_one_row_a_slot() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    let mut values = Telemetry::default();
    values.push(-1_500_000, Metric::Known(Known::VoltageDc), Some("V"), 751.5);
    values.push(0, Metric::Known(Known::VoltageDc), Some("V"), 752.0);
    values.push(0, Metric::Known(Known::Battery), Some("V"), 3.6);
    values.push(0, Metric::parse("x.y").unwrap(), Some("m"), 4.0);
    let plain = TelemetryRow { values, seq: Sequence::Counted(4), ..row("train-1", 10, 4) };
    store.commit(&batch(1, vec![plain, row("train-2", 10, 4)])).unwrap();
    let query = "SELECT * FROM readings WHERE device_id = 'train-1' AND message_us >= 0 ORDER BY ts_us";
    let rows: Vec<Reading> = store.connections.read(|c| Ok(sql_query(query).load(c)?)).unwrap();
    let reading = |second: &str, voltage, battery, other: &str, ts_us| Reading {
        device_id: "train-1".into(),
        ts: format!("2026-02-12T10:00:{second}Z"),
        voltage_dc: Some(voltage),
        battery,
        other: Some(other.into()),
        ts_us,
    };
    let first = reading("08.500", 751.5, None, r#"{"x.y":null}"#, at(10).0 - 1_500_000);
    let second = reading("10.000", 752.0, Some(3.6), r#"{"x.y":4.0}"#, at(10).0);
    assert_eq!(rows, [first, second]);
}

/// What SQLite does to answer a query, step by step.
fn plan<Q: QueryFragment<Sqlite>>(store: &SqliteStore, query: &Q) -> Vec<String> {
    let statement = diesel::debug_query::<Sqlite, _>(query).to_string();
    plan_of(store, statement.split("-- binds").next().unwrap())
}

fn plan_of(store: &SqliteStore, statement: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = Text)]
        detail: String,
    }
    let explain = format!("EXPLAIN QUERY PLAN {statement}");
    let steps: Vec<Step> = store.read("plan", |c| Ok(sql_query(explain).load(c)?)).unwrap();
    steps.into_iter().map(|step| step.detail).collect()
}

#[test]
fn sessions_are_loaded_along_the_indexes_without_sorting() {
    let dir = tempfile::tempdir().unwrap();
    let steps = plan_of(&open_in(dir.path()), sessions::SESSIONS);
    assert!(steps[0].starts_with("MERGE") && steps.iter().all(|step| !step.contains("TEMP B-TREE")), "{steps:?}");
}

#[test]
fn certificates_are_counted_and_their_successors_found_in_an_index_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    let steps = plan_of(&store, certificates::FIGURES);
    let looks: Vec<_> = steps.iter().filter(|step| step.contains(" certificates ")).collect();
    assert!(looks.iter().all(|step| step.contains("USING COVERING INDEX certificates_device ")), "{steps:?}");
    assert!(looks.len() == 2 && steps.iter().all(|step| !step.contains("TEMP B-TREE")), "{steps:?}");
    let expiring = CertificateFilter { expiring: Some((at(0), at(9))), ..CertificateFilter::default() };
    let steps = plan(&store, &certificates::matching(&expiring));
    let successor = "later USING COVERING INDEX certificates_device (device_id=? AND id>?)";
    assert!(steps.iter().any(|step| step.contains(successor)), "{steps:?}");
}

#[test]
fn devices_and_alerts_of_a_prefix_are_found_by_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    let id_prefix = Some("dc-".to_owned());
    let devices = DeviceFilter { id_prefix: id_prefix.clone(), ..DeviceFilter::default() };
    let alerts = AlertFilter { id_prefix, ..AlertFilter::default() };
    for steps in [plan(&store, &devices::matching(&devices)), plan(&store, &alerts::matching(&alerts))] {
        assert!(matches!(&*steps, [step] if step.contains("(device_id>? AND device_id<?)")), "{steps:?}");
    }
}

#[test]
fn a_list_goes_on_from_a_place_by_an_index_and_sorts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    let part = || Part::new(Page::behind(Some(Place(7, 7)), 50), || Err("counted")).unwrap();
    let check = |steps: Vec<String>, expected: &str| {
        assert!(matches!(&*steps, [step] if step.contains(expected)), "{steps:?}, not {expected}");
    };
    let device = Some(id("a"));
    let by_id = "USING INTEGER PRIMARY KEY (rowid<?)";
    let all = DeviceFilter::default();
    check(plan(&store, &devices::behind(devices::matching(&all), &part())), by_id);
    let active = DeviceFilter { is_active: Some(true), q: Some("x".into()), ..DeviceFilter::default() };
    check(plan(&store, &devices::behind(devices::matching(&active), &part())), by_id);
    check(plan(&store, &alerts::behind(alerts::matching(&AlertFilter::default()), &part())), by_id);
    let of_device = AlertFilter { device: device.clone(), ..AlertFilter::default() };
    let step = "USING INDEX device_alerts_device (device_id=? AND id<?)";
    check(plan(&store, &alerts::behind(alerts::matching(&of_device), &part())), step);
    let of_device = CommandFilter { device: device.clone(), status: None };
    let step = "USING INDEX device_commands_device (device_id=? AND id<?)";
    check(plan(&store, &commands::behind(commands::matching(&of_device), &part())), step);
    let pending = CommandFilter { device, status: Some(CommandStatus::Pending) };
    let step = "USING INDEX device_commands_device_status (device_id=? AND status=? AND rowid<?)";
    check(plan(&store, &commands::behind(commands::matching(&pending), &part())), step);
    let step = "(device_id=? AND after_ts<?)";
    let of_device = CertificateFilter { device: Some(id("a")), ..CertificateFilter::default() };
    let query = certificates::behind(certificates::matching(&of_device), &part());
    check(plan(&store, &query), "USING INDEX certificates_device (device_id=? AND id<?)");
    check(plan(&store, &gaps::behind(gaps::matching(&id("a"), at(0), at(9)), &part())), step);
}

#[test]
fn the_file_refuses_to_change_or_lose_an_audit_entry() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path());
    let entry = |n: i64| AuditEntry {
        at: Timestamp(n),
        actor: "local".into(),
        address: None,
        action: "key.create".into(),
        target: String::new(),
        outcome: AuditOutcome::Done,
        request_id: None,
        detail: String::new(),
    };
    store.append_audit(&[entry(1), entry(2), entry(3)]).unwrap();
    let mut outsider = connection::open_writer(dir.path().join("a.db").to_str().unwrap()).unwrap();
    for statement in [
        "UPDATE audit_log SET actor = 'nobody' WHERE id = 2",
        "UPDATE audit_log SET hash = zeroblob(32)",
        "DELETE FROM audit_log WHERE id = 3",
        "DELETE FROM audit_log",
        "DELETE FROM audit_anchor",
        "UPDATE audit_anchor SET last_id = 99",
        "UPDATE audit_anchor SET last_id = 2, hash = zeroblob(32)",
        "INSERT OR REPLACE INTO audit_log SELECT * FROM audit_log WHERE id = 2",
    ] {
        let refused = outsider.batch_execute(statement).expect_err(statement).to_string();
        assert!(refused.contains("append-only"), "{statement}: {refused}");
    }
    // Without the triggers a cut tail still shows: ids are never given twice.
    outsider.batch_execute("DROP TRIGGER audit_log_no_delete; DELETE FROM audit_log WHERE id = 3").unwrap();
    assert_eq!(store.audit_ends().unwrap().last_given, 3);
    assert_eq!(store.audit(&AuditFilter::default(), Page::behind(None, 1)).unwrap().items[0].id, 2);
}
