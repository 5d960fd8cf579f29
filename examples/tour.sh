#!/usr/bin/env bash
# A tour of the API with curl and mosquitto_pub: a meter is registered, says something, is asked about, and goes again.
#
#   iot-meter serve --data-dir data &
#   examples/tour.sh                      # finds the key of ./data; or IOT_METER_API_KEY, IOT_METER_API, MQTT_PORT
set -euo pipefail

api="${IOT_METER_API:-http://127.0.0.1:8080}"
key="${IOT_METER_API_KEY:-$(cat data/admin.key)}"
mqtt_host="${MQTT_HOST:-127.0.0.1}"
mqtt_port="${MQTT_PORT:-1883}"
device="tour-$$"

say() { printf '\n== %s\n' "$*"; }
call() { # METHOD PATH [BODY]: the answer, or the problem and the end
    local method="$1" path="$2"
    shift 2
    curl --silent --show-error --fail-with-body --request "$method" --header "Authorization: Bearer $key" \
        ${1:+--header 'Content-Type: application/json' --data "$1"} "$api$path"
    echo
}
member() { # NAME: a text member of the JSON on stdin
    sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

say "is it there?"
curl --silent --fail "$api/health"
echo

say "register $device"
token="$(call POST /api/devices "{\"device_id\": \"$device\", \"device_name\": \"Tour\", \"location\": \"Depot\"}" | member token)"
trap 'call DELETE "/api/devices/$device?purge=true"' EXIT
call GET "/api/devices?q=$device"

say "the meter says something (its password is its token, which was shown only once)"
now() { date -u +%Y-%m-%dT%H:%M:%S.000Z; }
sample() { # TIME: what the meter measures then
    printf '{"ts": "%s", "type": "voltage_dc", "val": 751.5, "unit": "V"}, ' "$1"
    printf '{"ts": "%s", "type": "current_dc", "val": 120, "unit": "A"}' "$1"
}
first="$(now)"
sleep 1
ts="$(now)"
telemetry="{\"v\": 2, \"device_id\": \"$device\", \"ts\": \"$ts\", \"seq\": 0, \"msg_type\": \"telemetry\", \"measurements\": [
  $(sample "$first"),
  $(sample "$ts")]}"
mosquitto_pub -h "$mqtt_host" -p "$mqtt_port" -i "$device" -u "$device" -P "$token" -q 2 -t "iot/$device/telemetry" -m "$telemetry"

say "it was acknowledged, so it is on disk; the database has it a moment later"
for _ in $(seq 100); do
    readings="$(call GET "/api/devices/$device/metrics?start=-5m&metric=active_power")"
    [ "$readings" != "[]" ] && break
    sleep 0.1
done
echo "$readings"
call GET "/api/devices/$device/latest"

say "energy, from one sample to the next: 90180 W for one second are 25.05 Wh"
call GET "/api/devices/$device/energy?start=-5m&period=5m"

say "byte for byte as it came"
call GET "/api/devices/$device/raw-data?limit=1"

say "an alert by hand, seen by somebody"
alert="$(call POST "/api/devices/$device/alerts" '{"alert_type": "inspection", "severity": "info", "message": "look at the fuse"}')"
id="$(sed -n 's/.*"id":\([0-9]*\).*/\1/p' <<<"$alert")"
call POST "/api/alerts/$id/acknowledge"

say "a command waits for the meter to come back"
call POST "/api/devices/$device/commands" '{"cmd": "update_config", "params": {"send_interval_s": 30}}'
call GET "/api/devices/$device/commands?status=pending"

say "what is wrong is named"
call POST /api/devices '{"device_id": "../nonsense"}' || true

say "figures"
call GET /api/stats
