-- What a node keeps on its own disk when its database is on another machine. `state` and `message` are the broker's own bytes:
-- nothing here reads them.

-- Sessions that outlive their connection. A short key, because each waiting message repeats it.
CREATE TABLE mqtt_sessions (
    session_key INTEGER PRIMARY KEY NOT NULL,
    client_id TEXT NOT NULL UNIQUE,
    state BLOB NOT NULL
);

-- What waits for a session's client, in the order of position.
CREATE TABLE mqtt_session_messages (
    session_key BIGINT NOT NULL REFERENCES mqtt_sessions (session_key) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (session_key, position)
);

-- The retained message of each topic.
CREATE TABLE mqtt_retained (
    topic TEXT PRIMARY KEY NOT NULL,
    message BLOB NOT NULL
);

-- What the database last said that a device may log in with. (The token's SHA-256: it has 256 random bits.)
CREATE TABLE known_credentials (
    device_id TEXT PRIMARY KEY NOT NULL,
    is_active BOOLEAN NOT NULL,
    token_sha256 BLOB
);

-- Certificates that the database last called revoked, with their ends in microseconds since 1970.
CREATE TABLE known_revocations (
    serial TEXT PRIMARY KEY NOT NULL,
    not_after BIGINT NOT NULL
);
