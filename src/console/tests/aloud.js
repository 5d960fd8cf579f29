// What a screen reader hears of the strip while figures move, a task fails and the server is away.
import { aloud, same, serve, settled } from './page.js';

const LOST = 'The server does not answer. What is shown is as of ';
let [answers, state, bytes] = [true, 'running', 0];
serve((path) => {
  if (!answers) throw new Error('connection refused');
  if (path === '/api/stats') return { total_devices: 1, device_by_connection: [] };
  if (path !== '/api/system/status') return [];
  bytes += 1048576;
  const [journal, behind] = [{ bytes }, { lag_messages: 0 }];
  return { version: '1', tasks: { collector: { state } }, journal, collector: behind, archiver: behind };
});
const now = new Date().toLocaleTimeString();
Date.prototype.toLocaleTimeString = () => now;
let refresh;
globalThis.setTimeout = (act, after) => { if (after < 8000) refresh = act; return 0; };
await import('./app.js');
await settled();

const figures = () => document.getElementById('system').textContent;
async function check(expected, what) {
  aloud.length = 0;
  for (let n = 0; n < 3; n += 1) {
    const before = figures();
    await refresh();
    if (answers) same(figures() !== before, true, `${what}: the figures move`);
  }
  same(aloud, expected, what);
}
await check([], 'all is well');
state = 'retrying';
await check(['collector: retrying'], 'a task is troubled');
state = 'running';
await check([''], 'the task is well again');
answers = false;
await check([`${LOST}${now}.`], 'the connection is lost');
same(figures(), '', 'no figures of before');
answers = true;
await check([''], 'it is back');
