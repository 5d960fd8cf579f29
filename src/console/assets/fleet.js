// The fleet: every device with its state and newest values.
import * as api from './api.js';
import { deviceLink, el, fill, moment, notice, quantity, table, word } from './dom.js';

const PER_PAGE = 25;
const SHOWN = ['voltage_dc', 'current_dc', 'voltage_ac', 'current_ac'];
const filters = { q: '', connection_status: '', page: 1 };

function values(latest) {
  const known = latest.filter((value) => SHOWN.includes(value.metric));
  return (known.length ? known : latest.slice(0, 2)).map((v) => quantity(v.value, v.unit)).join(' · ') || '–';
}

async function withLatest(device) {
  try {
    return { ...device, latest: await api.get(`${api.device(device.device_id)}/latest`) };
  } catch {
    return { ...device, latest: [] };
  }
}

const columns = [
  ['Device', (d) => deviceLink(d.device_id)],
  ['Name', (d) => d.device_name, 'wide'],
  ['State', (d) => word(d.connection_status)],
  ['Last seen', (d) => moment(d.last_seen)],
  ['Latest values', (d) => values(d.latest)],
  ['Location', (d) => d.location || '–', 'wide'],
  ['Firmware', (d) => d.fw_version || '–', 'wide'],
];

const STATES = { 201: 'registered', 200: 'known' };
const verdicts = [
  ['Line', (v) => String(v.line)],
  ['Device', (v) => v.device_id || '–'],
  ['State', (v) => STATES[v.status] || 'refused'],
  ['MQTT password, shown only now', (v) => v.token || '–'],
  ['Why', (v) => v.error || '–', 'wide'],
];

// Registers the meters of a file, and shows what became of its rows.
async function register(input, box, refresh) {
  const [file] = input.files;
  if (!file) return;
  const type = file.name.toLowerCase().endsWith('.csv') ? 'text/csv' : 'application/x-ndjson';
  try {
    const done = await api.upload('/api/devices/import', file, type);
    notice(`${done.registered} registered, ${done.known} known already, ${done.refused} refused`);
    box.replaceChildren(table('Rows of the file', verdicts, done.rows, 'No rows.'));
    refresh();
  } catch (error) {
    notice(error.message);
  }
  input.value = '';
}

export function fleetPage(main, refresh) {
  const again = () => { filters.page = 1; refresh(); };
  const search = el('input', { id: 'q', type: 'search', value: filters.q,
    oninput: (event) => { filters.q = event.target.value; again(); } });
  const states = ['', 'online', 'offline', 'unknown'].map((state) =>
    el('option', { value: state, selected: state === filters.connection_status }, state || 'all'));
  const select = el('select', { id: 'state',
    onchange: (event) => { filters.connection_status = event.target.value; again(); } }, ...states);
  const body = el('div');
  const imported = el('div');
  const file = el('input', { id: 'import', type: 'file', accept: '.csv,.jsonl,.ndjson',
    onchange: () => register(file, imported, refresh) });
  const may_write = (api.session() || {}).role !== 'viewer';
  main.replaceChildren(el('h1', {}, 'Fleet'),
    el('div', { class: 'tools' },
      el('div', {}, el('label', { for: 'q' }, 'Search id or name'), search),
      el('div', {}, el('label', { for: 'state' }, 'State'), select),
      may_write ? el('div', {}, el('label', { for: 'import' }, 'Register from CSV or JSON lines'), file) : null),
    imported, body);

  return async () => {
    const query = new URLSearchParams({ page: filters.page, per_page: PER_PAGE });
    for (const name of ['q', 'connection_status']) if (filters[name]) query.set(name, filters[name]);
    const { body: devices, total } = await api.list(`/api/devices?${query}`);
    const rows = await Promise.all(devices.map(withLatest));
    const turn = (by) => () => { filters.page += by; refresh(); };
    const pages = Math.max(1, Math.ceil(total / PER_PAGE));
    fill(body, table('Devices', columns, rows, 'No device matches.'),
      el('p', { class: 'tools' },
        el('button', { type: 'button', 'data-key': 'back', disabled: filters.page <= 1, onclick: turn(-1) }, 'Back'),
        el('span', {}, `Page ${filters.page} of ${pages}, ${total} devices`),
        el('button', { type: 'button', 'data-key': 'next', disabled: filters.page >= pages, onclick: turn(1) }, 'Next')));
  };
}
