-- Several nodes on one database.

-- Who is there. A node that has not said so for `nodes.timeout_s` is taken for dead; null = it has stopped in good order.
CREATE TABLE nodes (
    node uuid PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    -- {"http": "address:port", …}
    addresses jsonb NOT NULL,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz,
    -- Everything it received before this is in the database.
    stored_until timestamptz NOT NULL
) WITH (fillfactor = 10);

-- Which nodes a meter is connected to now: as many as it likes. Rows of a dead node count for nothing.
CREATE TABLE device_sessions (
    device_id text COLLATE "C" NOT NULL,
    node uuid NOT NULL REFERENCES nodes ON DELETE CASCADE,
    since timestamptz NOT NULL,
    PRIMARY KEY (device_id, node)
);
CREATE INDEX device_sessions_node ON device_sessions (node);

-- The node that delivers a command, as long as it lives and holds the device's session.
ALTER TABLE device_commands ADD COLUMN claimed_by uuid;
CREATE INDEX device_commands_waiting ON device_commands (device_id) WHERE status IN ('pending', 'sent');

-- What several nodes need to go on from each other's states: `revision` grows with every change; `hints` is what helps to
-- judge the next message of the count; `heard` the last word of each node: {"node": ["online", µs since 1970]}.
ALTER TABLE device_sequence
    ADD COLUMN revision bigint NOT NULL DEFAULT 0,
    ADD COLUMN hints json,
    ADD COLUMN heard json;
