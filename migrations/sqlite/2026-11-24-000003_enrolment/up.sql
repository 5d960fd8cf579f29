-- What devices and services are let in with. No secret is here in clear: digests, and values sealed by a key that is not
-- in the database.

-- Sealed secrets of devices. `sealed` is the vault's envelope: nothing here reads it.
CREATE TABLE device_secrets (
    device_id TEXT NOT NULL,
    purpose TEXT NOT NULL,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (device_id, purpose)
);
CREATE INDEX device_secrets_key ON device_secrets (key_id);

CREATE TABLE claims (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    prefix TEXT NOT NULL UNIQUE,
    token_sha256 BLOB NOT NULL,
    name TEXT NOT NULL,
    devices TEXT NOT NULL,
    max_uses BIGINT NOT NULL,
    uses BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);

-- Who has enrolled. A row outlives its device: what was removed does not come back by the claim it still holds.
CREATE TABLE device_enrolments (
    device_id TEXT PRIMARY KEY NOT NULL,
    claim_prefix TEXT,
    enrolled_at BIGINT,
    -- Set while an administrator allows one more enrolment.
    allowed_at BIGINT
);

CREATE TABLE service_accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    token_sha256 BLOB NOT NULL,
    read_filters TEXT NOT NULL CHECK (json_valid(read_filters)),
    write_filters TEXT NOT NULL CHECK (json_valid(write_filters)),
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);

-- What a device was let in with goes with it.
CREATE TRIGGER device_secrets_go AFTER DELETE ON devices
BEGIN
    DELETE FROM device_secrets WHERE device_id = OLD.device_id;
END;
