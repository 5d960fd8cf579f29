DROP TABLE incidents;
DROP TABLE outbox;
