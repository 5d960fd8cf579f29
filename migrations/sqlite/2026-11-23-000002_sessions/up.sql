-- What the MQTT broker keeps over a restart. `state` and `message` are the broker's own bytes: nothing here reads them.
--
-- Ordinary tables: `WITHOUT ROWID` would take twice the space for messages of more than 1 KiB, and five times the time.

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
