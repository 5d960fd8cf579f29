//! U+0000 in JSON that a program of before has stored: it is there, and must not keep anybody from anything.

use std::collections::VecDeque;

use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;

use super::*;

/// The migration that makes it right.
const MENDED: &str = "20261130000010";

/// A row and a state with two units: one has U+0000, one a written backslash (and U+0000 behind another one).
const STORED: &str = r#"
CREATE TABLE telemetry_20260212 PARTITION OF telemetry
FOR VALUES FROM ('2026-02-12 00:00:00+00') TO ('2026-02-13 00:00:00+00');
INSERT INTO telemetry (ts, seq, received_at, first_us, step_us, slots, device_id, other)
SELECT '2026-02-12 10:00:01+00', 1, '2026-02-12 10:00:01+00', 0, 0, 1, 'a', format(
    '{"x.y":{"unit":"\u0000\u0000","values":[4.0]},"x.z":{"unit":%s,"values":[5.0]}}', z)::json
FROM (VALUES ('"\\u0000 \\\u0000"')) AS v (z);
INSERT INTO device_sequence (device_id, reboots, connection_status, latest, span_us)
VALUES ('a', 0, 'unknown', '{"x.y":{"ts":1,"value":4.0,"unit":"\u0000"},"x.z":{"ts":1,"value":5.0,"unit":"\\u0000"}}', 0),
       ('b', 0, 'unknown', '{"x.y":{"ts":1,"value":0.1,"unit":"m"}}', 0);
"#;

/// A database as it was before the migration, with [`STORED`] in it.
fn of_before() -> String {
    let url = Server::shared().database();
    let all: Vec<Box<dyn Migration<Pg>>> = migrations::MIGRATIONS.migrations().unwrap();
    let names = all.iter().map(|migration| migration.name().version().to_string());
    let before: Vec<String> = names.filter(|version| version.as_str() < MENDED).collect();
    migrations::run_some(&mut PgConnection::establish(&url).unwrap(), Some(&before)).unwrap();
    Server::shared().query(&url, STORED);
    let mut connection = PgConnection::establish(&url).unwrap();
    assert!(connection.batch_execute("SELECT * FROM readings").is_err(), "the view fails on it");
    url
}

fn is_shown(url: &str) {
    let shown = Server::shared().query(url, "SELECT device_id, other, seq FROM readings");
    assert_eq!(shown, r#"a|{ "x.y" : 4.0, "x.z" : 5.0 }|1"#);
    let units = |store: &PostgresStore| -> Vec<String> {
        let series = scan(store, "a", 0, 9).remove(0).values.series;
        series.iter().map(|series| series.unit.as_deref().unwrap_or_default().replace('\0', "\u{fffd}")).collect()
    };
    assert_eq!(units(&store_at(url)), ["\u{fffd}\u{fffd}", "\\u0000 \\\u{fffd}"]);
    let latest =
        "SELECT latest -> 'x.y' ->> 'unit', latest -> 'x.z' ->> 'unit' FROM device_sequence ORDER BY device_id";
    assert_eq!(Server::shared().query(url, latest), "\u{fffd}|\\u0000\nm|");
}

/// All parts of a database, and its schema's versions.
fn copied(url: &str) -> (Vec<String>, VecDeque<(String, Vec<u8>)>) {
    let mut parts = VecDeque::new();
    let versions = copy_out::copy_out(url, true, &mut |part| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(part.content, &mut bytes)?;
        parts.push_back((part.name, bytes));
        Ok(())
    });
    (versions.unwrap(), parts)
}

fn restored((versions, mut parts): (Vec<String>, VecDeque<(String, Vec<u8>)>)) -> String {
    let url = Server::shared().database();
    copy_in::copy_in(&url, &versions, &mut || Ok(parts.pop_front())).unwrap();
    url
}

#[test]
fn rows_stored_before_are_shown_and_come_back_from_a_backup() {
    let url = of_before();
    let old = copied(&url);
    assert!(old.1.iter().any(|(_, bytes)| bytes.windows(6).any(|window| window == b"\\u0000")), "as it was stored");
    assert!(migrate(&url, false).unwrap().iter().any(|name| name.starts_with("2026-11-30-000010")));
    is_shown(&url);
    is_shown(&restored(copied(&url)));
    // A backup that was made before.
    is_shown(&restored(old));
}

#[test]
fn what_is_stored_now_comes_back_as_it_was() {
    let (store, url) = store();
    let mut values = Telemetry::default();
    values.push(0, Metric::parse("x.y").unwrap(), Some("\0"), 4.0);
    values.push(0, Metric::parse("x.z").unwrap(), Some("\\u0000 \\\0"), 5.0);
    store.commit(&batch(1, vec![TelemetryRow { values, ..row("a", 1, 1) }])).unwrap();
    let other = "SELECT other FROM telemetry";
    let stored = Server::shared().query(&url, other);
    assert!(stored.contains(r#""\ufffd""#) && stored.contains(r#""\\u0000 \\\ufffd""#), "{stored}");
    let again = restored(copied(&url));
    assert_eq!(Server::shared().query(&again, other), stored);
    assert_eq!(Server::shared().query(&again, "SELECT other FROM readings"), r#"{ "x.y" : 4.0, "x.z" : 5.0 }"#);
}
