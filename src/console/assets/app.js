// The console's frame: which page is shown, when it is read again, signing in, the strip with the system's state.
import * as api from './api.js';
import { alertsPage } from './alerts.js';
import { devicePage } from './device.js';
import { ago, notice, say } from './dom.js';
import { energyPage } from './energy.js';
import { fleetPage } from './fleet.js';
import { rolloutsPage } from './rollouts.js';
import { rulesPage } from './rules.js';

const EVERY_MS = 3000;
const main = document.getElementById('main');
const system = document.getElementById('system');
const trouble = document.getElementById('trouble');
let show = async () => {};
let turn = 0;
let timer = 0;
// Closes the dialog, where it is open, for somebody who is signed in.
let enter = () => {};
// When what is shown was read; null = nothing was yet.
let read_at = null;

// Shows the dialog until somebody is signed in.
async function signIn() {
  if (await api.readSession()) return showWho();
  const dialog = document.getElementById('sign-in');
  const form = document.getElementById('sign-in-form');
  const field = document.getElementById('key');
  const error = document.getElementById('sign-in-error');
  const issuer = document.getElementById('sign-in-issuer');
  const ways = await api.waysToSignIn();
  issuer.hidden = !ways.oidc;
  if (ways.oidc) issuer.querySelector('a').href = ways.oidc;
  field.value = '';
  error.textContent = '';
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.oncancel = (event) => event.preventDefault();
    // A browser closes it all the same when Esc is pressed again.
    dialog.onclose = () => dialog.showModal();
    enter = () => {
      if (!dialog.open) return;
      dialog.onclose = null;
      dialog.close();
      resolve();
    };
    form.onsubmit = async (event) => {
      event.preventDefault();
      const key = field.value.trim();
      field.value = '';
      try {
        await api.signIn(key);
        showWho();
        enter();
      } catch (failure) {
        error.textContent = failure.status === 401 ? 'This key is not accepted.' : failure.message;
        field.focus();
      }
    };
  });
}

function showWho() {
  const own = api.session();
  const is_person = own && own.csrf_token;
  document.getElementById('who').textContent = is_person ? `${own.actor} (${own.role})` : '';
  document.getElementById('sign-out').hidden = !is_person;
}

// Somebody may have signed in or out in another tab.
async function lookWho() {
  if (await api.readSession()) enter();
  showWho();
}

// Several calls may find nobody signed in at once: they wait for one answer.
let asking = null;
api.onSignInNeeded(() => {
  asking = asking || signIn().finally(() => { asking = null; });
  return asking;
});

// Writes the figures; what is wrong is its answer.
async function strip() {
  const [status, stats] = await Promise.all([api.get('/api/system/status'), api.get('/api/stats')]);
  const troubled = Object.entries(status.tasks).filter(([, task]) => task.state !== 'running');
  const parts = [
    `version ${status.version}`,
    `${stats.total_devices} devices`,
    ...stats.device_by_connection.map((c) => `${c.count} ${c.connection_status}`),
    `journal ${(status.journal.bytes / 1048576).toFixed(1)} MiB`,
    `collector ${status.collector.lag_messages} behind`,
    `archive ${status.archiver.lag_messages} behind`,
  ];
  system.textContent = parts.join(' · ');
  document.getElementById('alert-count').textContent = stats.unacknowledged_alerts ? `(${stats.unacknowledged_alerts})` : '';
  return troubled.map(([name, task]) => `${name}: ${task.state}`).join(' · ');
}

// What is shown is what was read last, and looks like it.
function isOld(is_old) {
  if (is_old) main.setAttribute('class', 'old');
  else main.removeAttribute('class');
}

async function refresh() {
  clearTimeout(timer);
  turn += 1;
  const own = turn;
  const [shown, told] = await Promise.allSettled([show(), strip()]);
  showWho();
  // A later turn tells what there is to tell.
  if (own !== turn) return;
  if (shown.status === 'fulfilled') read_at = new Date();
  else if (shown.reason.status !== 0) notice(shown.reason.message);
  isOld(shown.status === 'rejected');
  const is_refused = told.reason?.status === 403;
  if (told.reason) system.textContent = is_refused ? 'System status: not for this key' : '';
  const silent = [shown, told].find((result) => result.reason?.status === 0);
  const as_of = shown.reason && read_at ? ` What is shown is as of ${read_at.toLocaleTimeString()}.` : '';
  if (silent) say(trouble, silent.reason.message + as_of);
  else if (is_refused) say(trouble, '');
  else say(trouble, told.reason ? told.reason.message : told.value);
  timer = setTimeout(refresh, document.hidden ? EVERY_MS * 10 : EVERY_MS);
}

function route() {
  const [, page, id] = location.hash.split('/');
  const current = ['alerts', 'energy', 'rollouts', 'rules'].includes(page) ? page : page === 'device' ? '' : 'fleet';
  for (const link of document.querySelectorAll('nav a[data-page]')) {
    if (link.dataset.page === current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (page === 'device' && id) show = devicePage(main, decodeURIComponent(id), refresh);
  else if (page === 'alerts') show = alertsPage(main, refresh);
  else if (page === 'energy') show = energyPage(main, refresh);
  else if (page === 'rollouts') show = rolloutsPage(main, refresh);
  else if (page === 'rules') show = rulesPage(main, refresh);
  else show = fleetPage(main, refresh);
  read_at = null;
  refresh();
}

document.getElementById('sign-out').addEventListener('click', async () => {
  try {
    await api.signOut();
    location.reload();
  } catch (failure) {
    notice(`You are still signed in: ${failure.message}`);
  }
});
// The link's own way is another page.
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener('visibilitychange', async () => {
  if (document.hidden) return;
  // Where the server does not answer, the page says so.
  await lookWho().catch(() => {});
  refresh();
});
// An age goes on also while nothing is read.
setInterval(() => {
  for (const time of document.querySelectorAll('time[datetime]')) say(time, ago(time.getAttribute('datetime')));
}, 1000);
window.addEventListener('hashchange', () => { route(); main.focus(); });
route();
