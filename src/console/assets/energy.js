// Energy: bars of a device or of the fleet, and who of the fleet drew and fed back how much.
import * as api from './api.js';
import { bars, describe } from './bars.js';
import { deviceLink, el, fill, number, table, word } from './dom.js';

// What can be looked at: name -> [period, how far back, how often it is read again].
const VIEWS = {
  'Last hour, by minute': ['1m', '-59m', 15000],
  'Last 3 hours, by 5 minutes': ['5m', '-175m', 15000],
  'Last 12 hours, by 15 minutes': ['15m', '-705m', 60000],
  'Last 2 days, by hour': ['1h', '-47h', 120000],
  'Last 14 days, by day': ['1d', '-13d', 600000],
};
const FIRST = 'Last 3 hours, by 5 minutes';
const GROUPS = { device: 'Device', type: 'Type', location: 'Location' };
const SHOWN = 100;

const kwh = (wh) => number(wh / 1000);
const sum = (rows, name) => rows.reduce((all, row) => all + row[name], 0);

function select(id, names, chosen, change) {
  const options = names.map(([value, text]) => el('option', { value, selected: value === chosen }, text));
  return el('select', { id, onchange: (event) => change(event.target.value) }, ...options);
}

const views = () => Object.keys(VIEWS).map((name) => [name, name]);

// `read` gives rows anew when the view has changed or they are old, and the last ones otherwise: the page asks far more
// often than an interval ends.
function reader(read) {
  let [key, at, rows] = ['', 0, []];
  return async (view, more = '') => {
    const [period, start, every] = VIEWS[view];
    if (key === view + more && Date.now() - at < every) return rows;
    rows = await read(period, start);
    [key, at] = [view + more, Date.now()];
    return rows;
  };
}

function figure(title, intervals, width) {
  const bad = intervals.filter((i) => i.quality !== 'valid');
  const caption = `${title}: drawn ${kwh(sum(intervals, 'import_wh'))} kWh, fed back ${kwh(sum(intervals, 'export_wh'))} kWh`;
  const doubtful = bad.length === 0 ? null : el('details', {},
    el('summary', {}, `${bad.length} of ${intervals.length} intervals are uncertain or missing`),
    el('ul', {}, ...bad.slice(-SHOWN).map((i) => el('li', {}, describe(i)))));
  return [el('figcaption', {}, caption), bars(caption, intervals, width), doubtful];
}

// A part of a device's page.
export function energyOf(id, refresh) {
  let view = FIRST;
  const box = el('figure', { class: 'card' });
  const choose = select('energy-view', views(), view, (name) => { view = name; refresh(); });
  const read = reader((period, start) => api.get(`${api.device(id)}/energy?period=${period}&start=${start}`));
  let shown = null;
  return {
    part: el('div', {}, el('div', { class: 'tools' },
      el('div', {}, el('label', { for: 'energy-view' }, 'Energy'), choose)), box),
    show: async (width) => {
      const rows = await read(view);
      // What has not changed stays, with what is opened in it.
      if (rows !== shown) fill(box, ...figure(view, rows, width).filter((node) => node));
      shown = rows;
    },
  };
}

const columns = (group) => [
  [GROUPS[group], (r) => {
    if (group === 'device') return deviceLink(r.device_id);
    return (group === 'type' ? r.device_type : r.location) || '–';
  }],
  ['Devices', (r) => number(r.devices), 'number wide'],
  ['Drawn, kWh', (r) => kwh(r.import_wh), 'number'],
  ['Fed back, kWh', (r) => kwh(r.export_wh), 'number'],
  ['Apparent, kVAh', (r) => kwh(r.apparent_vah), 'number wide'],
  ['Covered', (r) => `${Math.round(r.coverage * 100)} %`, 'number'],
  ['Quality', (r) => word(r.quality)],
];

export function energyPage(main, refresh) {
  let [view, group] = [FIRST, 'type'];
  const [chart, rows] = [el('figure', { class: 'card' }), el('div')];
  const chooseView = select('view', views(), view, (name) => { view = name; refresh(); });
  const chooseGroup = select('group', Object.entries(GROUPS), group, (name) => { group = name; refresh(); });
  main.replaceChildren(el('h1', {}, 'Energy'),
    el('div', { class: 'tools' },
      el('div', {}, el('label', { for: 'view' }, 'Time'), chooseView),
      el('div', {}, el('label', { for: 'group' }, 'Added up by'), chooseGroup)),
    chart, rows);
  const whole = reader((period, start) => api.get(`/api/energy?group_by=period&period=${period}&start=${start}`));
  const parts = reader((period, start) => api.get(`/api/energy?group_by=${group}&start=${start}`));
  let shown = [];

  return async () => {
    const [intervals, groups] = await Promise.all([whole(view), parts(view, group)]);
    if (intervals === shown[0] && groups === shown[1]) return;
    shown = [intervals, groups];
    fill(chart, ...figure(`All devices, ${view.toLowerCase()}`, intervals, main.clientWidth - 30).filter((node) => node));
    const most = [...groups].sort((a, b) => b.import_wh - a.import_wh).slice(0, SHOWN);
    const left = groups.length > SHOWN ? el('p', { class: 'soft' }, `The ${SHOWN} that drew most, of ${groups.length}.`) : '';
    fill(rows, table('Energy', columns(group), most, 'There are no devices.'), left);
  };
}
