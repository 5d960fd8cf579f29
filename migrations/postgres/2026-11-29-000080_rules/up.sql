-- Alert rules. A number is that of the change of the rules (`alert_rule_set.revision`) that made it so: `id` of the first
-- one, `version` of the last one, `generation` of the last one that made void what the rule had found before.
CREATE TABLE alert_rules (
    id bigint PRIMARY KEY,
    version bigint NOT NULL,
    generation bigint NOT NULL,
    name text NOT NULL UNIQUE,
    metric text NOT NULL,
    -- `gt`, `ge`, `lt`, `le`, `eq` or `ne`.
    op text NOT NULL,
    threshold float8 NOT NULL,
    clear_threshold float8,
    for_s bigint NOT NULL,
    devices text,
    device_type text,
    severity text NOT NULL,
    message text,
    is_enabled boolean NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL
);

-- How often the rules were changed.
CREATE TABLE alert_rule_set (
    id integer PRIMARY KEY CHECK (id = 1),
    revision bigint NOT NULL
);
INSERT INTO alert_rule_set (id, revision) VALUES (1, 0);

-- The rule that raised an alert, and why it was cleared, unless its condition had gone.
ALTER TABLE device_alerts ADD COLUMN rule_id bigint;
ALTER TABLE device_alerts ADD COLUMN cleared_reason text;
CREATE UNIQUE INDEX device_alerts_one_of_rule ON device_alerts (rule_id, device_id)
    WHERE rule_id IS NOT NULL AND cleared_at IS NULL;

-- Rules whose condition holds: {"rule": [generation, since in µs, whether it is an alert]}.
ALTER TABLE device_sequence ADD COLUMN rules json;
