//! A partition a day: made again for late data, left while it is in use, in whatever language the server speaks.

use super::*;

fn partitions(server: &Server, url: &str) -> String {
    let names = "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits AS i JOIN pg_class AS c \
                 ON c.oid = i.inhrelid AND c.relkind = 'r'";
    server.query(url, names)
}

fn late_data_make_a_dropped_day_again(server: &Server) {
    let url = server.database();
    let store = store_at(&url);
    store.commit(&batch(1, vec![row("a", 1, 1)])).unwrap();
    let other = store_at(&url);
    assert_eq!(other.trim(at(86_400), 100).unwrap(), 1);
    assert_eq!(server.query(&url, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry'::regclass"), "0");
    assert_eq!(store.commit(&batch(2, vec![row("a", 2, 2)])).unwrap().telemetry, 1);
    assert_eq!(scan(&store, "a", 0, 9), [row("a", 2, 2)]);
}

fn a_used_day_is_left(server: &Server) {
    let url = server.database();
    let store = store_at(&url);
    store.commit(&batch(1, vec![row("a", 1, 1), row("a", 86_400, 2)])).unwrap();
    let mut reader = PgConnection::establish(&url).unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM telemetry_20260212").unwrap();
    assert_eq!(store.trim(at(2 * 86_400), 100).unwrap(), 1, "the other one goes");
    assert_eq!(server.query(&url, "SELECT count(*) FROM telemetry"), "1");
    // The lock of whoever makes or drops one, held by a node that hangs.
    reader.batch_execute("COMMIT; BEGIN; SELECT pg_advisory_xact_lock(x'00696f742d646179'::bigint)").unwrap();
    assert_eq!(store.trim(at(2 * 86_400), 100).unwrap(), 0);
    reader.batch_execute("COMMIT").unwrap();
    assert_eq!(store.trim(at(2 * 86_400), 100).unwrap(), 1);
    assert_eq!(server.query(&url, "SELECT count(*) FROM telemetry"), "0");
}

#[test]
fn a_day_dropped_by_another_node_is_made_again_for_late_data() {
    late_data_make_a_dropped_day_again(Server::shared());
}

#[test]
fn a_day_in_use_is_left_until_nobody_uses_it() {
    a_used_day_is_left(Server::shared());
}

#[test]
fn a_server_that_speaks_another_language_is_understood() {
    // (Debian's Postgres brings both: its translations, and the package that locales are made from.)
    let Some(server) = Server::german() else { return eprintln!("no German here: not tried") };
    let mut connection = PgConnection::establish(&server.database()).unwrap();
    let said = connection.batch_execute("SELECT no_such_function()").unwrap_err().to_string();
    assert!(said.contains("existiert nicht"), "{said}");
    late_data_make_a_dropped_day_again(&server);
    a_used_day_is_left(&server);
}

#[test]
fn a_day_that_cannot_be_dropped_does_not_keep_the_others() {
    let server = Server::shared();
    let (store, url) = store();
    let event = EventRow {
        device: id("a"),
        ts: at(1),
        seq: Sequence::Counted(1),
        received_at: at(1),
        kind: "hello".into(),
        body: serde_json::json!({}),
    };
    let rows = vec![row("a", 1, 1), row("a", 86_400, 2), row("a", 2 * 86_400, 3)];
    store.commit(&Batch { events: vec![event], ..batch(1, rows) }).unwrap();
    server.query(&url, "CREATE VIEW mine AS SELECT * FROM telemetry_20260212");
    let refused = store.trim(at(2 * 86_400), 100).unwrap_err();
    assert!(!refused.is_transient(), "and it is told: {refused:?}");
    assert_eq!(partitions(server, &url), "telemetry_20260212 telemetry_20260214");
    assert_eq!(
        store.reach(&id("a")).unwrap().trimmed_before,
        Some(at(2 * 86_400 - 10 * 3600)),
        "what has gone is noted"
    );
    server.query(&url, "DROP VIEW mine");
    assert_eq!(store.trim(at(2 * 86_400), 100).unwrap(), 1);
    assert_eq!(partitions(server, &url), "telemetry_20260214");
}
