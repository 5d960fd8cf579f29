// A server that hangs: ages go on, and the page says of when what it shows is.
import { same, seconds, serve, settled } from './page.js';

let [hangs, now] = [false, Date.parse('2026-02-12T10:00:02Z')];
Date.now = () => now;
serve((path) => {
  if (path.startsWith('/api/devices?')) {
    return [{ device_id: 'm', connection_status: 'online', last_seen: '2026-02-12T10:00:00Z' }];
  }
  return path === '/api/stats' ? { total_devices: 1, device_by_connection: [] } : [];
});
// What hangs ends by the limit that was given to it, and without one never.
const { fetch } = globalThis;
const waiting = [];
globalThis.fetch = (path, options) => (hangs
  ? new Promise((_, fail) => { waiting.push(() => options.signal && fail(options.signal.reason)); }) : fetch(path, options));
let limit_ms = 0;
AbortSignal.timeout = (ms) => { limit_ms = ms; return { reason: new Error('signal timed out') }; };
let refresh;
globalThis.setTimeout = (act, after) => { if (after < 8000) refresh = act; return 0; };
await import('./app.js');
await settled();

const main = document.getElementById('main');
const trouble = () => document.getElementById('trouble').textContent;
const is_old = () => main.getAttribute('class') === 'old';
same(main.textContent.includes('2 s ago'), true, 'it is shown');
same(limit_ms > 0 && limit_ms <= 30000, true, `a read ends after ${limit_ms} ms`);
same(is_old(), false, 'it is new');
hangs = true;
const done = refresh();
now += 60000;
seconds.forEach((act) => act());
same(main.textContent.includes('62 s ago'), true, 'the age goes on');
for (let n = 0; n < 9; n += 1) {
  waiting.splice(0).forEach((end) => end());
  await settled();
}
same(is_old(), true, 'it is dimmed');
same(/^The server does not answer\. What is shown is as of .*\d.*\.$/.test(trouble()), true, `the page says "${trouble()}"`);
await done;
hangs = false;
await refresh();
same([is_old(), trouble().startsWith('The server')], [false, false], 'it is back');
