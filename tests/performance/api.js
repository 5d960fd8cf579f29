// Load on the REST API, for k6: the calls and limits of scenario.json, which `cargo bench --bench api` runs without k6.
//
//   iot-meter serve --demo 20 --open
//   k6 run tests/performance/api.js
//   k6 run -e URL=https://meters.example -e KEY_FILE=/run/secrets/key -e CLIENTS=100 -e SECONDS=120 tests/performance/api.js
//
// The key needs the role operator (it sends heartbeats; -e READ_ONLY=1 leaves them out, then viewer is enough). One key and one
// address may ask http.read_per_s a second: what is refused for that counts as an error here.
//
// MQTT is not k6's: `iot-meter load` publishes as meters do and proves afterwards that all that was acknowledged is stored.
import http from 'k6/http';
import { check, fail, sleep } from 'k6';

const scenario = JSON.parse(open('./scenario.json'));
const url = (__ENV.URL || 'http://127.0.0.1:8080').replace(/\/$/, '');
const key = __ENV.KEY_FILE ? open(__ENV.KEY_FILE).trim() : __ENV.KEY;
const headers = key ? { Authorization: `Bearer ${key}` } : {};
const calls = scenario.calls.filter((call) => !__ENV.READ_ONLY || call.method === 'GET');
// Each call as often as its weight says.
const deck = calls.flatMap((call) => Array(call.weight).fill(call));

export const options = {
  vus: Number(__ENV.CLIENTS || scenario.clients),
  duration: `${__ENV.SECONDS || scenario.duration_s}s`,
  thresholds: Object.fromEntries([
    ['http_req_duration{kind:call}', [`p(95)<${scenario.p95_ms}`]],
    ['http_req_failed{kind:call}', [`rate<${scenario.errors}`]],
    ['checks', [`rate>${1 - scenario.errors}`]],
    ...calls.map((call) => [`http_req_duration{name:${call.name}}`, [`p(95)<${call.p95_ms || scenario.p95_ms}`]]),
  ]),
};

// Once, before the load: whose devices are asked for.
export function setup() {
  const answer = http.get(`${url}/api/devices?per_page=500`, { headers });
  if (answer.status !== 200) {
    fail(`${url}/api/devices answers ${answer.status}: ${answer.body}`);
  }
  const devices = answer.json().map((device) => device.device_id);
  if (devices.length === 0) {
    fail('there is no device: start the server with --demo 20');
  }
  return { devices };
}

const any = (list) => list[Math.floor(Math.random() * list.length)];

export default function (data) {
  const call = any(deck);
  const path = call.path.replace('{device}', any(data.devices));
  const answer = http.request(call.method, url + path, null, { headers, tags: { name: call.name, kind: 'call' } });
  check(answer, { 'is answered well': (a) => a.status >= 200 && a.status < 300 });
  sleep(scenario.pause_ms / 1000);
}
