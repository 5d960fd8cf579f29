ALTER TABLE device_sequence DROP COLUMN rules;
DROP INDEX device_alerts_one_of_rule;
ALTER TABLE device_alerts DROP COLUMN cleared_reason;
ALTER TABLE device_alerts DROP COLUMN rule_id;
DROP TABLE alert_rule_set;
DROP TABLE alert_rules;
