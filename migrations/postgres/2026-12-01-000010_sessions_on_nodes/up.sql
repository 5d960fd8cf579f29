-- What a node's MQTT broker keeps over a restart is in a file of that node (`node.db`), beside its journal: it was nobody
-- else's, and without it the broker could not start while the database was away.
DROP TABLE mqtt_retained, mqtt_session_messages, mqtt_sessions;
