DROP TRIGGER live_command;
DROP TRIGGER live_command_new;
DROP TRIGGER live_alert;
DROP TRIGGER live_alert_new;
DROP TRIGGER live_presence;
DROP TRIGGER live_presence_new;
DROP TABLE live_changes;
