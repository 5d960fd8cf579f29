-- A unit with U+0000 in it was stored as its meter had sent it, and Postgres fails where it looks into such a JSON value. What
-- is written from now on has U+FFFD instead. Of what was written before, the states of meters are made right here, and the
-- view makes it right for whoever reads: measurements are not rewritten, there may be a disk full of them.
-- (The pattern: an escape, and not a written backslash before u0000.)

UPDATE device_sequence AS s SET latest =
    regexp_replace(s.latest::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::json
FROM (
    SELECT device_id FROM device_sequence WHERE strpos(latest::text, '\u0000') > 0 ORDER BY device_id FOR UPDATE
) AS found
WHERE s.device_id = found.device_id;

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
        SELECT json_object_agg(o.key, o.value -> 'values' -> (n - 1)) FROM json_each(
            CASE WHEN strpos(t.other::text, '\u0000') = 0 THEN t.other
            ELSE regexp_replace(t.other::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::json END
        ) AS o
    ) END AS other,
    t.ts AS message_ts,
    t.seq
FROM telemetry AS t
CROSS JOIN LATERAL generate_series(1, t.slots) AS n;
