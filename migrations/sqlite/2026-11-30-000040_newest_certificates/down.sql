DROP INDEX certificates_device;
CREATE INDEX certificates_device ON certificates (device_id, id);
