-- How far from its message's time a sample of a device may lie, of devices that were deleted while their measurements stayed:
-- who registers one again still finds them.
CREATE TABLE kept_spans (
    device_id TEXT PRIMARY KEY NOT NULL,
    span_us BIGINT NOT NULL
);
