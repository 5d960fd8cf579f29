DROP TABLE known_revocations;
DROP TABLE known_credentials;
DROP TABLE mqtt_retained;
DROP TABLE mqtt_session_messages;
DROP TABLE mqtt_sessions;
