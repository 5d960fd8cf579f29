DROP TABLE rollup_state;
DROP TABLE rollup_marks;
DROP TABLE rollup_devices;
DROP TABLE rollups;
