-- What changed of presence, alerts and commands, for those who watch: a queue of the last minutes. Triggers fill it, so that
-- nobody who changes something can forget to say so. `ref`: the alert's or the command's id.
CREATE TABLE live_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    at BIGINT NOT NULL DEFAULT (unixepoch()),
    kind TEXT NOT NULL,
    device_id TEXT NOT NULL,
    ref TEXT NOT NULL
);

CREATE TRIGGER live_presence_new AFTER INSERT ON device_sequence WHEN NEW.connection_status <> 'unknown'
BEGIN
    INSERT INTO live_changes (kind, device_id, ref) VALUES ('presence', NEW.device_id, '');
END;
CREATE TRIGGER live_presence AFTER UPDATE OF connection_status ON device_sequence
    WHEN NEW.connection_status <> OLD.connection_status
BEGIN
    INSERT INTO live_changes (kind, device_id, ref) VALUES ('presence', NEW.device_id, '');
END;
CREATE TRIGGER live_alert_new AFTER INSERT ON device_alerts
BEGIN
    INSERT INTO live_changes (kind, device_id, ref) VALUES ('alert', NEW.device_id, NEW.id);
END;
CREATE TRIGGER live_alert AFTER UPDATE OF cleared_at, acknowledged_at ON device_alerts
    WHEN NEW.cleared_at IS NOT OLD.cleared_at OR NEW.acknowledged_at IS NOT OLD.acknowledged_at
BEGIN
    INSERT INTO live_changes (kind, device_id, ref) VALUES ('alert', NEW.device_id, NEW.id);
END;
CREATE TRIGGER live_command_new AFTER INSERT ON device_commands
BEGIN
    INSERT INTO live_changes (kind, device_id, ref) VALUES ('command', NEW.device_id, NEW.cmd_id);
END;
CREATE TRIGGER live_command AFTER UPDATE OF status ON device_commands WHEN NEW.status <> OLD.status
BEGIN
    INSERT INTO live_changes (kind, device_id, ref) VALUES ('command', NEW.device_id, NEW.cmd_id);
END;
