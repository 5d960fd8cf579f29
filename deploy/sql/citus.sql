-- Distributes the two large tables over the workers of a Citus cluster, by device. Citus 11 or newer.
--
--   stop every iot-meter of this database; make a backup; then, on the coordinator,
--   psql -v ON_ERROR_STOP=1 -d DATABASE -f deploy/sql/citus.sql
--
-- The tables must be there (`iot-meter migrate` makes them), and the workers known (`citus_add_node`). All nodes of iot-meter
-- connect to the coordinator. Everything else stays there as ordinary tables: it is small, and written in transactions with
-- rules over several tables. The partitions by day stay, too: iot-meter makes and drops them, on all workers.
-- `iot-meter migrate` shows afterwards what it found.

BEGIN;
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '10s';
CREATE EXTENSION IF NOT EXISTS citus;

-- The primary key (device_id, ts, seq) has the distribution column in it, as it must. Both tables in one group: what is
-- asked of one device is answered by one worker.
SELECT create_distributed_table('telemetry', 'device_id');
SELECT create_distributed_table('device_events', 'device_id', colocate_with => 'telemetry');
COMMIT;

-- Rows from before were copied to the workers; their originals are hidden on the coordinator, and take room until
SELECT truncate_local_data_after_distributing_table('telemetry');
SELECT truncate_local_data_after_distributing_table('device_events');
