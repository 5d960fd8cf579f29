"""What dashboards are made of: queries, panels, and a page that lays them out.

In PromQL, `@name{…}` stands for the metric `iot_meter_name` of the instances chosen in the dashboard. Widths are of 24
columns; panels flow from left to right as text does, so that nobody counts coordinates.
"""

import re

PROMETHEUS = {"type": "prometheus", "uid": "iot-meter-prometheus"}
API = {"type": "yesoreyeram-infinity-datasource", "uid": "iot-meter-api"}
# Grafana 11's; later ones read it too.
SCHEMA = 39

# Where a count has no series yet it is 0; but only of a server that is being scraped, not of one that is away.
ZERO = "0 * max(@uptime_seconds)"
RATE = "[$__rate_interval]"
# Alerts of deploy/prometheus/rules.yml, whatever part of the service they are about.
FIRING = 'alertstate="firing", alertname=~"IotMeter.+"'

# A page has so many columns.
COLUMNS = 24


# --- queries ---

def expand(expr):
    """PromQL with `@name` and `@name{…}` written out."""
    def metric(found):
        labels = ", ".join(filter(None, ['instance=~"$instance"', found.group(2)]))
        return f"iot_meter_{found.group(1)}{{{labels}}}"
    return re.sub(r"@([a-z_]+)(?:\{([^}]*)\})?", metric, expr)


def prom(expr, legend="", now=False):
    """A PromQL query; `now` = the value of the end of the range only."""
    kind = {"instant": True, "range": False} if now else {"range": True}
    return {"datasource": PROMETHEUS, "expr": expand(expr), "legendFormat": legend or "__auto", "editorMode": "code", **kind}


def zero(expr, legend="", now=False):
    """The same, 0 where nothing has been counted yet."""
    return prom(f"{expr} or {ZERO}", legend, now)


def quantiles(histogram, by="", labels=""):
    """The median, the 95th and the 99th percentile of a histogram."""
    select = f"{{{labels}}}" if labels else ""
    rate = f"rate(@{histogram}_bucket{select}{RATE})"
    names = ", ".join(filter(None, ["le", by]))
    legend = f" {{{{{by}}}}}" if by else ""
    return [prom(f"histogram_quantile({q}, sum by ({names}) ({rate}))", f"p{round(q * 100)}{legend}") for q in (0.5, 0.95, 0.99)]


def rest(path, columns, params=(), root="", form="table"):
    """A query of the REST API. `columns`: (member, name, type)."""
    as_column = [{"selector": s, "text": name, "type": kind} for s, name, kind in columns]
    return {
        "datasource": API,
        "type": "json",
        "source": "url",
        "parser": "backend",
        "format": form,
        "url": path,
        "url_options": {"method": "GET", "params": [{"key": k, "value": v} for k, v in params], "data": ""},
        "root_selector": root,
        "columns": as_column,
        "filters": [],
    }


RANGE = (("start", "${__from}"), ("stop", "${__to}"))


def measured(*metrics, every="${__interval}", fn="mean"):
    """Values of a device over the dashboard's time, a line a metric."""
    params = [*RANGE, *(("metric", m) for m in metrics), ("every", every), ("fn", fn)]
    columns = [("time", "time", "timestamp"), ("metric", "metric", "string"), ("value", "value", "number")]
    return rest("/api/devices/${device}/metrics", columns, params, form="timeseries")


# --- panels ---

def steps(*pairs):
    """Thresholds: the first colour from the bottom, then (from, colour)."""
    return {"mode": "absolute", "steps": [{"color": colour, "value": at} for at, colour in pairs]}


GOOD_BAD = {"0": ("not ready", "red"), "1": ("ready", "green")}


def words(table):
    """What values are called, and their colours."""
    options = {value: {"text": text, "color": colour, "index": at} for at, (value, (text, colour)) in enumerate(table.items())}
    return [{"type": "value", "options": options}]


def panel(kind, title, about, queries, unit="short", w=8, h=8, defaults=None, custom=None, overrides=(), **more):
    """A panel of any kind."""
    targets = [{"refId": chr(ord("A") + at), **query} for at, query in enumerate(queries)]
    fields = {"unit": unit, "noValue": "–", **(defaults or {})}
    if custom:
        fields["custom"] = custom
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": targets[0]["datasource"],
        "targets": targets,
        "fieldConfig": {"defaults": fields, "overrides": list(overrides)},
        "size": (w, h),
        **more,
    }


def stat(title, about, query, unit="short", w=4, h=4, limits=None, mappings=None, calc="lastNotNull", fields="", text="auto"):
    """A big figure."""
    queries = query if isinstance(query, list) else [query]
    defaults = {"thresholds": limits or steps((None, "green")), "color": {"mode": "thresholds"}, "mappings": mappings or []}
    options = {
        "reduceOptions": {"calcs": [calc], "fields": fields, "values": False},
        "colorMode": "value",
        "graphMode": "area" if text == "auto" else "none",
        "textMode": text,
        "justifyMode": "auto",
        "orientation": "auto",
    }
    return panel("stat", title, about, queries, unit, w, h, defaults, options=options)


def lines(title, about, *queries, unit="short", w=8, h=8, stack=False, bars=False, span=False, low=0, name="", step="", limits=None, **more):
    """Values over time; `span` = no gaps where values are rare, `low` = the axis begins there (None = as values are)."""
    custom = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else 10,
        "lineWidth": 1,
        "showPoints": "never" if not span else "auto",
        "spanNulls": span,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if limits else "off"},
    }
    defaults = {"color": {"mode": "palette-classic"}}
    if low is not None:
        defaults["min"] = low
    if name:
        defaults["displayName"] = name
    if limits:
        defaults["thresholds"] = limits
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if step:
        more["interval"] = step
    return panel("timeseries", title, about, flat(queries), unit, w, h, defaults, custom, options=options, **more)


def states(title, about, query, mappings, w=12, h=6):
    """How something stood over time, a line a thing."""
    defaults = {"mappings": words(mappings), "color": {"mode": "thresholds"}, "thresholds": steps((None, "red"), (1, "green"))}
    options = {"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
    return panel("state-timeline", title, about, [query], "short", w, h, defaults, {"fillOpacity": 70, "lineWidth": 0}, options=options)


def heat(title, about, histogram, unit="s", w=8, h=8):
    """How often values fell into each bucket of a histogram, over time."""
    query = {**prom(f"sum by (le) (increase(@{histogram}_bucket{RATE}))", "{{le}}"), "format": "heatmap"}
    options = {
        "calculate": False,
        "yAxis": {"unit": unit, "axisPlacement": "left"},
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5, "fill": "dark-blue"},
        "cellGap": 1,
        "tooltip": {"mode": "single", "yHistogram": False},
        "legend": {"show": True},
    }
    return panel("heatmap", title, about, [query], "short", w, h, options=options)


def table(title, about, query, w=24, h=9, links=None, colours=None, units=None):
    """Rows. `links`: column -> (title, address); `colours`: column -> words; `units`: column -> unit."""
    overrides = []

    def override(column, *properties):
        overrides.append({"matcher": {"id": "byName", "options": column}, "properties": [{"id": i, "value": v} for i, v in properties]})

    for column, (text, url) in (links or {}).items():
        override(column, ("links", [{"title": text, "url": url}]))
    for column, mappings in (colours or {}).items():
        override(column, ("mappings", words(mappings)), ("custom.cellOptions", {"type": "color-text"}))
    for column, unit in (units or {}).items():
        override(column, ("unit", unit))
    options = {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""}}
    custom = {"align": "auto", "filterable": True, "cellOptions": {"type": "auto"}, "inspect": False}
    return panel("table", title, about, [query], "none", w, h, None, custom, overrides, options=options)


def each(variable, made):
    """A panel for each value of a variable, three side by side, in lines of their own."""
    return {**made, "size": (COLUMNS, made["size"][1]), "repeat": variable, "repeatDirection": "h", "maxPerRow": 3}


def flat(queries):
    return [one for query in queries for one in (query if isinstance(query, list) else [query])]


# --- variables ---

def instances():
    """Which servers' figures."""
    query = "label_values(iot_meter_build_info, instance)"
    return {
        "type": "query", "name": "instance", "label": "Instance", "datasource": PROMETHEUS, "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "instances"}, "refresh": 2, "sort": 1, "regex": "", "hide": 0,
        "multi": True, "includeAll": True, "allValue": ".*", "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def asked_for(name, label, path, member, params=()):
    """A variable whose values are a member of what the API answers; asked again where a variable in its path changes."""
    query = rest(path, [(member, "__text", "string"), (member, "__value", "string")], params)
    del query["datasource"]
    return {
        "type": "query", "name": name, "label": label, "datasource": API, "definition": f"GET {path}",
        "query": {"queryType": "infinity", "refId": name, "query": "", "infinityQuery": {"refId": name, **query}},
        "refresh": 2, "sort": 1, "regex": "", "hide": 0, "multi": False, "includeAll": False,
        "current": {"selected": False, "text": "", "value": ""},
    }


def devices(many=False):
    """Which device; narrowed by `search`, since the API lists 500 at most."""
    return asked_for("device", "Device", "/api/devices", "device_id", [("q", "${search}"), ("per_page", "500")]) | {"multi": many}


def of_device(name, label, path, member, about):
    """All of what the API lists of a device, or a choice of it."""
    return {**asked_for(name, label, "/api/devices/${device}/" + path, member), "description": about, "multi": True, "includeAll": True,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}


def search():
    """Part of a device's id or name."""
    return {"type": "textbox", "name": "search", "label": "Search", "query": "", "hide": 0, "description": "Part of a device's id or name",
            "current": {"selected": True, "text": "", "value": ""}, "options": [{"selected": True, "text": "", "value": ""}]}


def choice(name, label, values, first):
    """One of some fixed values: value -> text."""
    options = [{"selected": value == first, "text": text, "value": value} for value, text in values.items()]
    return {
        "type": "custom", "name": name, "label": label, "hide": 0, "multi": False, "includeAll": False, "options": options,
        "query": ", ".join(f"{text} : {value}" for value, text in values.items()),
        "current": {"selected": True, "text": values[first], "value": first},
    }


# --- pages ---

class Board:
    """A dashboard under construction."""

    def __init__(self, name, title, about, variables, since="now-1h", refresh="30s", device_alerts=False):
        self.uid, self.title, self.about = f"iot-meter-{name}", f"iot-meter · {title}", about
        self.variables, self.since, self.refresh = variables, since, refresh
        self.device_alerts = device_alerts
        self.panels, self.into, self.ids = [], None, 0
        self.x = self.y = self.tall = 0

    def row(self, title, collapsed=False, repeat=""):
        """A section; a collapsed one holds its panels itself."""
        self.y, self.x, self.tall = self.y + self.tall, 0, 0
        row = {"type": "row", "id": self._id(), "title": title, "collapsed": collapsed, "panels": [],
               "gridPos": {"x": 0, "y": self.y, "w": COLUMNS, "h": 1}}
        if repeat:
            row |= {"repeat": repeat}
        self.y += 1
        self.panels.append(row)
        self.into = row["panels"] if collapsed else None
        return self

    def add(self, *panels):
        """Panels, each right of the one before as long as there is room."""
        for made in panels:
            w, h = made.pop("size")
            if self.x + w > COLUMNS:
                self.y, self.x, self.tall = self.y + self.tall, 0, 0
            placed = {"id": self._id(), "gridPos": {"x": self.x, "y": self.y, "w": w, "h": h}, **made}
            (self.panels if self.into is None else self.into).append(placed)
            self.x, self.tall = self.x + w, max(self.tall, h)
        return self

    def _id(self):
        self.ids += 1
        return self.ids

    def _annotations(self):
        firing = f"ALERTS{{{FIRING}}}"
        own = {"builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": True, "hide": True,
               "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts", "type": "dashboard"}
        alerts = {"name": "Alerts", "datasource": PROMETHEUS, "enable": True, "hide": False, "iconColor": "red", "expr": firing,
                  "step": "60s", "titleFormat": "{{alertname}}", "textFormat": "{{instance}} {{task}} {{reason}}", "tagKeys": "severity"}
        both = [own, alerts]
        if self.device_alerts:
            columns = [("created_at", "time", "timestamp"), ("alert_type", "title", "string"), ("message", "text", "string"), ("severity", "tags", "string")]
            asked = rest("/api/devices/${device}/alerts", columns, [("per_page", "100")])
            both.append({"name": "Alerts of the device", "datasource": API, "enable": True, "hide": False, "iconColor": "orange",
                         "target": {"refId": "alerts", **asked}})
        return {"list": both}

    def json(self):
        """As Grafana reads it."""
        links = {"type": "dashboards", "title": "iot-meter", "tags": ["iot-meter"], "asDropdown": True, "includeVars": False,
                 "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": ""}
        return {
            "uid": self.uid, "title": self.title, "description": self.about, "tags": ["iot-meter"], "schemaVersion": SCHEMA,
            "version": 1, "editable": True, "graphTooltip": 1, "timezone": "browser", "refresh": self.refresh,
            "time": {"from": self.since, "to": "now"}, "timepicker": {}, "fiscalYearStartMonth": 0, "links": [links],
            "annotations": self._annotations(), "templating": {"list": self.variables}, "panels": self.panels,
        }
