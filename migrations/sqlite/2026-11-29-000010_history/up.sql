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
