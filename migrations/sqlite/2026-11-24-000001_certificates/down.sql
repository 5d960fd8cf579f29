DROP TABLE credential_changes;
DROP TABLE certificates;
