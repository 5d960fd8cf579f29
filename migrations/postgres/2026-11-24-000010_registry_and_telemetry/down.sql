DROP VIEW readings;
DROP TABLE mqtt_retained, mqtt_session_messages, mqtt_sessions, collector_checkpoint, api_keys, device_commands,
    device_alerts, device_events, telemetry, sequence_gaps, device_sequence, device_configs, devices;
