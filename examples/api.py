#!/usr/bin/env python3
"""A client of the REST API, with nothing but Python's standard library.

    export IOT_METER_API_KEY=…                      # iot-meter key create --name me --role viewer
    python3 examples/api.py devices
    python3 examples/api.py metrics dc-meter-007 --start=-1h --metric active_power
    python3 examples/api.py watch --kinds readings,alerts
    python3 examples/api.py command dc-meter-007 request_status --wait 30      # a key with the role operator

Lists are walked by cursor, so that nothing comes twice or is left out while they change. What is refused for the moment
(429, 503) is tried again when the server says so.
"""

import argparse
import http.client
import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

TRIES = 6
LONGEST_PAUSE_S = 60.0


class Refused(Exception):
    """The server said no."""

    def __init__(self, status: int, problem: dict) -> None:
        faults = "".join(f"; {fault['field']}: {fault['message']}" for fault in problem.get("errors", []))
        super().__init__(f"{status}: {problem.get('detail', problem.get('title', ''))}{faults}")
        self.status = status
        self.problem = problem


class Api:
    """One server."""

    def __init__(self, base: str, key: str | None = None, ca: str | None = None) -> None:
        self.base = base.rstrip("/")
        self.key = key
        self.context = ssl.create_default_context(cafile=ca) if self.base.startswith("https:") else None

    def request(
        self, method: str, path: str, query: dict | None = None, body: dict | None = None, more: dict | None = None
    ):
        """An open answer; the caller closes it."""
        url = self.base + path
        if query:
            url += "?" + urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json"} | (more or {})
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        for left in reversed(range(TRIES)):
            request = urllib.request.Request(url, data=data, headers=headers, method=method)
            try:
                return urllib.request.urlopen(request, timeout=60, context=self.context)
            except urllib.error.HTTPError as error:
                with error:
                    problem = self._problem(error)
                # A write that the server has refused for the moment was not done: it may be sent again.
                if error.code not in (429, 503) or left == 0:
                    raise Refused(error.code, problem) from None
                time.sleep(min(float(error.headers.get("Retry-After", "1")), LONGEST_PAUSE_S))
        raise AssertionError("the loop ends by an answer or an error")

    def json(self, method: str, path: str, query: dict | None = None, body: dict | None = None):
        """An answer's JSON."""
        with self.request(method, path, query, body) as answer:
            return json.load(answer)

    def walk(self, path: str, query: dict | None = None) -> Iterator[dict]:
        """Every item of a list, part by part."""
        cursor: str | None = ""
        while cursor is not None:
            with self.request("GET", path, (query or {}) | {"cursor": cursor, "per_page": 500}) as answer:
                cursor = self._next(answer.headers.get("Link", ""))
                yield from json.load(answer)

    def metrics(self, device: str, start: str, stop: str, metric: str | None) -> Iterator[dict]:
        """Readings in order of time, a line each: memory does not grow with the range."""
        query = {"start": start, "stop": stop, "metric": metric, "format": "ndjson"}
        with self.request("GET", f"/api/devices/{urllib.parse.quote(device)}/metrics", query) as answer:
            for line in answer:
                if line.strip():
                    yield json.loads(line)

    def watch(self, devices: str | None, kinds: str | None) -> Iterator[tuple[str, dict]]:
        """What happens, without end: (event, data). Comes back by itself, and goes on behind the last event it has seen."""
        last, pause_s = "", 3.0
        while True:
            more = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            event, data = "message", []
            try:
                with self.request("GET", "/api/stream", {"devices": devices, "kinds": kinds}, more=more) as answer:
                    for line in answer:
                        field, _, value = line.decode().rstrip("\n").partition(": ")
                        match field:
                            case "id":
                                last = value
                            case "retry":
                                pause_s = int(value) / 1000
                            case "event":
                                event = value
                            case "data":
                                data.append(value)
                            case "" if data and not value:
                                yield event, json.loads("\n".join(data))
                                event, data = "message", []
            except (OSError, http.client.HTTPException):
                # Broken off, also in the middle of an answer, or silent for too long: the server says something every ten seconds.
                pass
            time.sleep(pause_s)

    def command(self, device: str, cmd: str, params: dict | None, wait_s: float) -> dict:
        """Sends a command and waits for what becomes of it."""
        path = f"/api/devices/{urllib.parse.quote(device)}/commands"
        sent = self.json("POST", path, body={"cmd": cmd} | ({"params": params} if params else {}))
        end = time.monotonic() + wait_s
        while True:
            command = self.json("GET", f"/api/commands/{sent['cmd_id']}")
            if command["status"] not in ("pending", "sent", "delivered") or time.monotonic() >= end:
                return command
            time.sleep(0.2)

    @staticmethod
    def _problem(error: urllib.error.HTTPError) -> dict:
        try:
            return json.load(error)
        except ValueError:
            return {"detail": error.reason}

    @staticmethod
    def _next(links: str) -> str | None:
        for link in links.split(","):
            if 'rel="next"' in link and (target := re.search(r"<([^>]*)>", link)):
                return urllib.parse.parse_qs(urllib.parse.urlsplit(target[1]).query)["cursor"][0]
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=os.environ.get("IOT_METER_API", "http://127.0.0.1:8080"))
    parser.add_argument("--ca", help="authority to trust (PEM)")
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("devices", help="every device")
    metrics = commands.add_parser("metrics", help="readings of a device")
    metrics.add_argument("device")
    metrics.add_argument("--start", default="-1h")
    metrics.add_argument("--stop", default="now()")
    metrics.add_argument("--metric")
    watch = commands.add_parser("watch", help="what happens now")
    watch.add_argument("--devices", help="ids, or patterns with * and ?, by commas")
    watch.add_argument("--kinds", help="of readings, presence, alerts and commands, by commas")
    watch.add_argument("--count", type=int, default=0, help="end after so many events")
    command = commands.add_parser("command", help="send a command")
    command.add_argument("device")
    command.add_argument("cmd")
    command.add_argument("--params", type=json.loads, help="JSON")
    command.add_argument("--wait", type=float, default=30.0, metavar="SECONDS")
    arguments = parser.parse_args()

    api = Api(arguments.url, os.environ.get("IOT_METER_API_KEY"), arguments.ca)
    try:
        match arguments.what:
            case "devices":
                for device in api.walk("/api/devices"):
                    print(device["device_id"], device["status"], device["connection_status"], device["last_seen"])
            case "metrics":
                for row in api.metrics(arguments.device, arguments.start, arguments.stop, arguments.metric):
                    print(row["time"], row["metric"], row["value"], row.get("unit", ""))
            case "watch":
                for number, (event, data) in enumerate(api.watch(arguments.devices, arguments.kinds), 1):
                    print(event, json.dumps(data), flush=True)
                    if number == arguments.count:
                        break
            case "command":
                done = api.command(arguments.device, arguments.cmd, arguments.params, arguments.wait)
                print(done["cmd_id"], done["status"], done.get("detail") or "")
                return 0 if done["status"] == "accepted" else 1
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, http.client.HTTPException) as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
