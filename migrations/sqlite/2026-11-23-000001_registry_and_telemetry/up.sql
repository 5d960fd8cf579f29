-- The registry and the measurements of iot-meter, SQLite.
--
-- Times are integers: microseconds since 1970-01-01T00:00:00Z. JSON is text. The view `readings` shows measurements one
-- row a sample, with the time as text.

-- Every device ever heard of, registered or not: a short key for the large tables. A key outlives the registration, so
-- that a device registered again finds its old measurements.
CREATE TABLE device_keys (
    device_key INTEGER PRIMARY KEY NOT NULL,
    device_id TEXT NOT NULL UNIQUE
);

CREATE TABLE devices (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    device_id TEXT NOT NULL UNIQUE,
    device_name TEXT NOT NULL,
    device_type TEXT NOT NULL,
    location TEXT,
    is_active BOOLEAN NOT NULL,
    metadata TEXT NOT NULL CHECK (json_valid(metadata)),
    token_sha256 BLOB,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);

-- What a device confirmed of its configuration; a missing row or field means the default.
CREATE TABLE device_configs (
    device_id TEXT PRIMARY KEY NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE,
    sampling_cadence_ms BIGINT,
    send_interval_s BIGINT,
    hello_interval_s BIGINT,
    brokers TEXT,
    updated_at BIGINT NOT NULL
);

-- What a device's messages made known of it, also of one that is not registered. `latest`: {type: {ts, value, unit?}}.
CREATE TABLE device_sequence (
    device_id TEXT PRIMARY KEY NOT NULL,
    head_seq BIGINT,
    head_ts BIGINT,
    reboots BIGINT NOT NULL,
    connection_status TEXT NOT NULL,
    last_seen BIGINT,
    fw_version TEXT,
    latest TEXT NOT NULL,
    span_us BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX device_sequence_online ON device_sequence (device_id) WHERE connection_status = 'online';

-- The ledger of missing messages. `missing`: [[first, last], …] still missing; filled_at set = none.
CREATE TABLE sequence_gaps (
    id INTEGER PRIMARY KEY NOT NULL,
    device_id TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    after_ts BIGINT NOT NULL,
    before_ts BIGINT NOT NULL,
    missing TEXT NOT NULL,
    detected_at BIGINT NOT NULL,
    filled_at BIGINT,
    UNIQUE (device_id, after_ts, first_seq)
);
CREATE INDEX sequence_gaps_open ON sequence_gaps (device_id, after_ts) WHERE filled_at IS NULL;

-- One row a datagram. Each array has an element a slot: offsets_us is the sample's time minus ts, null = no value.
-- `other`: {type: {unit, values}} of types that have no column, or came in another unit than the column's.
CREATE TABLE telemetry (
    device_key BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    offsets_us TEXT NOT NULL,
    voltage_dc TEXT,
    current_dc TEXT,
    voltage_ac TEXT,
    current_ac TEXT,
    frequency TEXT,
    pf TEXT,
    thd_v TEXT,
    thd_i TEXT,
    temperature TEXT,
    battery TEXT,
    other TEXT,
    flagged INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    PRIMARY KEY (device_key, ts, seq)
);

-- Hellos, status changes, acknowledgements, update progress.
CREATE TABLE device_events (
    device_key BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (device_key, ts, seq)
);
CREATE INDEX device_events_kind ON device_events (device_key, kind, ts);

CREATE TABLE device_alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    device_id TEXT NOT NULL,
    alert_type TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    is_builtin BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    cleared_at BIGINT,
    acknowledged_at BIGINT,
    acknowledged_by TEXT
);
CREATE UNIQUE INDEX device_alerts_one_open ON device_alerts (device_id, alert_type)
    WHERE is_builtin AND cleared_at IS NULL;
CREATE INDEX device_alerts_device ON device_alerts (device_id, id);
CREATE INDEX device_alerts_unseen ON device_alerts (id) WHERE acknowledged_at IS NULL;

CREATE TABLE device_commands (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    cmd_id TEXT NOT NULL UNIQUE,
    device_id TEXT NOT NULL,
    cmd TEXT NOT NULL,
    params TEXT NOT NULL,
    status TEXT NOT NULL,
    detail TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    sent_at BIGINT,
    delivered_at BIGINT,
    finished_at BIGINT
);
CREATE INDEX device_commands_device ON device_commands (device_id, id);
CREATE INDEX device_commands_device_status ON device_commands (device_id, status);
CREATE INDEX device_commands_status ON device_commands (status, expires_at);

CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    prefix TEXT NOT NULL UNIQUE,
    key_sha256 BLOB NOT NULL,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    device_prefix TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);

-- The journal offset up to which (exclusive) everything is in this database.
CREATE TABLE collector_checkpoint (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    next_offset BIGINT NOT NULL
);

-- Measurements one row a slot, for people and dashboards. Filter on device_id and message_us: these use the index.
CREATE VIEW readings AS
SELECT
    k.device_id AS device_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', (t.ts + o.value) / 1000000.0, 'unixepoch') AS ts,
    json_extract(t.voltage_dc, '$[' || o.key || ']') AS voltage_dc,
    json_extract(t.current_dc, '$[' || o.key || ']') AS current_dc,
    json_extract(t.voltage_ac, '$[' || o.key || ']') AS voltage_ac,
    json_extract(t.current_ac, '$[' || o.key || ']') AS current_ac,
    json_extract(t.frequency, '$[' || o.key || ']') AS frequency,
    json_extract(t.pf, '$[' || o.key || ']') AS pf,
    json_extract(t.thd_v, '$[' || o.key || ']') AS thd_v,
    json_extract(t.thd_i, '$[' || o.key || ']') AS thd_i,
    json_extract(t.temperature, '$[' || o.key || ']') AS temperature,
    json_extract(t.battery, '$[' || o.key || ']') AS battery,
    CASE WHEN t.other IS NOT NULL THEN (
        SELECT json_group_object(e.key, json_extract(e.value, '$.values[' || o.key || ']')) FROM json_each(t.other) AS e
    ) END AS other,
    t.ts + o.value AS ts_us,
    t.ts AS message_us,
    t.seq AS seq
FROM device_keys AS k
JOIN telemetry AS t ON t.device_key = k.device_key
JOIN json_each(t.offsets_us) AS o;
