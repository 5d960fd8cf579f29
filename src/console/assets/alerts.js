// Alerts of the fleet or of a device, to be acknowledged.
import * as api from './api.js';
import { deviceLink, el, fill, moment, notice, table, word } from './dom.js';

export function alertTable(alerts, refresh, with_device) {
  const acknowledge = async (alert) => {
    try {
      await api.post(`/api/alerts/${alert.id}/acknowledge`);
      refresh();
    } catch (error) {
      notice(error.message);
    }
  };
  const seen = (a) => (a.acknowledged
    ? el('span', { class: 'soft' }, `${a.acknowledged_by || ''} `, moment(a.acknowledged_at))
    : el('button', { type: 'button', 'data-key': `ack-${a.id}`, onclick: () => acknowledge(a),
      'aria-label': `Acknowledge ${a.alert_type} of ${a.device_id}` }, 'Acknowledge'));
  const columns = [
    ['Device', (a) => deviceLink(a.device_id, a.id)],
    ['Alert', (a) => a.alert_type],
    ['Severity', (a) => word(a.severity)],
    ['State', (a) => el('span', {}, word(a.state), a.cleared_reason ? ` ${a.cleared_reason.replaceAll('_', ' ')}` : ''), 'wide'],
    ['Message', (a) => a.message, 'wide'],
    ['Raised', (a) => moment(a.created_at)],
    ['Acknowledged', seen],
  ];
  return table('Alerts', with_device ? columns : columns.slice(1), alerts, 'No alerts.');
}

export function alertsPage(main, refresh) {
  const body = el('div');
  const only = el('input', { id: 'only', type: 'checkbox', checked: true, onchange: refresh });
  main.replaceChildren(el('h1', {}, 'Alerts'),
    el('div', { class: 'tools' }, el('label', { for: 'only' }, only, ' only those nobody has seen')), body);
  return async () => {
    const query = only.checked ? '?acknowledged=false&per_page=100' : '?per_page=100';
    fill(body, alertTable(await api.get(`/api/alerts${query}`), refresh, true));
  };
}
