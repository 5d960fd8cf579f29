// Another tab signs in, as the same person and as another: writes, signing out, and the dialog that is still open here.
import { same, serve, settled } from './page.js';
import * as api from './api.js';

let [cookie, done, reloads] = [{ actor: 'ann', role: 'admin', csrf_token: 'a' }, [], 0];
let refused = 403;
serve((path, { method, headers }) => {
  if (path === '/api/session/ways') return {};
  if (!cookie) return 401;
  if (method !== 'GET') {
    if (headers['X-CSRF-Token'] !== cookie.csrf_token) return refused;
    done.push(`${method} ${path} as ${cookie.actor}`);
    if (path === '/api/session') cookie = null;
    return {};
  }
  return path === '/api/session' ? cookie : [];
});
globalThis.setTimeout = () => 0;
location.reload = () => { reloads += 1; };
await import('./app.js');
await settled();

const text = (id) => document.getElementById(id).textContent;
const check = (expected, what) => same(done.splice(0), expected, what);
const failed = (act) => act.then(() => '', (failure) => failure.message);

cookie = { ...cookie, csrf_token: 'b' };
await api.post('/api/rules', {});
check(['POST /api/rules as ann'], 'a write is tried with the token of the other tab');
cookie = { actor: 'bob', role: 'operator', csrf_token: 'c' };
same(await failed(api.post('/api/rules', {})), 'Signed in as bob meanwhile. Nothing was done.', 'another person');
check([], 'what ann chose is not done as bob');
cookie = { actor: 'ann', role: 'admin', csrf_token: 'd' };
document.heard.visibilitychange();
await settled();
same(text('who'), 'ann (admin)', 'the page says who it is');

const out = async () => { await document.getElementById('sign-out').heard.click(); await settled(); };
cookie = { actor: 'bob', role: 'operator', csrf_token: 'e' };
await out();
check(['DELETE /api/session as bob'], 'signing out ends the session of the cookie');
same(reloads, 1, 'and begins anew');

// Where it could not be, the page says so.
cookie = { actor: 'ann', role: 'admin', csrf_token: 'f' };
await api.readSession();
const known = cookie;
cookie = { ...known, csrf_token: 'g' };
refused = 500;
await out();
same([reloads, text('notice')], [1, 'You are still signed in: status 500'], 'nobody is signed out');

// The dialog of this tab closes when another has signed in.
cookie = null;
document.heard.visibilitychange();
await settled();
const dialog = document.getElementById('sign-in');
same(dialog.open, true, 'nobody is signed in');
cookie = known;
document.heard.visibilitychange();
await settled();
same([dialog.open, text('who')], [false, 'ann (admin)'], 'somebody is signed in');
