DROP TABLE rollup_state, rollup_marks, rollup_devices, rollups;
