-- Alert rules. A number is that of the change of the rules (`alert_rule_set.revision`) that made it so: `id` of the first
-- one, `version` of the last one, `generation` of the last one that made void what the rule had found before.
CREATE TABLE alert_rules (
    id BIGINT PRIMARY KEY NOT NULL,
    version BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    metric TEXT NOT NULL,
    -- `gt`, `ge`, `lt`, `le`, `eq` or `ne`.
    op TEXT NOT NULL,
    threshold DOUBLE NOT NULL,
    clear_threshold DOUBLE,
    for_s BIGINT NOT NULL,
    devices TEXT,
    device_type TEXT,
    severity TEXT NOT NULL,
    message TEXT,
    is_enabled BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- How often the rules were changed.
CREATE TABLE alert_rule_set (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    revision BIGINT NOT NULL
);
INSERT INTO alert_rule_set (id, revision) VALUES (1, 0);

-- The rule that raised an alert, and why it was cleared, unless its condition had gone.
ALTER TABLE device_alerts ADD COLUMN rule_id BIGINT;
ALTER TABLE device_alerts ADD COLUMN cleared_reason TEXT;
CREATE UNIQUE INDEX device_alerts_one_of_rule ON device_alerts (rule_id, device_id)
    WHERE rule_id IS NOT NULL AND cleared_at IS NULL;

-- Rules whose condition holds: {"rule": [generation, since in µs, whether it is an alert]}.
ALTER TABLE device_sequence ADD COLUMN rules TEXT;
