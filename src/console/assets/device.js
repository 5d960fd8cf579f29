// One device: newest values, the last ten minutes as a chart, its energy, its alerts and its commands.
import * as api from './api.js';
import { chart } from './chart.js';
import { alertTable } from './alerts.js';
import { energyOf } from './energy.js';
import { el, fill, moment, notice, quantity, table, word } from './dom.js';

const MINUTES = 10;
const GROUPS = [
  ['Voltage', ['voltage_dc', 'voltage_ac'], 'a'],
  ['Current', ['current_dc', 'current_ac'], 'b'],
  ['Active power', ['active_power'], 'c'],
];
const COMMANDS = {
  request_status: '{}',
  update_config: '{"send_interval_s": 10}',
  reboot: '{}',
  factory_reset: '{}',
  start_ota: '{"fw_version": "", "fw_url": "", "fw_sha256": "", "fw_size_bytes": 0}',
};
const RISKY = ['reboot', 'factory_reset', 'start_ota'];

function charts(points, width) {
  const [from, to] = [Date.now() - MINUTES * 60000, Date.now()];
  return GROUPS.flatMap(([title, names, kind]) => names.map((name) => {
    const own = points.filter((p) => p.metric === name);
    if (own.length === 0) return null;
    const last = own[own.length - 1];
    return el('figure', { class: 'card' },
      el('figcaption', {}, `${title}: ${quantity(last.value, last.unit)} `, moment(last.time)),
      chart(`${title}, last ${MINUTES} minutes`, own.map((p) => [Date.parse(p.time), p.value]), [from, to], kind, width));
  })).filter((figure) => figure !== null);
}

const card = (v) => el('div', { class: 'card' }, el('span', { class: 'soft' }, v.metric),
  el('b', {}, quantity(v.value, v.unit)), moment(v.time),
  v.quality ? el('span', { class: 'warning' }, ' out of range') : null);

function commandForm(id, refresh) {
  const params = el('textarea', { id: 'params', rows: 3, spellcheck: 'false' });
  const select = el('select', { id: 'cmd', onchange: () => { params.value = COMMANDS[select.value]; } },
    ...Object.keys(COMMANDS).map((name) => el('option', { value: name }, name)));
  params.value = COMMANDS[select.value];
  async function submit(event) {
    event.preventDefault();
    if (RISKY.includes(select.value) && !window.confirm(`Send ${select.value} to ${id}?`)) return;
    try {
      const body = { cmd: select.value, params: JSON.parse(params.value || '{}') };
      const answer = await api.post(`${api.device(id)}/commands`, body);
      notice(`${answer.cmd}: ${answer.message}`);
      refresh();
    } catch (error) {
      notice(error.message);
    }
  }
  return el('form', { class: 'card', onsubmit: submit },
    el('label', { for: 'cmd' }, 'Command'), select,
    el('label', { for: 'params' }, 'Parameters (JSON)'), params,
    el('button', { type: 'submit' }, 'Send'));
}

function commandTable(commands, refresh) {
  const cancel = async (command) => {
    try {
      await api.remove(`/api/commands/${command.cmd_id}`);
      refresh();
    } catch (error) {
      notice(error.message);
    }
  };
  return table('Commands', [
    ['Command', (c) => c.cmd],
    ['State', (c) => word(c.status)],
    ['Given', (c) => moment(c.created_at)],
    ['By', (c) => c.created_by, 'wide'],
    ['Detail', (c) => c.detail || '–', 'wide'],
    ['', (c) => (c.status === 'pending'
      ? el('button', { type: 'button', 'data-key': `cancel-${c.cmd_id}`, onclick: () => cancel(c) }, 'Cancel') : '')],
  ], commands, 'No command was given.');
}

export function devicePage(main, id, refresh) {
  const [facts, values, graphs, alerts, commands] = Array.from({ length: 5 }, () => el('div'));
  const energy = energyOf(id, refresh);
  main.replaceChildren(el('h1', {}, id), facts,
    el('h2', {}, 'Latest values'), values,
    el('h2', {}, `Last ${MINUTES} minutes`), graphs,
    el('h2', {}, 'Energy'), energy.part,
    el('h2', {}, 'Alerts'), alerts,
    el('h2', {}, 'Commands'), commandForm(id, refresh), commands);

  return async () => {
    const path = api.device(id);
    const metrics = GROUPS.flatMap(([, names]) => names).join(',');
    const [device, latest, points, open, given] = await Promise.all([
      api.get(path),
      api.get(`${path}/latest`),
      api.get(`${path}/metrics?start=-${MINUTES}m&metric=${metrics}&max_points=400`),
      api.get(`${path}/alerts?per_page=10`),
      api.get(`${path}/commands?per_page=10`),
    ]);
    fill(facts, el('p', {}, `${device.device_name} · `, word(device.connection_status), ' · seen ',
      moment(device.last_seen), ` · ${device.device_type} · ${device.location || 'no location'}`,
      ` · firmware ${device.fw_version || 'unknown'} · ${device.status}`));
    fill(values, latest.length
      ? el('div', { class: 'values' }, ...latest.map(card)) : el('p', { class: 'soft' }, 'Nothing measured yet.'));
    const figures = charts(points, main.clientWidth - 30);
    fill(graphs, ...(figures.length ? figures : [el('p', { class: 'soft' }, 'No data in this time.')]));
    await energy.show(main.clientWidth - 30);
    fill(alerts, alertTable(open, refresh, false));
    fill(commands, commandTable(given, refresh));
  };
}
