-- Up to which message time (µs since 1970) telemetry may be missing because retention took it: what is older is in the
-- archive. One row, written in the transaction that takes rows away; it only grows.
CREATE TABLE telemetry_trimmed (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    before_ts BIGINT NOT NULL
);

-- Devices whose data somebody removed: what the archive received of them before then is not shown any more.
CREATE TABLE device_purges (
    device_id TEXT PRIMARY KEY NOT NULL,
    purged_at BIGINT NOT NULL
);

-- Retention may have worked before this table was there: then what is older than all that is left may be missing (or, where
-- nothing is left, anything; message times go as far as a day ahead). A database that no collector has written to is new.
INSERT INTO telemetry_trimmed (id, before_ts)
SELECT 1, coalesce(
    (SELECT min(f.first) FROM (
        SELECT (SELECT min(t.ts) FROM telemetry AS t WHERE t.device_key = k.device_key) AS first FROM device_keys AS k
    ) AS f),
    (CAST(strftime('%s', 'now') AS INTEGER) + 86400) * 1000000
)
WHERE EXISTS (SELECT 1 FROM collector_checkpoint);
