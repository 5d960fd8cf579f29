-- How far from its message's time a sample of a device may lie, of devices that were deleted while their measurements stayed:
-- who registers one again still finds them.
CREATE TABLE kept_spans (
    device_id text COLLATE "C" PRIMARY KEY,
    span_us bigint NOT NULL
);
