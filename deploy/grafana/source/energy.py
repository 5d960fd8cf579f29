"""Energy of devices: what they drew and fed back, period by period. From the API.

Energy is the integral of active power, which the API makes in watt seconds; Grafana shows watt hours.
"""

from .panels import RANGE, Board, choice, devices, lines, measured, rest, search, stat

WATT_HOURS = "Wh"
PERIODS = {"1m": "1 minute", "5m": "5 minutes", "15m": "15 minutes", "1h": "1 hour", "1d": "1 day"}
# Short enough that a train seldom both draws and feeds back within it.
FINE = "10s"


def board():
    about = "What devices drew and fed back, a section for each device chosen above."
    page = Board("energy", "Energy", about, [search(), devices(many=True), choice("period", "Period", PERIODS, "5m")], since="now-6h", refresh="1m")
    of_period = energy("${period}")
    return page.row("${device}", repeat="device").add(
        total("Balance", "Drawn less fed back over the dashboard's time.", energy(FINE), of="sum"),
        total("Drawn", "Energy of the ten-second intervals in which it drew more than it fed back.", energy(FINE, only="value > 0")),
        total("Fed back", "Energy of the ten-second intervals in which it fed back more than it drew.", energy(FINE, only="value < 0")),
        total("Highest power", "Highest mean of ten seconds.", power(FINE), "watt", of="max", fields="/^value$/"),
        total("Lowest power", "Lowest mean of ten seconds; below zero it fed back.", power(FINE), "watt", of="min", fields="/^value$/"),
        total("Mean power", "Of the ten-second intervals there is a value for.", power(FINE), "watt", of="mean", fields="/^value$/"),
        lines("Energy by period", "Drawn less fed back in each period, aligned to the clock (UTC).", of_period, unit="watth", w=12, bars=True, low=None,
              step="1m", transformations=[{"id": "filterFieldsByName", "options": {"include": {"names": ["time", WATT_HOURS]}}}]),
        lines("Power", "Below zero the vehicle feeds back.", measured("active_power"), unit="watt", w=12, span=True, low=None, step="1s",
              name="${__field.labels.metric}"),
    )


def power(every, fn="mean"):
    params = [*RANGE, ("metric", "active_power"), ("every", every), ("fn", fn)]
    return rest("/api/devices/${device}/metrics", [("time", "time", "timestamp"), ("value", "value", "number")], params)


def energy(every, only=""):
    made = power(every, "integral")
    made["computed_columns"] = [{"selector": "value / 3600", "text": WATT_HOURS, "type": "number"}]
    if only:
        made["filterExpression"] = only
    return made


def total(title, about, query, unit="watth", of="sum", fields=f"/^{WATT_HOURS}$/"):
    return stat(title, about, query, unit, calc=of, fields=fields, text="value")
