-- Makes hypertables of the two large tables, with compression. TimescaleDB 2.13 or newer (by_range; rows that come late into
-- compressed chunks need 2.11).
--
--   stop every iot-meter of this database; make a backup; then
--   psql -v ON_ERROR_STOP=1 -d DATABASE -f deploy/sql/timescaledb.sql
--
-- The tables must be there: `iot-meter migrate` makes them. All or nothing: one transaction. It needs as much room again as
-- the two tables take, and as long as copying them does. `iot-meter migrate` shows afterwards what it found.
--
-- iot-meter drops chunks itself, by `retention.telemetry_days`: add no retention policy.

BEGIN;
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '10s';
CREATE EXTENSION IF NOT EXISTS timescaledb;
LOCK TABLE telemetry, device_events IN ACCESS EXCLUSIVE MODE;

-- Views over the tables are pointed at the new ones below.
CREATE TEMPORARY TABLE kept_views ON COMMIT DROP AS
SELECT DISTINCT v.oid::regclass::text AS name, pg_get_viewdef(v.oid) AS definition
FROM pg_depend AS d
JOIN pg_rewrite AS r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class AS v ON v.oid = r.ev_class AND v.relkind = 'v'
WHERE d.refobjid IN ('telemetry'::regclass, 'device_events'::regclass);

ALTER TABLE telemetry RENAME TO telemetry_before;
ALTER TABLE device_events RENAME TO device_events_before;
CREATE TABLE telemetry (LIKE telemetry_before INCLUDING ALL);
CREATE TABLE device_events (LIKE device_events_before INCLUDING ALL);

-- LIKE takes neither owner nor rights along: they are who had the tables, and for whom, whoever runs this.
DO $$
DECLARE kept record;
BEGIN
    FOR kept IN
        SELECT replace(relname, '_before', '') AS name, relowner::regrole::text AS owner FROM pg_class
        WHERE oid IN ('telemetry_before'::regclass, 'device_events_before'::regclass)
    LOOP
        EXECUTE format('ALTER TABLE %I OWNER TO %s', kept.name, kept.owner);
    END LOOP;
    FOR kept IN
        SELECT replace(c.relname, '_before', '') AS name, a.privilege_type AS privilege,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee,
            CASE WHEN a.is_grantable THEN 'WITH GRANT OPTION' ELSE '' END AS option
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.oid IN ('telemetry_before'::regclass, 'device_events_before'::regclass) AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s %s', kept.privilege, kept.name, kept.grantee, kept.option);
    END LOOP;
END $$;

-- The primary key (device_id, ts, seq) has the column of time in it, as it must; no other index is wanted.
SELECT create_hypertable('telemetry', by_range('ts', INTERVAL '1 day'), create_default_indexes => false);
SELECT create_hypertable('device_events', by_range('ts', INTERVAL '1 day'), create_default_indexes => false);

INSERT INTO telemetry SELECT * FROM telemetry_before;
INSERT INTO device_events SELECT * FROM device_events_before;

DO $$
DECLARE kept record;
BEGIN
    FOR kept IN SELECT name, definition FROM kept_views LOOP
        EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', kept.name, kept.definition);
    END LOOP;
END $$;
DROP TABLE telemetry_before, device_events_before;

-- Chunks older than what still comes late: a row that comes into a compressed chunk costs more. Compression is part of
-- TimescaleDB under Timescale's own licence only, not of what Debian and some providers have.
DO $$
BEGIN
    IF current_setting('timescaledb.license') <> 'timescale' THEN
        RAISE NOTICE 'this TimescaleDB is the one under the Apache licence: telemetry is not compressed';
        RETURN;
    END IF;
    ALTER TABLE telemetry SET (
        timescaledb.compress, timescaledb.compress_segmentby = 'device_id', timescaledb.compress_orderby = 'ts, seq'
    );
    PERFORM add_compression_policy('telemetry', compress_after => INTERVAL '7 days');
    -- A meter that was away for longer sends what it has all the same: a batch of such rows must not be refused because it
    -- unpacks too many. (In force for connections made from now on.)
    EXECUTE format(
        'ALTER DATABASE %I SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0', current_database()
    );
END $$;
COMMIT;
