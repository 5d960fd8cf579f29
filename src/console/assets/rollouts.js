// Firmware rollouts: how far each has come, to be paused, resumed or given up.
import * as api from './api.js';
import { el, fill, moment, notice, table, word } from './dom.js';

function progress(rollout) {
  const { devices, confirmed, skipped, failed } = rollout.counts;
  const done = confirmed + skipped;
  return el('span', {}, el('progress', { max: devices, value: done, 'aria-label': `${done} of ${devices} devices` }),
    ` ${done} of ${devices}${failed ? `, ${failed} failed` : ''}`);
}

export function rolloutsPage(main, refresh) {
  const body = el('div');
  main.replaceChildren(el('h1', {}, 'Rollouts'), body);
  const act = async (rollout, action) => {
    if (action === 'abort' && !window.confirm(`Give rollout ${rollout.id} up for good?`)) return;
    try {
      await api.post(`/api/rollouts/${rollout.id}/${action}`);
      refresh();
    } catch (error) {
      notice(error.message);
    }
  };
  const button = (rollout, key, action, title) => el('button', { type: 'button', 'data-key': `${key}-${rollout.id}`,
    'aria-label': `${title} rollout ${rollout.id}`, onclick: () => act(rollout, action) }, title);
  const buttons = (rollout) => {
    const is_admin = (api.session() || {}).role === 'admin';
    if (!is_admin || rollout.ended_at) return '';
    const [action, title] = rollout.state === 'paused' ? ['resume', 'Resume'] : ['pause', 'Pause'];
    return el('span', { class: 'tools' },
      button(rollout, 'switch', action, title), button(rollout, 'abort', 'abort', 'Abort'));
  };
  const columns = [
    ['Rollout', (r) => String(r.id)],
    ['Type', (r) => r.device_type, 'wide'],
    ['Version', (r) => r.version],
    ['State', (r) => el('span', {}, word(r.state), r.reason ? ` ${r.reason.replaceAll('_', ' ')}` : '')],
    ['Stage', (r) => `${r.stage} of ${r.stages.length}`],
    ['Progress', progress],
    ['Under way', (r) => String(r.counts.under_way), 'wide'],
    ['Begun', (r) => moment(r.created_at), 'wide'],
    ['', buttons],
  ];
  return async () => {
    const rollouts = await api.get('/api/rollouts?per_page=100');
    fill(body, table('Rollouts', columns, rollouts, 'No rollouts.'));
  };
}
