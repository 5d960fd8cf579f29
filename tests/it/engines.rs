//! TimescaleDB and Citus: the scripts of `deploy/sql`, what `migrate` says, and that the store asks of such tables only what
//! they take.
//!
//! TimescaleDB is the real one, of Debian 13 (`deploy/sql/engine`): hypertables without compression, which its licence there
//! leaves out. Citus is a stand-in: functions and views of the same names that record how they were called. What Citus itself
//! makes of it is not tested here.

use std::ops::ControlFlow;

use iot_meter::domain::metric::{Known, Series};
use iot_meter::domain::{DeviceId, Metric, Sequence, Telemetry, Timestamp};
use iot_meter::store::{self, Batch, TelemetryRow};

use crate::backup::{Desk, good, run_on};
use crate::support::postgres::Server;

const DAY_US: i64 = 86_400_000_000;

const CITUS: &str = "
SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
VALUES (990002, 'citus', 10, 'public'::regnamespace, false, '12.1-1');
CREATE SCHEMA seen;
CREATE TABLE seen.calls (n serial, call text);
CREATE TABLE seen.distributed (table_name regclass, citus_table_type text, distribution_column text);
CREATE VIEW seen.citus_tables AS SELECT * FROM seen.distributed;
CREATE FUNCTION create_distributed_table(t regclass, c text, colocate_with text DEFAULT 'default') RETURNS void
LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = t AND i.indisunique AND NOT EXISTS
        (SELECT FROM pg_attribute AS a WHERE a.attrelid = t AND a.attname = c AND a.attnum = ANY (i.indkey))) THEN
        RAISE EXCEPTION 'cannot create constraint on a table without the distribution column';
    END IF;
    IF EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND t IN (conrelid, confrelid))
        OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t AND NOT tgisinternal) THEN
        RAISE EXCEPTION 'not supported on a distributed table';
    END IF;
    INSERT INTO seen.distributed VALUES (t, 'distributed', c);
    INSERT INTO seen.calls (call) VALUES ('distribute ' || t || ' ' || c || ' ' || colocate_with);
END $$;
CREATE FUNCTION truncate_local_data_after_distributing_table(t regclass) RETURNS void LANGUAGE sql AS '';
";

fn script(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sql").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn at(day: i64, second: i64) -> Timestamp {
    Timestamp(1_790_000_000_000_000 / DAY_US * DAY_US + day * DAY_US + second * 1_000_000)
}

fn row(seq: u32, ts: Timestamp) -> TelemetryRow {
    let series = Series { metric: Metric::Known(Known::VoltageDc), unit: None, values: vec![750.5] };
    TelemetryRow {
        device: DeviceId::parse("m1").unwrap(),
        ts,
        seq: Sequence::from_i64(i64::from(seq)),
        received_at: ts,
        values: Telemetry { offsets_us: vec![0], series: vec![series], flagged: 0, dropped: 0 },
    }
}

fn times(store: &store::SharedStore) -> Vec<Timestamp> {
    let mut found = Vec::new();
    let mut take = |row: TelemetryRow| {
        found.push(row.ts);
        ControlFlow::Continue(())
    };
    store.scan_telemetry(&DeviceId::parse("m1").unwrap(), at(-10, 0), at(10, 0), &mut take).unwrap();
    found
}

fn commit(store: &store::SharedStore, checkpoint: u64, telemetry: Vec<TelemetryRow>) -> usize {
    store.commit(&Batch { checkpoint: Some(checkpoint), telemetry, ..Batch::default() }).unwrap().telemetry
}

fn says(url: &str) -> String {
    let desk = Desk::new();
    let said = run_on(Some(url), &["migrate", "--dry-run", "--data-dir", &desk.text("data")]);
    good(&said);
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn hypertables_are_noticed_get_no_days_of_ours_and_lose_chunks_only() {
    let server = Server::timescaledb();
    let url = server.database();
    let before = store::open(&url).unwrap();
    commit(&before, 1, vec![row(1, at(0, 5)), row(2, at(1, 5))]);
    drop(before);
    server.query(&url, "CREATE EXTENSION timescaledb");
    let version = server.query(&url, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'");
    assert!(says(&url).contains(&format!("timescaledb {version}: no table is spread or cut by it")));
    server.script(&url, "timescaledb.sql");
    let cut = "SELECT string_agg(hypertable_name || ' ' || column_name || ' ' || time_interval, '; ' ORDER BY 1 DESC) \
               FROM timescaledb_information.dimensions";
    assert_eq!(server.query(&url, cut), "telemetry ts 1 day; device_events ts 1 day");
    let said = says(&url);
    let told = format!("timescaledb {version}: telemetry hypertable, device_events hypertable");
    assert!(said.contains(&told), "{said}");
    let store = store::open(&url).unwrap();
    assert_eq!(times(&store), [at(0, 5), at(1, 5)], "what was there has come along");
    assert_eq!(server.query(&url, "SELECT count(*) FROM readings"), "2", "the view looks at the new table");
    assert_eq!(commit(&store, 2, vec![row(2, at(1, 5)), row(3, at(2, 5))]), 1, "one of them was there");
    let chunks = "SELECT count(*) FROM show_chunks('telemetry')";
    assert_eq!(server.query(&url, chunks), "3", "a chunk a day, and no partitions of ours");
    assert!(store.trim(at(2, 3), 100).unwrap() >= 1);
    assert_eq!(times(&store), [at(2, 5)]);
    assert_eq!(server.query(&url, chunks), "1", "whole chunks are dropped, not row by row");
    assert_eq!(store.trim(at(2, 3), 100).unwrap(), 0, "nothing is left to do");
}

#[test]
fn hypertables_belong_to_whom_the_tables_belonged_whoever_runs_the_script() {
    let server = Server::timescaledb();
    let url = server.database();
    let database = server.query(&url, "SELECT current_database()");
    let (owner, reader) = (format!("owner_of_{database}"), format!("reader_of_{database}"));
    server.query(&url, &format!("CREATE ROLE {owner} LOGIN"));
    server.query(&url, &format!("CREATE ROLE {reader}"));
    server.query(&url, &format!("GRANT ALL ON SCHEMA public TO {owner}"));
    let own = url.replace("user=postgres", &format!("user={owner}"));
    let before = store::open(&own).unwrap();
    commit(&before, 1, vec![row(1, at(0, 5))]);
    drop(before);
    server.query(&url, &format!("GRANT SELECT ON telemetry, readings TO {reader}"));
    server.query(&url, "CREATE EXTENSION timescaledb");
    server.script(&url, "timescaledb.sql");
    let store = store::open(&own).unwrap();
    assert_eq!(commit(&store, 2, vec![row(1, at(0, 5)), row(2, at(1, 5))]), 1);
    assert_eq!(times(&store), [at(0, 5), at(1, 5)]);
    let owners =
        "SELECT string_agg(DISTINCT tableowner, ' ') FROM pg_tables WHERE tablename IN ('telemetry', 'device_events')";
    assert_eq!(server.query(&url, owners), owner);
    for right in ["'telemetry', 'SELECT'", "'readings', 'SELECT'"] {
        assert_eq!(server.query(&url, &format!("SELECT has_table_privilege('{reader}', {right})")), "t", "{right}");
    }
    assert_eq!(server.query(&url, &format!("SELECT has_table_privilege('{reader}', 'telemetry', 'INSERT')")), "f");
}

#[test]
fn distributed_tables_are_noticed_keep_their_days_and_are_not_deleted_from_by_place() {
    let server = Server::shared();
    let url = server.database();
    let before = store::open(&url).unwrap();
    commit(&before, 1, vec![row(1, at(0, 5))]);
    drop(before);
    server.query(&url, CITUS);
    let name = url.trim_start_matches("postgres:///").split('?').next().unwrap();
    server.query(&url, &format!("ALTER DATABASE {name} SET search_path = public, seen"));
    server.query(&url, &format!("SET search_path = public, seen; {}", script("citus.sql")));
    assert_eq!(
        server.query(&url, "SELECT string_agg(call, '; ' ORDER BY n) FROM seen.calls"),
        "distribute telemetry device_id default; distribute device_events device_id telemetry"
    );
    let said = says(&url);
    assert!(
        said.contains("citus 12.1-1: device_events distributed by device_id, telemetry distributed by device_id"),
        "{said}"
    );
    let store = store::open(&url).unwrap();
    commit(&store, 2, vec![row(2, at(1, 5))]);
    assert_eq!(server.query(&url, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry'::regclass"), "2");
    store.trim(at(1, 3), 100).unwrap();
    assert_eq!(times(&store), [at(1, 5)]);
    drop(store);
    // As somebody has it who distributed tables without days.
    server.query(
        &url,
        "CREATE TABLE t (LIKE telemetry INCLUDING ALL); INSERT INTO t SELECT * FROM telemetry; DROP VIEW readings; \
         UPDATE seen.distributed SET table_name = 't' WHERE table_name = 'telemetry'::regclass; DROP TABLE telemetry; \
         ALTER TABLE t RENAME TO telemetry",
    );
    let store = store::open(&url).unwrap();
    commit(&store, 3, vec![row(3, at(2, 5)), row(4, at(2, 7200))]);
    // An hour at a time.
    assert_eq!(store.trim(at(3, 0), 100).unwrap(), 1);
    assert_eq!(store.trim(at(3, 0), 100).unwrap(), 1);
    assert_eq!(times(&store), [at(2, 7200)]);
}
