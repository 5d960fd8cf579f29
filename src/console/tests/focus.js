// Every table with controls: a row comes on top of the one that has the focus, then that one goes.
import { same, serve } from './page.js';
import * as api from './api.js';
import { alertsPage } from './alerts.js';
import { devicePage } from './device.js';
import { fleetPage } from './fleet.js';
import { rolloutsPage } from './rollouts.js';
import { rulesPage } from './rules.js';

// A row of every table with controls; its text has the number in it.
const LISTS = {
  '/api/alerts': (n) => ({ id: n, device_id: `m${n}`, alert_type: 'high', severity: 'info', state: 'open', message: '' }),
  '/api/rules': (n) => ({ id: n, name: `m${n}`, metric: 'pf', op: 'gt', threshold: 1, clear_threshold: null }),
  '/api/rollouts': (n) => ({ id: n, version: `m${n}`, state: 'running', stage: 1, stages: [1],
    counts: { devices: 1, confirmed: 0, skipped: 0, failed: 0, under_way: 1 } }),
  '/api/devices': (n) => ({ device_id: `m${n}`, connection_status: 'online' }),
  '/api/devices/m/commands': (n) => ({ cmd_id: `c${n}`, cmd: 'reboot', status: 'pending', created_by: `m${n}` }),
  '/api/devices/m/alerts': (n) => ({ ...LISTS['/api/alerts'](n), alert_type: `m${n}` }),
};
let [listed, rows] = ['', []];
serve((path) => {
  const [bare] = path.split('?');
  if (bare === '/api/session') return { role: 'admin', csrf_token: 'x' };
  if (bare === '/api/devices/m') return { connection_status: 'online' };
  return bare === listed ? rows.map(LISTS[bare]) : [];
});
await api.readSession();

const main = document.getElementById('main');
const row = (text) => main.within().find((node) => node.name === 'tr' && node.textContent.includes(text));
const controls = (text) => row(text).within().filter((node) => ['a', 'button'].includes(node.name));

async function check(path, many, page) {
  listed = path;
  const show = page(main, () => {});
  const showRows = async (...numbers) => { rows = numbers; await show(); };
  await showRows(1);
  same(controls('m1').length, many, `controls of a row of ${path}`);
  for (let n = 0; n < many; n += 1) {
    await showRows(1);
    controls('m1')[n].focus();
    main.querySelectorAll('.scroll')[0].scrollLeft = 70;
    await showRows(2, 1);
    same(document.activeElement === controls('m1')[n], true, `${path}, control ${n} keeps the focus`);
    same(main.querySelectorAll('.scroll')[0].scrollLeft, 70, `${path} stays scrolled`);
    await showRows(2);
    same(document.activeElement === document.body, true, `${path}, control ${n} leaves the focus to no other row`);
  }
}
await check('/api/alerts', 2, alertsPage);
await check('/api/rules', 3, rulesPage);
await check('/api/rollouts', 2, rolloutsPage);
await check('/api/devices', 1, fleetPage);
await check('/api/devices/m/commands', 1, (box, refresh) => devicePage(box, 'm', refresh));
await check('/api/devices/m/alerts', 1, (box, refresh) => devicePage(box, 'm', refresh));

// The link past the navigation stays on the page.
globalThis.setTimeout = () => 0;
await import('./app.js');
let stayed = false;
document.getElementById('skip').heard.click({ preventDefault() { stayed = true; } });
same([stayed, document.activeElement === main], [true, true], 'the content has the focus, and its page stays');
