-- Up to which message time telemetry may be missing because retention took it: what is older is in the archive. One row,
-- written in the transaction that takes rows or a partition away; it only grows.
CREATE TABLE telemetry_trimmed (
    id integer PRIMARY KEY CHECK (id = 1),
    before_ts timestamptz NOT NULL
);

-- Devices whose data somebody removed: what the archive received of them before then is not shown any more.
CREATE TABLE device_purges (
    device_id text COLLATE "C" PRIMARY KEY,
    purged_at timestamptz NOT NULL
);

-- Retention may have worked before this table was there: then what is older than all that is left may be missing (or, where
-- nothing is left, anything; message times go as far as a day ahead). A database that no collector has written to is new.
INSERT INTO telemetry_trimmed (id, before_ts)
SELECT 1, coalesce(min(f.first), now() + interval '24 hours')
FROM (SELECT (SELECT min(t.ts) FROM telemetry AS t WHERE t.device_id = s.device_id) AS first FROM device_sequence AS s) AS f
HAVING EXISTS (SELECT 1 FROM collector_checkpoint);
