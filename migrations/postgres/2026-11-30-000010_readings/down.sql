CREATE OR REPLACE VIEW readings AS
SELECT
    t.device_id,
    t.ts + coalesce(t.offsets_us[n], t.first_us + (n - 1)::bigint * t.step_us) * interval '1 microsecond' AS ts,
    t.voltage_dc[n] AS voltage_dc,
    t.current_dc[n] AS current_dc,
    t.voltage_ac[n] AS voltage_ac,
    t.current_ac[n] AS current_ac,
    t.frequency[n] AS frequency,
    t.pf[n] AS pf,
    t.thd_v[n] AS thd_v,
    t.thd_i[n] AS thd_i,
    t.temperature[n] AS temperature,
    t.battery[n] AS battery,
    CASE WHEN t.other IS NOT NULL THEN (
        SELECT json_object_agg(o.key, o.value -> 'values' -> (n - 1)) FROM json_each(t.other) AS o
    ) END AS other,
    t.ts AS message_ts,
    t.seq
FROM telemetry AS t
CROSS JOIN LATERAL generate_series(1, t.slots) AS n;
