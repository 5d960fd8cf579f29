-- What is to be told to GitHub, in order: an alert that fires, or that is over. `body` is the alert as Alertmanager told of
-- it, in JSON; nothing here reads it.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    fingerprint TEXT NOT NULL,
    -- `firing` or `resolved`.
    status TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- `pending`, `done` or `dead`.
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    -- Who is sending it, and until when nobody else may.
    leased_by TEXT,
    leased_until BIGINT,
    last_error TEXT,
    -- What came of it, and on which issue (`owner/name#number`).
    result TEXT,
    issue TEXT,
    finished_at BIGINT
);
CREATE INDEX outbox_state ON outbox (state, id);
CREATE INDEX outbox_fingerprint ON outbox (fingerprint, id);

-- What is known of an alert: whether it fires, and its issue.
CREATE TABLE incidents (
    fingerprint TEXT PRIMARY KEY NOT NULL,
    status TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    -- When we were told.
    told_at BIGINT NOT NULL,
    -- It was told while nothing was sent (dry run).
    is_dry BOOLEAN NOT NULL,
    issue TEXT
);
CREATE INDEX incidents_over ON incidents (status, told_at);
