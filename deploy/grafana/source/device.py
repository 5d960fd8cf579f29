"""One device: what it measures, what it said, what was said to it. All of it from the API."""

from .fleet import CONNECTION, SEVERITY
from .panels import RANGE, Board, devices, each, lines, measured, of_device, rest, search, stat, steps, table, words

ONE = "/api/devices/${device}"
SIGNED = {"low": None}
GAP_COLUMNS = [("detected_at", "found", "timestamp"), ("first", "first", "number"), ("last", "last", "number"),
               ("missing_count", "still missing", "number"), ("after", "after", "timestamp"), ("before", "before", "timestamp")]
COMMAND_COLUMNS = [("created_at", "created_at", "timestamp"), ("cmd", "cmd", "string"), ("status", "status", "string"), ("detail", "detail", "string"),
                   ("created_by", "created_by", "string"), ("finished_at", "finished_at", "timestamp")]
# Grafana's words for the units.
UNITS = {"voltage_dc": "volt", "current_dc": "amp", "voltage_ac": "volt", "current_ac": "amp", "frequency": "hertz", "pf": "none",
         "thd_v": "percent", "thd_i": "percent", "temperature": "celsius", "battery": "volt",
         "active_power": "watt", "apparent_power": "voltamp", "reactive_power": "voltampreact"}
IN_UNITS = [{"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]} for name, unit in UNITS.items()]
NAMED = "${__field.labels.metric}"


def board():
    measures = of_device("quantity", "Measured", "latest", "metric", "What the device measures: a panel for each.")
    page = Board("device", "Device", "What one device measures, what it said, and what was said to it.", [search(), devices(), measures],
                 device_alerts=True)
    return words_of(measurements(standing(page)))


def status(member, kind="string"):
    return rest(f"{ONE}/status", [(member, member, kind)])


def standing(page):
    def known(title, about, member, unit="none", kind="string", **how):
        return stat(title, about, status(member, kind), unit, fields=f"/^{member}$/", text="value", **how)

    return page.row("${device}").add(
        known("Connection", "Whether it is connected.", "connection_status", mappings=words(CONNECTION)),
        known("Last seen", "When it was last heard of.", "last_seen", "dateTimeFromNow", "timestamp"),
        known("Firmware", "As it said in its hello.", "fw_version"),
        known("Restarts", "Seen in its sequence numbers.", "reboots", kind="number"),
        known("Open gaps", "Ranges of its messages that are missing.", "open_gaps", kind="number", limits=steps((None, "green"), (1, "orange"))),
        known("Last number", "Sequence number of its newest message.", "last_seq", kind="number"),
    )


def measurements(page):
    """A panel for each type it measures, whatever they are: a DC line has no frequency, a tram no second voltage."""
    def over_time(title, about, *metrics, **more):
        return lines(title, about, measured(*metrics), span=True, name=NAMED, step="1s", overrides=IN_UNITS, **SIGNED, **more)

    newest = rest(f"{ONE}/latest", [("metric", "metric", "string"), ("value", "value", "number"), ("unit", "unit", "string"),
                                    ("time", "time", "timestamp"), ("age_s", "age", "number")])
    return page.row("Measurements").add(
        over_time("Power", "From voltage, current and power factor of one instant; below zero the vehicle feeds back.",
                  "active_power", "apparent_power", "reactive_power", unit="watt", w=16),
        table("Newest values", "The newest value of each type, by the time it was measured.", newest, w=8, h=8, units={"age": "s"}),
        each("quantity", over_time("$quantity", "As the device measures it; of power and current, what is below zero is fed back.",
                                   "${quantity}", unit="none")),
    )


def words_of(page):
    raw = rest(f"{ONE}/raw-data", [("last_modified", "received", "timestamp"), ("filename", "filename", "string"), ("size", "size", "number")],
               [("limit", "100")])
    gaps = rest(f"{ONE}/gaps", GAP_COLUMNS, RANGE)
    alerts = rest(f"{ONE}/alerts", [("created_at", "created_at", "timestamp"), ("severity", "severity", "string"), ("alert_type", "alert_type", "string"),
                                    ("message", "message", "string"), ("state", "state", "string"), ("acknowledged", "acknowledged", "boolean")],
                  [("per_page", "100")])
    commands = rest(f"{ONE}/commands", COMMAND_COLUMNS, [("per_page", "100")])
    return page.row("What it said, and what was said to it").add(
        table("Messages", "The newest 100, as received; /api/devices/…/raw-data/{filename} has the bytes.", raw, w=12, units={"size": "bytes"}),
        table("Alerts", "The newest 100.", alerts, w=12, colours={"severity": SEVERITY}),
        table("Commands", "The newest 100 and what came of them.", commands, w=12),
        table("Missing messages", "Ranges of sequence numbers found missing in the dashboard's time.", gaps, w=12),
    )
