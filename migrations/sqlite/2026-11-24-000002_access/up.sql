-- Who gets in, and what they did: last use of keys, sessions of the console, the audit log.

ALTER TABLE api_keys ADD COLUMN last_used_at BIGINT;
ALTER TABLE api_keys ADD COLUMN last_used_from TEXT;

-- A person's session in a browser. The cookie's text is not here, only its digest. A session that was begun with a key
-- (key_prefix) is good only as long as that key.
CREATE TABLE web_sessions (
    id_sha256 BLOB PRIMARY KEY NOT NULL,
    actor TEXT NOT NULL,
    key_prefix TEXT,
    role TEXT NOT NULL,
    device_prefix TEXT,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX web_sessions_actor ON web_sessions (actor, created_at);
CREATE INDEX web_sessions_end ON web_sessions (expires_at);

-- Who did what. hash = SHA-256 of prev_hash, id and all other columns; prev_hash = hash of the entry before. Ids have no
-- gap.
CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT,
    detail TEXT NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_actor ON audit_log (actor, id);
CREATE INDEX audit_log_action ON audit_log (action, id);

-- Where the log begins: the last entry that retention took away, and its hash, to which the chain goes on.
CREATE TABLE audit_anchor (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    last_id BIGINT NOT NULL,
    hash BLOB NOT NULL,
    trimmed_at BIGINT
);
INSERT INTO audit_anchor (id, last_id, hash) VALUES (1, 0, zeroblob(32));

-- Append only. The anchor moves forward only, and only onto an entry that is there; only what lies behind it may go.
CREATE TRIGGER audit_log_no_replace BEFORE INSERT ON audit_log
WHEN NEW.id <= (SELECT last_id FROM audit_anchor) OR EXISTS (SELECT 1 FROM audit_log WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log
WHEN OLD.id > (SELECT last_id FROM audit_anchor)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_anchor_forward BEFORE UPDATE ON audit_anchor
WHEN NEW.last_id <= OLD.last_id OR NEW.hash IS NOT (SELECT hash FROM audit_log WHERE id = NEW.last_id)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_anchor_no_delete BEFORE DELETE ON audit_anchor
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
