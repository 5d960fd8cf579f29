"""All devices together: who is there, what they send, what is wrong with it."""

from .panels import RATE, Board, choice, instances, lines, prom, rest, search, stat, steps, table

DEVICE = "/d/iot-meter-device?var-device=${__data.fields.device_id}&${__url_time_range}"
CONNECTION = {"online": ("online", "green"), "offline": ("offline", "red"), "unknown": ("unknown", "orange")}
SEVERITY = {"info": ("info", "blue"), "warning": ("warning", "orange"), "critical": ("critical", "red")}


def board():
    shown = choice("connection", "Connection", {"": "any", "online": "online", "offline": "offline", "unknown": "unknown"}, "")
    page = Board("fleet", "Fleet", "Devices by status, what they send, and what is wrong with it.", [instances(), search(), shown])
    return lists(firmware(trouble(traffic(counts(page)))))


def counts(page):
    return page.row("Devices").add(
        stat("Active", "Registered and active.", prom('max(@devices{status="active"})'), "none"),
        stat("Inactive", "Registered, but not let in.", prom('max(@devices{status="inactive"})'), "none"),
        stat("Online", "Connected now.", prom('max(@device_connections{state="online"})'), "none"),
        stat("Offline", "Not connected.", prom('max(@device_connections{state="offline"})'), "none", limits=steps((None, "green"), (1, "orange"))),
        stat("Unacknowledged alerts", "Alerts nobody has seen.", prom("max(@alerts_unacknowledged)"), "none",
             limits=steps((None, "green"), (1, "orange"))),
        stat("Certificates ending soon", "Of devices, not renewed with 30 days and a quarter of their time left.", prom('max(@certificates{state="expiring"})'), "none",
             limits=steps((None, "green"), (1, "orange"))),
        lines("By connection", "How many are online, offline, or not heard of.", prom("max by (state) (@device_connections)", "{{state}}"), w=12, stack=True),
        lines("Registered by their first message", "New devices in each interval.",
              prom(f"sum(increase(@devices_registered_total{RATE}))", "new"), w=6, bars=True),
        lines("Certificates", "Of devices, by state.", prom("max by (state) (@certificates)", "{{state}}"), w=6),
    )


def traffic(page):
    return page.row("What they send").add(
        lines("Messages by kind", "Stored a second.", prom(f"sum by (kind) (rate(@messages_processed_total{RATE}))", "{{kind}}"), unit="mps", stack=True),
        lines("Readings", "Measured values a second: stored; out of their plausible range; left out.",
              prom(f"sum(rate(@readings_stored_total{RATE}))", "stored"),
              prom(f"sum(rate(@readings_flagged_total{RATE}))", "out of range"),
              prom(f"sum(rate(@readings_dropped_total{RATE}))", "left out"), unit="rps"),
        lines("Messages of one device", "A minute, on average over the devices online.",
              prom(f'60 * sum(rate(@messages_received_total{RATE})) / clamp_min(max(@device_connections{{state="online"}}), 1)', "a minute")),
    )


def trouble(page):
    return page.row("What is wrong").add(
        lines("Sequence gaps", "Ranges of messages found missing, and those that came after all, an hour.",
              prom("sum(increase(@sequence_gaps_total[1h]))", "found"), prom("sum(increase(@sequence_gaps_filled_total[1h]))", "filled")),
        lines("Restarts and clocks", "Restarts of meters, and messages stamped in the future, an hour.",
              prom("sum(increase(@device_reboots_total[1h]))", "restarts"), prom("sum(increase(@messages_ahead_total[1h]))", "clock ahead")),
        lines("Refused messages", "A second, by reason.", prom(f"sum by (reason) (rate(@messages_refused_total{RATE}))", "{{reason}}"), unit="mps", stack=True),
        lines("Alerts of rules", "Raised an hour, by severity.", prom("sum by (severity) (increase(@rule_alerts_total[1h]))", "{{severity}}"), w=16, h=6, bars=True),
        lines("Alert rules", "By whether they are switched on.", prom("max by (state) (@alert_rules)", "{{state}}"), h=6),
    )


def firmware(page):
    return page.row("Firmware").add(
        lines("Rollouts", "Staged updates by state.", prom("max by (state) (@rollouts)", "{{state}}"), w=6, stack=True),
        lines("Paused rollouts", "By reason: somebody wanted it, or too many devices failed.",
              prom("max by (reason) (@rollouts_paused)", "{{reason}}"), w=6, stack=True),
        lines("Devices of open rollouts", "By how far each has come.", prom("max by (state) (@rollout_devices)", "{{state}}"), w=6, stack=True),
        lines("Updates and downloads", "Devices that came to an end, and downloads begun, an hour.",
              prom("sum by (result) (increase(@rollout_updates_total[1h]))", "{{result}}"),
              prom("sum by (result) (increase(@firmware_downloads_total[1h]))", "download, {{result}}"), w=6),
    )


def lists(page):
    """From the API: Prometheus knows no single device."""
    members = [("device_id", "string"), ("device_name", "string"), ("device_type", "string"), ("location", "string"), ("status", "string"),
               ("connection_status", "string"), ("last_seen", "timestamp"), ("fw_version", "string")]
    devices = rest("/api/devices", [(name, name, kind) for name, kind in members],
                   [("q", "${search}"), ("connection_status", "${connection}"), ("per_page", "500")])
    alerts = rest("/api/alerts", [("created_at", "created_at", "timestamp"), ("device_id", "device_id", "string"), ("severity", "severity", "string"),
                                  ("alert_type", "alert_type", "string"), ("message", "message", "string"), ("state", "state", "string")],
                  [("acknowledged", "false"), ("per_page", "100")])
    return page.row("One by one").add(
        table("Devices", "The newest 500 that match search and connection; click one to see it.", devices, h=12,
              links={"device_id": ("Show ${__value.text}", DEVICE)}, colours={"connection_status": CONNECTION}),
        table("Unacknowledged alerts", "The newest 100; click a device to see it.", alerts,
              links={"device_id": ("Show ${__value.text}", DEVICE)}, colours={"severity": SEVERITY}),
    )
