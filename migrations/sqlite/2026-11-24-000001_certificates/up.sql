-- Certificates that were issued here, and what has become of them. The certificate itself is public; no key is kept.
-- Times are microseconds; serials are lower-case hex.
CREATE TABLE certificates (
    id INTEGER PRIMARY KEY NOT NULL,
    serial TEXT NOT NULL UNIQUE,
    -- `device`, `server`, or `unknown`: revoked by its serial, of which nothing else is known. Only the first has a device.
    kind TEXT NOT NULL,
    device_id TEXT,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    pem TEXT NOT NULL,
    issued_at BIGINT NOT NULL,
    issued_by TEXT NOT NULL,
    revoked_at BIGINT,
    revoked_by TEXT,
    revoke_reason TEXT
);

CREATE INDEX certificates_device ON certificates (device_id, id);

CREATE INDEX certificates_end ON certificates (not_after);

-- What is refused in handshakes, and what the list of revoked certificates holds.
CREATE INDEX certificates_revoked ON certificates (not_after) WHERE revoked_at IS NOT NULL;

-- Rights that were taken away, for every node to hear of: each remembers the last row it has acted on. Rows are needed for
-- moments; they are removed after a day. (AUTOINCREMENT: a number is never used twice, also after that.)
CREATE TABLE credential_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    at BIGINT NOT NULL,
    -- `certificate`, `device`, `token` (of a device) or `service`.
    kind TEXT NOT NULL,
    -- A serial, a device id, or an account's name.
    subject TEXT NOT NULL
);
