"""Energy of the fleet and of devices: what they drew and fed back, interval by interval, and how good that is."""

from .panels import RANGE, Board, choice, devices, instances, lines, quantiles, rest, search, stat, states, steps, table, zero, RATE

PERIODS = {"1m": "1 minute", "5m": "5 minutes", "10m": "10 minutes", "15m": "15 minutes", "1h": "1 hour", "1d": "1 day"}
QUALITY = {"valid": ("valid", "green"), "uncertain": ("uncertain", "orange"), "missing": ("missing", "red")}
DRAWN, FED_BACK = "Drawn", "Fed back"
COVERED = steps((None, "red"), (0.5, "orange"), (0.99, "green"))


def board():
    about = "What the fleet and the devices chosen above drew and fed back; two registers, never netted."
    page = Board("energy", "Energy", about, [instances(), search(), devices(many=True), choice("period", "Period", PERIODS, "5m")],
                 since="now-6h", refresh="1m")
    page.row("Fleet").add(
        total(DRAWN, "All devices together.", fleet(), DRAWN),
        total(FED_BACK, "All devices together.", fleet(), FED_BACK),
        total("Covered", "Part of the time for which there are measurements, over all devices.", fleet(), "Covered", "percentunit", "lastNotNull", COVERED),
        signed("Fleet by period", "Above zero what was drawn, below zero what was fed back; aligned to the clock (UTC).",
               rest("/api/energy", SIGNED, [*RANGE, ("group_by", "period"), ("period", "${period}")])),
        table("By type of device", "Added up over the dashboard's time.", fleet("type", ("device_type", "Type", "string")), w=12, units=UNITS),
        table("By device", "Added up over the dashboard's time; uncertain where less than 99 % is covered or a value is doubtful.",
              fleet("device", ("device_id", "Device", "string"), ("quality", "Quality", "string")), w=12, units=UNITS,
              links={"Device": ("Device", "/d/iot-meter-device?var-device=${__value.raw}")}, colours={"Quality": QUALITY}),
    )
    page.row("${device}", repeat="device").add(
        total(DRAWN, "Of the device, over the dashboard's time.", of_device(), DRAWN),
        total(FED_BACK, "Of the device, over the dashboard's time.", of_device(), FED_BACK),
        total("Apparent", "Apparent energy.", of_device(), "Apparent", "voltamph"),
        total("Reactive", "Reactive energy, magnitude only.", of_device(), "Reactive", "voltamphreact"),
        total("Covered", "Mean over the intervals.", of_device(), "Covered", "percentunit", "mean", COVERED),
        signed("Energy by period", "Above zero what was drawn, below zero what was fed back; aligned to the clock (UTC).",
               rest(ENERGY, SIGNED, PERIOD), w=24),
        states("Quality", "Uncertain: less than 99 % covered, a value out of its range, or a clock that is ahead.",
               rest(ENERGY, [("start", "time", "timestamp"), ("quality", "quality", "string")], PERIOD), QUALITY, w=24, h=4),
    )
    page.row("How it is made").add(
        lines("Intervals answered", "By quality.", zero(f"sum by (quality) (rate(@energy_intervals_total{RATE}))", "{{quality}}")),
        lines("Hours computed", "Hours of devices whose energy was computed from telemetry: for an answer, to be kept, or again for late data; and those that were kept.",
              zero(f"sum by (reason) (rate(@energy_parts_computed_total{RATE}))", "{{reason}}"), zero(f"sum(rate(@energy_parts_read_total{RATE}))", "kept")),
        lines("Waiting", "Days of devices with late data whose energy and rollups are to be computed again.", zero("sum(@rollup_dirty_partitions)", "late days"), w=12),
        lines("Behind", "Age of the oldest moment up to which every device is rolled up; an hour and some minutes when all is well.", zero("max(@rollup_behind_seconds)", "behind"), unit="s", w=12),
        lines("Time of an answer", "Of a device and of the fleet.", *quantiles("energy_answer_duration_seconds", "of"), unit="s"),
    )
    return page


ENERGY = "/api/devices/${device}/energy"
PERIOD = [*RANGE, ("period", "${period}")]
AMOUNTS = [("import_wh", DRAWN, "number"), ("export_wh", FED_BACK, "number"), ("coverage", "Covered", "number")]
SIGNED = [("start", "time", "timestamp"), ("import_wh", DRAWN, "number"), ("export_wh", "fed", "number")]
UNITS = {DRAWN: "watth", FED_BACK: "watth", "Covered": "percentunit"}


def fleet(group="", *columns):
    by = [("group_by", group)] if group else []
    return rest("/api/energy", [*columns, *AMOUNTS], [*RANGE, *by])


def of_device():
    more = [("apparent_vah", "Apparent", "number"), ("reactive_varh", "Reactive", "number")]
    return rest(ENERGY, [*AMOUNTS, *more], PERIOD)


def total(title, about, query, name, unit="watth", of="sum", limits=None):
    return stat(title, about, query, unit, limits=limits, calc=of, fields=f"/^{name}$/", text="value")


def signed(title, about, query, w=12):
    """Bars up and down."""
    query["computed_columns"] = [{"selector": "export_wh * -1", "text": FED_BACK, "type": "number"}]
    names = ["time", DRAWN, FED_BACK]
    return lines(title, about, query, unit="watth", w=w, bars=True, low=None, step="1m",
                 transformations=[{"id": "filterFieldsByName", "options": {"include": {"names": names}}}])
