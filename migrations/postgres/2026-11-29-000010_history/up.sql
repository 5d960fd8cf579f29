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
