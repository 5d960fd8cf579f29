// The sign-in, closed by the browser again and again as Esc does; then somebody signs in.
import { same, serve, settled } from './page.js';

let is_in = false;
serve((path, { method }) => {
  if (path === '/api/session/ways') return {};
  if (path === '/api/session' && method === 'POST') is_in = true;
  return is_in ? [] : 401;
});
globalThis.setTimeout = () => 0;
await import('./app.js');
await settled();

const dialog = document.getElementById('sign-in');
const main = document.getElementById('main');
for (let n = 0; n < 3; n += 1) {
  same(dialog.open, true, `after Esc was pressed ${n} times it is open`);
  dialog.close();
  await settled();
}
same(main.textContent.includes('No device matches.'), false, 'nobody sees the fleet');
document.getElementById('key').value = 'secret';
document.getElementById('sign-in-form').onsubmit({ preventDefault() {} });
await settled();
same(dialog.open, false, 'it is open for somebody who is signed in');
same(main.textContent.includes('No device matches.'), true, 'what had waited goes on');
