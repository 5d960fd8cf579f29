-- What minutes and hours of measurements come to, so that long ranges are read quickly.

-- What one type of one device comes to: level 60 = the minutes of the hour that begins at `start`, level 3600 = the hours of
-- the day that does. `body` holds count, sum, first, least, greatest, last and integral of each, in the program's own
-- encoding; derived quantities have a name that begins with `=`.
CREATE TABLE rollups (
    device_key BIGINT NOT NULL,
    level INTEGER NOT NULL,
    start BIGINT NOT NULL,
    metric TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (device_key, level, start, metric)
);

-- How far each device is rolled up: every hour from `good_from` on and before is, unless it is marked. (Before `good_from` the
-- database may have had something that was gone when the device's turn came.) `epoch` counts what was written for it.
CREATE TABLE rollup_devices (
    device_key INTEGER PRIMARY KEY NOT NULL,
    good_from BIGINT NOT NULL,
    rolled_until BIGINT NOT NULL,
    epoch BIGINT NOT NULL
);
CREATE INDEX rollup_devices_until ON rollup_devices (rolled_until);

-- Hours of a day (bit 0 = the first one) for which something came late: they are computed again. `version` is another one
-- with every change.
CREATE TABLE rollup_marks (
    device_key BIGINT NOT NULL,
    day BIGINT NOT NULL,
    hours INTEGER NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (device_key, day)
) WITHOUT ROWID;

-- What comes for an hour before `marked_until` is late and marks it. What lies before `kept_from` has been deleted.
CREATE TABLE rollup_state (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    marked_until BIGINT NOT NULL,
    kept_from BIGINT NOT NULL
);
INSERT INTO rollup_state (id, marked_until, kept_from) VALUES (1, -9223372036854775808, -9223372036854775808);

-- What retention took before there were rollups is in none of them: whoever asks for it needs the samples (of the archive).
UPDATE rollup_state SET kept_from = (SELECT (before_ts / 86400000000 + 1) * 86400000000 FROM telemetry_trimmed)
WHERE EXISTS (SELECT 1 FROM telemetry_trimmed);
