"""Objects of the Prometheus Operator against its own definitions. Run by deploy/check.

    monitors.py RENDERED.yaml …     ServiceMonitors and PrometheusRules among whatever else is in the files

The models are generated from the operator's definitions: they know every member, its type and its pattern, but pass over what they
do not know. So what they read is written again and has to be what it was.
"""

import pathlib
import sys

import yaml
from cloudcoil.models.prometheus_operator import v1
from pydantic import ValidationError


def faults(thing):
    try:
        read = getattr(v1, thing["kind"]).model_validate(thing)
    except ValidationError as error:
        return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    written = read.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return list(unknown(thing, written, thing["kind"]))


def unknown(given, written, where):
    """Where the two differ."""
    if isinstance(given, dict) and isinstance(written, dict):
        for key in given:
            if key in written:
                yield from unknown(given[key], written[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}: the operator knows no such member"
    elif isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        for n, pair in enumerate(zip(given, written)):
            yield from unknown(*pair, f"{where}[{n}]")
    elif given != written:
        yield f"{where}: {given!r} is read as {written!r}"


def main(files):
    found, wrong = set(), []
    for file in map(pathlib.Path, files):
        for thing in yaml.safe_load_all(file.read_text()):
            if thing and thing["apiVersion"] == "monitoring.coreos.com/v1":
                found.add(thing["kind"])
                wrong += [f"{file.name}: {fault}" for fault in faults(thing)]
    if found != {"ServiceMonitor", "PrometheusRule"}:
        wrong.append(f"objects of the Prometheus Operator: found {sorted(found)}")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"Prometheus Operator: {', '.join(sorted(found))} as its definitions want them")


main(sys.argv[1:])
