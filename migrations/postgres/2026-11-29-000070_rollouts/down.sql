DROP TABLE rollout_devices;
DROP TABLE rollouts;
DROP TABLE firmware;
