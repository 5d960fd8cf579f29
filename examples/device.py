#!/usr/bin/env python3
"""A meter: measures, publishes, answers commands.

    python3 -m pip install -r examples/requirements.txt
    iot-meter device add py-1                       # prints the token
    python3 examples/device.py --device py-1 --token-file token --ca data/pki/ca.pem

TLS, a persistent session (what is sent while it is away waits for it), telemetry of protocol version 2 with QoS 2, a last
will, commands whose signature is checked when the device has a command key. Written for paho-mqtt 2.
"""

import argparse
import collections
import hashlib
import hmac
import json
import math
import signal
import ssl
import sys
import threading
from datetime import datetime, timezone

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

SESSION_EXPIRY_S = 3600
KEEP_ALIVE_S = 15
REMEMBERED_COMMANDS = 100


def now() -> str:
    """The present time as the protocol wants it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_signed_by(key: bytes, command: dict) -> bool:
    """Whether `sig` is the HMAC-SHA256 of the command without it, as canonical JSON.

    Parameters of commands are texts, whole numbers, lists and objects: for these, sorted names without spaces are RFC 8785.
    """
    unsigned = {name: value for name, value in command.items() if name != "sig"}
    canonical = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    expected = hmac.new(key, canonical, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, str(command.get("sig", "")))


class Meter:
    """One meter and its connection."""

    def __init__(self, device_id: str, command_key: bytes | None, interval_s: float) -> None:
        self.device_id = device_id
        self.command_key = command_key
        self.interval_s = interval_s
        self.stopping = threading.Event()
        self.acknowledged = 0
        self.answered = 0
        self._seq = 0
        self._lock = threading.Lock()
        self._done = collections.deque(maxlen=REMEMBERED_COMMANDS)
        self._waiting: set[int] = set()

        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=device_id, protocol=mqtt.MQTTv5, manual_ack=False
        )
        self.client.on_connect = self._connected
        self.client.on_message = self._commanded
        self.client.on_publish = self._published
        self.client.on_disconnect = self._disconnected
        will = {"v": 2, "device_id": device_id, "ts": now(), "status": "offline"}
        self.client.will_set(self._topic("status"), json.dumps(will), qos=1, retain=True)

    def connect(self, host: str, port: int, token: str | None, ca: str | None) -> None:
        """Begins to connect; paho connects again by itself whenever the connection is lost."""
        if token is not None:
            self.client.username_pw_set(self.device_id, token)
        if ca is not None:
            self.client.tls_set_context(ssl.create_default_context(cafile=ca))
        self.client.reconnect_delay_set(min_delay=1, max_delay=30)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        self.client.connect(host, port, keepalive=KEEP_ALIVE_S, clean_start=False, properties=properties)
        self.client.loop_start()

    def run(self, count: int | None, commands: int) -> None:
        """Sends a datagram each interval until `count` of them are acknowledged and `commands` answered, or it is stopped."""
        sent = 0
        while not self.stopping.is_set():
            if count is None or sent < count:
                self.send_telemetry(sent)
                sent += 1
            elif self.acknowledged >= count and self.answered >= commands:
                break
            self.stopping.wait(self.interval_s)

    def close(self) -> None:
        """Says that it is going, waits until that is sent, and disconnects."""
        if self.client.is_connected():
            self._say_status("offline").wait_for_publish(timeout=5)
        self.client.disconnect()
        self.client.loop_stop()

    def send_telemetry(self, step: int) -> None:
        """A datagram of one sample: a voltage, and a current that swings between driving and braking."""
        ts = now()
        measurements = [
            {"ts": ts, "type": "voltage_dc", "val": round(750 + 5 * math.sin(step), 3), "unit": "V"},
            {"ts": ts, "type": "current_dc", "val": round(300 * math.sin(step / 5), 3), "unit": "A"},
        ]
        info = self._say("telemetry", "telemetry", {"ts": ts, "measurements": measurements})
        with self._lock:
            self._waiting.add(info.mid)

    def _topic(self, suffix: str) -> str:
        return f"iot/{self.device_id}/{suffix}"

    def _say(self, suffix: str, msg_type: str, body: dict) -> mqtt.MQTTMessageInfo:
        """Publishes with QoS 2. One counter runs over all kinds of messages."""
        with self._lock:
            seq, self._seq = self._seq, (self._seq + 1) % 2**32
        envelope = {"v": 2, "device_id": self.device_id, "ts": now(), "seq": seq, "msg_type": msg_type}
        return self.client.publish(self._topic(suffix), json.dumps(envelope | body), qos=2)

    def _say_status(self, status: str) -> mqtt.MQTTMessageInfo:
        body = {"v": 2, "device_id": self.device_id, "ts": now(), "status": status}
        return self.client.publish(self._topic("status"), json.dumps(body), qos=1, retain=True)

    def _connected(self, client, _userdata, flags, reason, _properties) -> None:
        if reason.is_failure:
            print(f"refused: {reason}", file=sys.stderr)
            return
        print(f"connected, session present: {flags.session_present}", flush=True)
        client.subscribe(self._topic("command"), qos=2)
        self._say_status("online")

    def _disconnected(self, _client, _userdata, _flags, reason, _properties) -> None:
        if reason.is_failure:
            print(f"the connection was lost: {reason}", file=sys.stderr)

    def _published(self, _client, _userdata, mid, _reason, _properties) -> None:
        with self._lock:
            if mid in self._waiting:
                self._waiting.remove(mid)
                self.acknowledged += 1

    def _commanded(self, _client, _userdata, message) -> None:
        try:
            command = json.loads(message.payload)
            cmd_id, cmd = command["cmd_id"], command["cmd"]
        except (ValueError, KeyError, TypeError) as error:
            print(f"a command that cannot be read: {error}", file=sys.stderr)
            return
        if cmd_id in self._done:
            return  # The same command may be delivered again.
        result, detail = self._execute(command)
        self._done.append(cmd_id)
        self._say("command/ack", "command_ack", {"cmd_id": cmd_id, "result": result, "detail": detail})
        self.answered += 1
        print(f"command {cmd}: {result}", flush=True)

    def _execute(self, command: dict) -> tuple[str, str]:
        if self.command_key is not None and not is_signed_by(self.command_key, command):
            return "rejected", "bad signature"
        match command["cmd"]:
            case "request_status":
                self._say_status("online")
                return "accepted", ""
            case "update_config":
                self.interval_s = command.get("params", {}).get("send_interval_s", self.interval_s)
                return "accepted", ""
            case other:
                return "unsupported", f"this meter does not know {other}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", required=True, help="the meter's id")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8883)
    parser.add_argument("--token-file", help="file with the meter's token")
    parser.add_argument("--ca", help="authority to trust (PEM); without it the connection is not encrypted")
    parser.add_argument("--command-key-file", help="file with the command key, hexadecimal; commands must be signed by it")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between datagrams")
    parser.add_argument("--count", type=int, help="end after so many acknowledged datagrams")
    parser.add_argument("--commands", type=int, default=0, help="... and so many answered commands")
    arguments = parser.parse_args()

    def content(path: str | None) -> str | None:
        if path is None:
            return None
        with open(path, encoding="utf-8") as file:
            return file.read().strip()

    key = content(arguments.command_key_file)
    meter = Meter(arguments.device, bytes.fromhex(key) if key else None, arguments.interval)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: meter.stopping.set())
    meter.connect(arguments.host, arguments.port, content(arguments.token_file), arguments.ca)
    meter.run(arguments.count, arguments.commands)
    meter.close()
    print(f"{meter.acknowledged} datagrams acknowledged, {meter.answered} commands answered")
    return 0


if __name__ == "__main__":
    sys.exit(main())
