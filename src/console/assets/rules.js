// Alert rules: what is watched for, of which devices; administrators add, change, switch and remove them.
import * as api from './api.js';
import { el, fill, notice, table, word } from './dom.js';

const OPS = { gt: '>', ge: '≥', lt: '<', le: '≤', eq: '=', ne: '≠' };
const METRICS = ['voltage_dc', 'current_dc', 'voltage_ac', 'current_ac', 'frequency', 'pf', 'thd_v', 'thd_i', 'temperature',
  'battery', 'active_power', 'apparent_power', 'reactive_power'];
// What the server says of a rule and does not want to be told.
const OWN = ['id', 'created_at', 'created_by', 'updated_at'];

const path = (rule) => `/api/rules/${rule.id}`;
const is_admin = () => (api.session() || {}).role === 'admin';

function condition(rule) {
  const parts = [`${rule.metric} ${OPS[rule.op]} ${rule.threshold}`];
  if (rule.for_s) parts.push(`for ${rule.for_s} s`);
  if (rule.clear_threshold !== null) parts.push(`over at ${rule.clear_threshold}`);
  return parts.join(', ');
}

function said(rule) {
  return Object.fromEntries(Object.entries(rule).filter(([name]) => !OWN.includes(name)));
}

// Puts `change` into a rule as it is now: somebody else's change meanwhile is refused, not overwritten.
async function change(rule, change_of) {
  const { body, tag } = await api.list(path(rule));
  await api.put(path(rule), { ...said(body), ...change_of }, tag);
}

const labelled = (id, title, field) => el('div', {}, el('label', { for: id }, title), field);
const options = (pairs, chosen) => pairs.map(([value, title]) =>
  el('option', { value, selected: value === chosen }, title));

// A form for a new rule or, with `before`, for another text of that rule.
function ruleForm(before, tag, done) {
  const rule = before || { op: 'gt', severity: 'warning', for_s: 0, enabled: true };
  const text = (name, title, more = {}) => labelled(`rule-${name}`, title,
    el('input', { id: `rule-${name}`, name, value: rule[name] ?? '', autocomplete: 'off', ...more }));
  const choice = (name, title, pairs) => labelled(`rule-${name}`, title,
    el('select', { id: `rule-${name}`, name }, ...options(pairs, rule[name])));
  const error = el('p', { class: 'error', role: 'alert' });
  async function submit(event) {
    event.preventDefault();
    const fields = new FormData(event.target);
    const given = (name) => fields.get(name).trim() || null;
    const figure = (name) => (given(name) === null ? null : Number(given(name)));
    const body = { enabled: rule.enabled, for_s: figure('for_s') };
    for (const name of ['name', 'metric', 'op', 'severity', 'devices', 'device_type', 'message']) body[name] = given(name);
    for (const name of ['threshold', 'clear_threshold']) body[name] = figure(name);
    try {
      if (before) await api.put(path(before), body, tag);
      else await api.post('/api/rules', body);
      done();
    } catch (failure) {
      error.textContent = failure.status === 412 ? 'Somebody has changed this rule meanwhile.' : failure.message;
    }
  }
  const figures = { type: 'number', step: 'any' };
  return el('form', { class: 'card', onsubmit: submit },
    el('h2', {}, before ? `Change ${before.name}` : 'New rule'),
    el('div', { class: 'tools' },
      text('name', 'Name', { required: true, maxlength: 64 }),
      text('metric', 'Metric', { required: true, maxlength: 64, list: 'rule-metrics' }),
      el('datalist', { id: 'rule-metrics' }, ...METRICS.map((name) => el('option', { value: name }))),
      choice('op', 'Is', Object.entries(OPS)),
      text('threshold', 'Threshold', { required: true, ...figures }),
      text('clear_threshold', 'Over at (if not the threshold)', figures),
      text('for_s', 'For seconds', { type: 'number', min: 0, max: 86400, step: 1 }),
      choice('severity', 'Severity', ['info', 'warning', 'critical'].map((name) => [name, name])),
      text('devices', 'Devices: prefix or pattern (all)', { maxlength: 128 }),
      text('device_type', 'Device type (any)', { maxlength: 64 }),
      text('message', 'Message begins with', { maxlength: 512 })),
    error,
    el('p', { class: 'tools' }, el('button', { type: 'submit' }, before ? 'Change' : 'Add'),
      el('button', { type: 'button', onclick: done }, 'Cancel')));
}

export function rulesPage(main, refresh) {
  const [tools, edit, body] = Array.from({ length: 3 }, () => el('div'));
  main.replaceChildren(el('h1', {}, 'Alert rules'), tools, edit, body);
  const close = () => { edit.replaceChildren(); refresh(); };
  const open = (before, tag) => {
    edit.replaceChildren(ruleForm(before, tag, close));
    edit.querySelector('input').focus();
  };
  const tried = (act) => async () => {
    try {
      await act();
      refresh();
    } catch (error) {
      notice(error.status === 412 ? 'Somebody has changed this rule meanwhile.' : error.message);
    }
  };
  const remove = async (rule) => {
    if (window.confirm(`Remove the rule ${rule.name} and clear its open alerts?`)) await api.remove(path(rule));
  };
  const modify = async (rule) => {
    const { body: now, tag } = await api.list(path(rule));
    open(now, tag);
  };
  const button = (rule, key, title, act) => el('button', { type: 'button', 'data-key': `${key}-${rule.id}`,
    'aria-label': `${title} ${rule.name}`, onclick: tried(() => act(rule)) }, title);
  const buttons = (rule) => (is_admin() ? el('span', { class: 'tools' },
    button(rule, 'edit', 'Edit', modify),
    button(rule, 'switch', rule.enabled ? 'Disable' : 'Enable', () => change(rule, { enabled: !rule.enabled })),
    button(rule, 'remove', 'Remove', remove)) : '');
  const columns = [
    ['Rule', (r) => r.name],
    ['When', condition],
    ['Severity', (r) => word(r.severity)],
    ['Devices', (r) => r.devices || 'all'],
    ['Type', (r) => r.device_type || 'any', 'wide'],
    ['Message', (r) => r.message || '–', 'wide'],
    ['State', (r) => word(r.enabled ? 'enabled' : 'disabled')],
    ['', buttons],
  ];
  return async () => {
    const rules = await api.all('/api/rules');
    const add = el('button', { type: 'button', 'data-key': 'new', onclick: () => open(null) }, 'New rule');
    fill(tools, el('p', { class: 'tools' }, is_admin() ? add : ''));
    fill(body, table('Alert rules', columns, rules, 'No rules.'));
  };
}
