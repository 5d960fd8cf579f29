// Runs api.js a little where there is no k6: its options must be thresholds k6 would take, its calls must be answered.
//
//   URL=http://127.0.0.1:8080 node tests/performance/without-k6.mjs [ITERATIONS]
//
// k6's modules are stood in for by as much of them as api.js uses; requests are made by curl, since k6's wait for their answer.
// Prints {thresholds, calls, checks: {passed, failed}} as JSON. Nothing is measured.
import { readFileSync } from 'node:fs';

const folder = new URL('./', import.meta.url);
const moduleOf = (text) => `data:text/javascript,${encodeURIComponent(text)}`;

const http = moduleOf(`
  import { spawnSync } from 'node:child_process';
  const request = (method, url, body, { headers = {}, tags = {} } = {}) => {
    globalThis.seen.calls[tags.name || 'setup'] = (globalThis.seen.calls[tags.name || 'setup'] || 0) + 1;
    const given = Object.entries(headers).flatMap(([name, value]) => ['--header', name + ': ' + value]);
    const written = ['--silent', '--show-error', '--write-out', '\\n%{http_code}', '--request', method, ...given];
    const { stdout, stderr, status } = spawnSync('curl', [...written, ...(body === null ? [] : ['--data', body]), url], { encoding: 'utf8' });
    if (status !== 0) throw new Error(url + ': ' + stderr);
    const end = stdout.lastIndexOf('\\n');
    const text = stdout.slice(0, end);
    return { status: Number(stdout.slice(end + 1)), body: text, json: () => JSON.parse(text) };
  };
  export default { request, get: (url, params) => request('GET', url, null, params) };
`);
const k6 = moduleOf(`
  export const check = (value, wanted) => Object.values(wanted).every((holds) => {
    globalThis.seen.checks[holds(value) ? 'passed' : 'failed'] += 1;
    return holds(value);
  });
  export const fail = (text) => { throw new Error(text); };
  export const sleep = (seconds) => { if (!(seconds >= 0)) throw new Error('sleep(' + seconds + ')'); };
`);

// Evenly spread, so that a few hundred calls are of all kinds, and the same each time.
let turn = 0;
Math.random = () => (turn += 0.6180339887498949) % 1;

globalThis.seen = { calls: {}, checks: { passed: 0, failed: 0 } };
globalThis.__ENV = process.env;
globalThis.open = (path) => readFileSync(path.startsWith('./') ? new URL(path, folder) : path, 'utf8');

const text = readFileSync(new URL('api.js', folder), 'utf8');
const script = await import(moduleOf(text.replace(`'k6/http'`, JSON.stringify(http)).replace(`'k6'`, JSON.stringify(k6))));
const data = script.setup();
for (let done = 0; done < Number(process.argv[2] || 50); done += 1) {
  script.default(data);
}
// What k6 takes: "p(95)<500", "rate<0.01".
for (const [metric, limits] of Object.entries(script.options.thresholds)) {
  for (const limit of limits) {
    if (!/^(p\(\d+(\.\d+)?\)|rate|avg|min|max|med|count)[<>]=?\d+(\.\d+)?$/.test(limit)) throw new Error(`${metric}: ${limit}`);
  }
}
console.log(JSON.stringify({ thresholds: script.options.thresholds, ...globalThis.seen }));
