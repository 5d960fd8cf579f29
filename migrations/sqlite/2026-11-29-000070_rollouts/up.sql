-- Firmware images; the bytes are in the object store, in `firmware/<object>`.
CREATE TABLE firmware (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    object TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    device_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (device_type, version)
);

-- Staged updates. `stage_ends`: how many devices there are up to the end of each stage, as JSON; stages count from 0.
CREATE TABLE rollouts (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    firmware_id BIGINT NOT NULL,
    version TEXT NOT NULL,
    device_type TEXT NOT NULL,
    -- `running`, `paused`, `completed` or `aborted`.
    state TEXT NOT NULL,
    pause_reason TEXT,
    stage BIGINT NOT NULL,
    passed_at BIGINT,
    stage_ends TEXT NOT NULL,
    max_parallel BIGINT NOT NULL,
    max_failed_pct BIGINT NOT NULL,
    min_confirmed_pct BIGINT NOT NULL,
    device_timeout_s BIGINT NOT NULL,
    soak_s BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX rollouts_state ON rollouts (state, ended_at);
CREATE INDEX rollouts_firmware ON rollouts (firmware_id);

-- The devices of a rollout in their order, and what each said last about its update.
CREATE TABLE rollout_devices (
    rollout_id BIGINT NOT NULL,
    place BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    stage BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    detail TEXT,
    is_forgiven BOOLEAN NOT NULL,
    cmd_id TEXT,
    attempts BIGINT NOT NULL,
    sent_at BIGINT,
    changed_at BIGINT NOT NULL,
    report TEXT,
    report_pct DOUBLE,
    report_detail TEXT,
    report_ts BIGINT,
    report_seq BIGINT,
    PRIMARY KEY (rollout_id, place)
);
-- A device is in one rollout at a time.
CREATE UNIQUE INDEX rollout_devices_open ON rollout_devices (device_id)
    WHERE state IN ('waiting', 'sent', 'downloading', 'verifying', 'applying');
CREATE UNIQUE INDEX rollout_devices_command ON rollout_devices (cmd_id) WHERE cmd_id IS NOT NULL;
CREATE INDEX rollout_devices_state ON rollout_devices (rollout_id, state, stage, is_forgiven);
