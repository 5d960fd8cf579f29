//! The registry's tables as Diesel sees them. The large tables (`telemetry`, `device_events`) and the wide joins of device
//! states are not here: their statements stand in `statement` users, so that each is prepared once.
//!
//! Invariant: the same columns as `migrations/sqlite`; times are microseconds, JSON is text.

diesel::table! {
    devices (id) {
        id -> BigInt,
        device_id -> Text,
        device_name -> Text,
        device_type -> Text,
        location -> Nullable<Text>,
        is_active -> Bool,
        metadata -> Text,
        token_sha256 -> Nullable<Binary>,
        created_at -> BigInt,
        updated_at -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    device_sequence (device_id) {
        device_id -> Text,
        connection_status -> Text,
        last_seen -> Nullable<BigInt>,
        fw_version -> Nullable<Text>,
    }
}

diesel::table! {
    sequence_gaps (id) {
        id -> BigInt,
        device_id -> Text,
        first_seq -> BigInt,
        last_seq -> BigInt,
        after_ts -> BigInt,
        before_ts -> BigInt,
        missing -> Text,
        detected_at -> BigInt,
        filled_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    device_keys (device_key) {
        device_key -> BigInt,
        device_id -> Text,
    }
}

diesel::table! {
    device_events (device_key, ts, seq) {
        device_key -> BigInt,
        ts -> BigInt,
        seq -> BigInt,
        received_at -> BigInt,
        kind -> Text,
        body -> Text,
    }
}

diesel::table! {
    device_alerts (id) {
        id -> BigInt,
        device_id -> Text,
        alert_type -> Text,
        severity -> Text,
        message -> Text,
        is_builtin -> Bool,
        created_at -> BigInt,
        cleared_at -> Nullable<BigInt>,
        acknowledged_at -> Nullable<BigInt>,
        acknowledged_by -> Nullable<Text>,
        rule_id -> Nullable<BigInt>,
        cleared_reason -> Nullable<Text>,
    }
}

diesel::table! {
    device_commands (id) {
        id -> BigInt,
        cmd_id -> Text,
        device_id -> Text,
        cmd -> Text,
        params -> Text,
        status -> Text,
        detail -> Nullable<Text>,
        created_at -> BigInt,
        created_by -> Text,
        expires_at -> BigInt,
        sent_at -> Nullable<BigInt>,
        delivered_at -> Nullable<BigInt>,
        finished_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    api_keys (id) {
        id -> BigInt,
        prefix -> Text,
        key_sha256 -> Binary,
        role -> Text,
        name -> Text,
        device_prefix -> Nullable<Text>,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
        last_used_from -> Nullable<Text>,
    }
}

diesel::table! {
    web_sessions (id_sha256) {
        id_sha256 -> Binary,
        actor -> Text,
        key_prefix -> Nullable<Text>,
        role -> Text,
        device_prefix -> Nullable<Text>,
        created_at -> BigInt,
        last_used_at -> BigInt,
        expires_at -> BigInt,
    }
}

diesel::table! {
    audit_log (id) {
        id -> BigInt,
        at -> BigInt,
        actor -> Text,
        address -> Nullable<Text>,
        action -> Text,
        target -> Text,
        outcome -> Text,
        request_id -> Nullable<Text>,
        detail -> Text,
        prev_hash -> Binary,
        hash -> Binary,
    }
}

diesel::table! {
    audit_anchor (id) {
        id -> BigInt,
        last_id -> BigInt,
        hash -> Binary,
        trimmed_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    collector_checkpoint (id) {
        id -> BigInt,
        next_offset -> BigInt,
    }
}

diesel::table! {
    mqtt_sessions (session_key) {
        session_key -> BigInt,
        client_id -> Text,
        state -> Binary,
    }
}

diesel::table! {
    mqtt_session_messages (session_key, position) {
        session_key -> BigInt,
        position -> BigInt,
        message -> Binary,
    }
}

diesel::table! {
    mqtt_retained (topic) {
        topic -> Text,
        message -> Binary,
    }
}

diesel::table! {
    certificates (id) {
        id -> BigInt,
        serial -> Text,
        kind -> Text,
        device_id -> Nullable<Text>,
        not_before -> BigInt,
        not_after -> BigInt,
        fingerprint -> Text,
        pem -> Text,
        issued_at -> BigInt,
        issued_by -> Text,
        revoked_at -> Nullable<BigInt>,
        revoked_by -> Nullable<Text>,
        revoke_reason -> Nullable<Text>,
    }
}

diesel::table! {
    device_secrets (device_id, purpose) {
        device_id -> Text,
        purpose -> Text,
        key_id -> Text,
        sealed -> Binary,
        created_at -> BigInt,
    }
}

diesel::table! {
    claims (id) {
        id -> BigInt,
        prefix -> Text,
        token_sha256 -> Binary,
        name -> Text,
        devices -> Text,
        max_uses -> BigInt,
        uses -> BigInt,
        created_at -> BigInt,
        created_by -> Text,
        expires_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    device_enrolments (device_id) {
        device_id -> Text,
        claim_prefix -> Nullable<Text>,
        enrolled_at -> Nullable<BigInt>,
        allowed_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    service_accounts (id) {
        id -> BigInt,
        name -> Text,
        token_sha256 -> Binary,
        read_filters -> Text,
        write_filters -> Text,
        created_at -> BigInt,
        created_by -> Text,
        expires_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    credential_changes (id) {
        id -> BigInt,
        at -> BigInt,
        kind -> Text,
        subject -> Text,
    }
}

diesel::table! {
    outbox (id) {
        id -> BigInt,
        fingerprint -> Text,
        status -> Text,
        starts_at -> BigInt,
        name -> Text,
        body -> Text,
        created_at -> BigInt,
        state -> Text,
        attempts -> BigInt,
        next_attempt_at -> BigInt,
        leased_by -> Nullable<Text>,
        leased_until -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
        result -> Nullable<Text>,
        issue -> Nullable<Text>,
        finished_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    incidents (fingerprint) {
        fingerprint -> Text,
        status -> Text,
        starts_at -> BigInt,
        told_at -> BigInt,
        is_dry -> Bool,
        issue -> Nullable<Text>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(devices, device_sequence);

diesel::table! {
    firmware (id) {
        id -> BigInt,
        object -> Text,
        version -> Text,
        device_type -> Text,
        size_bytes -> BigInt,
        sha256 -> Binary,
        created_at -> BigInt,
        created_by -> Text,
    }
}

diesel::table! {
    rollouts (id) {
        id -> BigInt,
        firmware_id -> BigInt,
        version -> Text,
        device_type -> Text,
        state -> Text,
        pause_reason -> Nullable<Text>,
        stage -> BigInt,
        passed_at -> Nullable<BigInt>,
        stage_ends -> Text,
        max_parallel -> BigInt,
        max_failed_pct -> BigInt,
        min_confirmed_pct -> BigInt,
        device_timeout_s -> BigInt,
        soak_s -> BigInt,
        created_at -> BigInt,
        created_by -> Text,
        changed_at -> BigInt,
        ended_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    rollout_devices (rollout_id, place) {
        rollout_id -> BigInt,
        place -> BigInt,
        device_id -> Text,
        stage -> BigInt,
        state -> Text,
        reason -> Nullable<Text>,
        detail -> Nullable<Text>,
        is_forgiven -> Bool,
        cmd_id -> Nullable<Text>,
        attempts -> BigInt,
        sent_at -> Nullable<BigInt>,
        changed_at -> BigInt,
        report -> Nullable<Text>,
        report_pct -> Nullable<Double>,
        report_detail -> Nullable<Text>,
        report_ts -> Nullable<BigInt>,
        report_seq -> Nullable<BigInt>,
    }
}
diesel::allow_tables_to_appear_in_same_query!(rollouts, rollout_devices);

diesel::table! {
    alert_rules (id) {
        id -> BigInt,
        version -> BigInt,
        generation -> BigInt,
        name -> Text,
        metric -> Text,
        op -> Text,
        threshold -> Double,
        clear_threshold -> Nullable<Double>,
        for_s -> BigInt,
        devices -> Nullable<Text>,
        device_type -> Nullable<Text>,
        severity -> Text,
        message -> Nullable<Text>,
        is_enabled -> Bool,
        created_at -> BigInt,
        created_by -> Text,
        updated_at -> BigInt,
    }
}

diesel::table! {
    alert_rule_set (id) {
        id -> Integer,
        revision -> BigInt,
    }
}
