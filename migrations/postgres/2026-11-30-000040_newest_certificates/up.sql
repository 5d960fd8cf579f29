-- Certificates are counted every quarter of a minute, and of a device the newest one matters: all of it is in one index.
DROP INDEX certificates_device;
CREATE INDEX certificates_device ON certificates (device_id, id, not_before, not_after, revoked_at);
