DROP TABLE device_purges;
DROP TABLE telemetry_trimmed;
