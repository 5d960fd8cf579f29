//! The tables as Diesel sees them. Joins over several of them, and what is written in sets, stands as SQL where it is used.
//!
//! Invariant: the same columns, and in `telemetry` and `device_events` the same order, as `migrations/postgres`.

diesel::table! {
    devices (id) {
        id -> BigInt,
        device_id -> Text,
        device_name -> Text,
        device_type -> Text,
        location -> Nullable<Text>,
        is_active -> Bool,
        metadata -> Jsonb,
        token_sha256 -> Nullable<Binary>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        version -> BigInt,
    }
}

diesel::table! {
    device_sequence (device_id) {
        device_id -> Text,
        connection_status -> Text,
        last_seen -> Nullable<Timestamptz>,
        fw_version -> Nullable<Text>,
    }
}

diesel::table! {
    sequence_gaps (id) {
        id -> BigInt,
        device_id -> Text,
        first_seq -> BigInt,
        last_seq -> BigInt,
        after_ts -> Timestamptz,
        before_ts -> Timestamptz,
        missing -> Jsonb,
        detected_at -> Timestamptz,
        filled_at -> Nullable<Timestamptz>,
    }
}

/// `$table`, and as `$staging` the temporary table through which rows come into it.
macro_rules! staged {
    ($table:ident, $staging:ident { $($columns:tt)* }) => {
        diesel::table! {
            $table (device_id, ts, seq) { $($columns)* }
        }
        diesel::table! {
            $staging (device_id, ts, seq) { $($columns)* }
        }
    };
}

staged! {
    telemetry, staging_telemetry {
        ts -> Timestamptz,
        seq -> BigInt,
        received_at -> Timestamptz,
        first_us -> Nullable<BigInt>,
        step_us -> Nullable<Integer>,
        slots -> SmallInt,
        flagged -> Nullable<SmallInt>,
        dropped -> Nullable<SmallInt>,
        device_id -> Text,
        offsets_us -> Nullable<Array<BigInt>>,
        voltage_dc -> Nullable<Array<Nullable<Double>>>,
        current_dc -> Nullable<Array<Nullable<Double>>>,
        voltage_ac -> Nullable<Array<Nullable<Double>>>,
        current_ac -> Nullable<Array<Nullable<Double>>>,
        frequency -> Nullable<Array<Nullable<Double>>>,
        pf -> Nullable<Array<Nullable<Double>>>,
        thd_v -> Nullable<Array<Nullable<Double>>>,
        thd_i -> Nullable<Array<Nullable<Double>>>,
        temperature -> Nullable<Array<Nullable<Double>>>,
        battery -> Nullable<Array<Nullable<Double>>>,
        other -> Nullable<Json>,
    }
}

staged! {
    device_events, staging_events {
        ts -> Timestamptz,
        seq -> BigInt,
        received_at -> Timestamptz,
        device_id -> Text,
        kind -> Text,
        body -> Jsonb,
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
        created_at -> Timestamptz,
        cleared_at -> Nullable<Timestamptz>,
        acknowledged_at -> Nullable<Timestamptz>,
        acknowledged_by -> Nullable<Text>,
        rule_id -> Nullable<BigInt>,
        cleared_reason -> Nullable<Text>,
    }
}

diesel::table! {
    device_commands (id) {
        id -> BigInt,
        cmd_id -> Uuid,
        device_id -> Text,
        cmd -> Text,
        params -> Jsonb,
        status -> Text,
        detail -> Nullable<Text>,
        created_at -> Timestamptz,
        created_by -> Text,
        expires_at -> Timestamptz,
        sent_at -> Nullable<Timestamptz>,
        delivered_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
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
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
        last_used_from -> Nullable<Text>,
    }
}

diesel::table! {
    collector_checkpoint (node) {
        node -> Uuid,
        next_offset -> BigInt,
    }
}

diesel::table! {
    web_sessions (id_sha256) {
        id_sha256 -> Binary,
        actor -> Text,
        key_prefix -> Nullable<Text>,
        role -> Text,
        device_prefix -> Nullable<Text>,
        created_at -> Timestamptz,
        last_used_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    audit_log (id) {
        id -> BigInt,
        at -> Timestamptz,
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
        id -> Integer,
        last_id -> BigInt,
        hash -> Binary,
        trimmed_at -> Nullable<Timestamptz>,
        last_given -> BigInt,
    }
}

diesel::table! {
    certificates (id) {
        id -> BigInt,
        serial -> Text,
        kind -> Text,
        device_id -> Nullable<Text>,
        not_before -> Timestamptz,
        not_after -> Timestamptz,
        fingerprint -> Text,
        pem -> Text,
        issued_at -> Timestamptz,
        issued_by -> Text,
        revoked_at -> Nullable<Timestamptz>,
        revoked_by -> Nullable<Text>,
        revoke_reason -> Nullable<Text>,
    }
}

diesel::table! {
    credential_changes (id) {
        id -> BigInt,
        at -> Timestamptz,
        kind -> Text,
        subject -> Text,
    }
}

diesel::table! {
    device_secrets (device_id, purpose) {
        device_id -> Text,
        purpose -> Text,
        key_id -> Text,
        sealed -> Binary,
        created_at -> Timestamptz,
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
        created_at -> Timestamptz,
        created_by -> Text,
        expires_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    device_enrolments (device_id) {
        device_id -> Text,
        claim_prefix -> Nullable<Text>,
        enrolled_at -> Nullable<Timestamptz>,
        allowed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    service_accounts (id) {
        id -> BigInt,
        name -> Text,
        token_sha256 -> Binary,
        read_filters -> Jsonb,
        write_filters -> Jsonb,
        created_at -> Timestamptz,
        created_by -> Text,
        expires_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    outbox (id) {
        id -> BigInt,
        fingerprint -> Text,
        status -> Text,
        starts_at -> Timestamptz,
        name -> Text,
        body -> Text,
        created_at -> Timestamptz,
        state -> Text,
        attempts -> BigInt,
        next_attempt_at -> Timestamptz,
        leased_by -> Nullable<Text>,
        leased_until -> Nullable<Timestamptz>,
        last_error -> Nullable<Text>,
        result -> Nullable<Text>,
        issue -> Nullable<Text>,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    incidents (fingerprint) {
        fingerprint -> Text,
        status -> Text,
        starts_at -> Timestamptz,
        told_at -> Timestamptz,
        is_dry -> Bool,
        issue -> Nullable<Text>,
    }
}

diesel::table! {
    firmware (id) {
        id -> BigInt,
        object -> Text,
        version -> Text,
        device_type -> Text,
        size_bytes -> BigInt,
        sha256 -> Binary,
        created_at -> Timestamptz,
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
        passed_at -> Nullable<Timestamptz>,
        stage_ends -> Array<BigInt>,
        max_parallel -> BigInt,
        max_failed_pct -> BigInt,
        min_confirmed_pct -> BigInt,
        device_timeout_s -> BigInt,
        soak_s -> BigInt,
        created_at -> Timestamptz,
        created_by -> Text,
        changed_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
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
        cmd_id -> Nullable<Uuid>,
        attempts -> BigInt,
        sent_at -> Nullable<Timestamptz>,
        changed_at -> Timestamptz,
        report -> Nullable<Text>,
        report_pct -> Nullable<Double>,
        report_detail -> Nullable<Text>,
        report_ts -> Nullable<Timestamptz>,
        report_seq -> Nullable<BigInt>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(devices, device_sequence);
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
        created_at -> Timestamptz,
        created_by -> Text,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    alert_rule_set (id) {
        id -> Integer,
        revision -> BigInt,
    }
}
