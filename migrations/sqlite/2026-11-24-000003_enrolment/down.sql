DROP TRIGGER device_secrets_go;
DROP TABLE service_accounts;
DROP TABLE device_enrolments;
DROP TABLE claims;
DROP TABLE device_secrets;
