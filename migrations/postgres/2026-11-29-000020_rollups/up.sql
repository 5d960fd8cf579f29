-- What minutes and hours of measurements come to, so that long ranges are read quickly.

-- What one type of one device comes to: level 60 = the minutes of the hour that begins at `start`, level 3600 = the hours of
-- the day that does. `body` holds count, sum, first, least, greatest, last and integral of each, in the program's own
-- encoding; derived quantities have a name that begins with `=`.
CREATE TABLE rollups (
    start timestamptz NOT NULL,
    level smallint NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    metric text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (device_id, level, start, metric)
);
-- For retention: rows come roughly in order of time.
CREATE INDEX rollups_start ON rollups USING brin (start);

-- How far each device is rolled up: every hour from `good_from` on and before is, unless it is marked. (Before `good_from` the
-- database may have had something that was gone when the device's turn came.) `epoch` counts what was written for it.
CREATE TABLE rollup_devices (
    device_id text COLLATE "C" PRIMARY KEY,
    good_from timestamptz NOT NULL,
    rolled_until timestamptz NOT NULL,
    epoch bigint NOT NULL
);
CREATE INDEX rollup_devices_until ON rollup_devices (rolled_until);

-- Hours of a day (bit 0 = the first one) for which something came late: they are computed again. `version` is another one
-- with every change.
CREATE TABLE rollup_marks (
    device_id text COLLATE "C" NOT NULL,
    day timestamptz NOT NULL,
    hours integer NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (device_id, day)
);

-- What comes for an hour before `marked_until` is late and marks it. What lies before `kept_from` has been deleted.
CREATE TABLE rollup_state (
    id smallint PRIMARY KEY CHECK (id = 1),
    marked_until timestamptz NOT NULL,
    kept_from timestamptz NOT NULL
);
INSERT INTO rollup_state (id, marked_until, kept_from) VALUES (1, '-infinity', '-infinity');

-- What retention took before there were rollups is in none of them: whoever asks for it needs the samples (of the archive).
UPDATE rollup_state SET kept_from = date_trunc('day', t.before_ts, 'UTC') + interval '24 hours' FROM telemetry_trimmed AS t;
