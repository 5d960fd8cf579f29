"""One device: what it measures, what it said, what was said to it. All of it from the API."""

from .fleet import CONNECTION, SEVERITY
from .panels import RANGE, Board, devices, lines, measured, rest, search, stat, steps, table, words

ONE = "/api/devices/${device}"
SIGNED = {"low": None}
GAP_COLUMNS = [("detected_at", "found", "timestamp"), ("first", "first", "number"), ("last", "last", "number"),
               ("missing_count", "still missing", "number"), ("after", "after", "timestamp"), ("before", "before", "timestamp")]
COMMAND_COLUMNS = [("created_at", "created_at", "timestamp"), ("cmd", "cmd", "string"), ("status", "status", "string"), ("detail", "detail", "string"),
                   ("created_by", "created_by", "string"), ("finished_at", "finished_at", "timestamp")]
# Not everything that looks like power is in watts.
POWERS = [{"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
          for name, unit in (("apparent_power", "voltamp"), ("reactive_power", "voltampreact"))]
NAMED = "${__field.labels.metric}"


def board():
    page = Board("device", "Device", "What one device measures, what it said, and what was said to it.", [search(), devices()],
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
    def over_time(title, about, *metrics, unit, w=8, **more):
        return lines(title, about, measured(*metrics), unit=unit, w=w, span=True, name=NAMED, step="1s", **more)

    newest = rest(f"{ONE}/latest", [("metric", "metric", "string"), ("value", "value", "number"), ("unit", "unit", "string"),
                                    ("time", "time", "timestamp"), ("age_s", "age", "number")])
    return page.row("Measurements").add(
        over_time("Power", "From voltage, current and power factor of one instant; below zero the vehicle feeds back.",
                  "active_power", "apparent_power", "reactive_power", unit="watt", w=16, overrides=POWERS, **SIGNED),
        table("Newest values", "The newest value of each type, by the time it was measured.", newest, w=8, h=8, units={"age": "s"}),
        over_time("Voltage", "Of the line.", "voltage_dc", "voltage_ac", unit="volt", **SIGNED),
        over_time("Current", "Below zero the vehicle feeds back.", "current_dc", "current_ac", unit="amp", **SIGNED),
        over_time("Temperature", "Of the meter.", "temperature", unit="celsius", w=4, **SIGNED),
        over_time("Battery", "Of the meter.", "battery", unit="volt", w=4, **SIGNED),
    ).row("AC supply (where the vehicle has one)").add(
        over_time("Frequency", "Of the line.", "frequency", unit="hertz", **SIGNED),
        over_time("Power factor", "Below zero the vehicle feeds back.", "pf", unit="none", **SIGNED),
        over_time("Harmonic distortion", "Of voltage and current.", "thd_v", "thd_i", unit="percent"),
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
