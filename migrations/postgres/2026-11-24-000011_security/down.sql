DROP TRIGGER device_secrets_go ON devices;
DROP TABLE service_accounts, device_enrolments, claims, device_secrets, audit_anchor, audit_log, web_sessions,
    credential_changes, certificates;
DROP FUNCTION device_secrets_go(), audit_anchor_forward(), audit_log_no_delete(), audit_refuse();
ALTER TABLE api_keys DROP COLUMN last_used_at, DROP COLUMN last_used_from;
