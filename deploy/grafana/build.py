#!/usr/bin/env python3
"""Writes the dashboards in dashboards/ from their sources in source/.

    python3 deploy/grafana/build.py           writes them
    python3 deploy/grafana/build.py --check   says which are not what the sources make, and ends with 1

A test runs the latter. Nothing but Python's standard library is needed.
"""

import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from source import broker, device, energy, fleet, overview, security, storage

HERE = Path(__file__).resolve().parent / "dashboards"
BOARDS = [room.board() for room in (overview, fleet, device, energy, broker, storage, security)]


def main() -> int:
    wanted = {f"{board.uid.removeprefix('iot-meter-')}.json": board.json() for board in BOARDS}
    texts = {name: json.dumps(made, indent=1, ensure_ascii=False) + "\n" for name, made in wanted.items()}
    if sys.argv[1:] == ["--check"]:
        there = {path.name: path.read_text(encoding="utf-8") for path in HERE.glob("*.json")}
        stale = sorted(name for name in texts.keys() | there.keys() if texts.get(name) != there.get(name))
        for name in stale:
            print(f"deploy/grafana/dashboards/{name} is not what the sources make: `make dashboards` writes it anew")
        return 1 if stale else 0
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    for path in HERE.glob("*.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (HERE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
