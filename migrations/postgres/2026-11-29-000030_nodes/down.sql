ALTER TABLE device_sequence DROP COLUMN heard, DROP COLUMN hints, DROP COLUMN revision;
DROP INDEX device_commands_waiting;
ALTER TABLE device_commands DROP COLUMN claimed_by;
DROP TABLE device_sessions;
DROP TABLE nodes;
