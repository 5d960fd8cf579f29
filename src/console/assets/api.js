// Calls of the API. The key lives in this tab's session storage only.
const STORED = 'iot-meter-key';
let askForKey = async () => {};

export const onKeyNeeded = (ask) => { askForKey = ask; };
export const hasKey = () => sessionStorage.getItem(STORED) !== null;
export const keepKey = (key) => sessionStorage.setItem(STORED, key);
export const dropKey = () => sessionStorage.removeItem(STORED);

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// `omit`: the browser must not ask for a password by itself.
async function send(method, path, body) {
  const headers = { Accept: 'application/json' };
  const key = sessionStorage.getItem(STORED);
  if (key) headers['X-API-Key'] = key;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const text = body === undefined ? undefined : JSON.stringify(body);
  const response = await fetch(path, { method, headers, body: text, credentials: 'omit', cache: 'no-store' });
  const is_json = (response.headers.get('Content-Type') || '').includes('json');
  const answer = is_json ? await response.json() : null;
  if (!response.ok) throw new Failure(response.status, (answer && answer.detail) || `status ${response.status}`);
  return { body: answer, total: Number(response.headers.get('X-Total-Count') || 0) };
}

async function call(method, path, body) {
  for (;;) {
    const used = sessionStorage.getItem(STORED);
    try {
      return await send(method, path, body);
    } catch (error) {
      if (error.status !== 401) throw error;
      // Another call may have asked meanwhile: then the new key is tried.
      if (sessionStorage.getItem(STORED) !== used) continue;
      const message = hasKey() ? 'This key is not accepted.' : '';
      dropKey();
      await askForKey(message);
    }
  }
}

export const get = async (path) => (await call('GET', path)).body;
export const list = (path) => call('GET', path);
export const post = async (path, body) => (await call('POST', path, body)).body;
export const remove = async (path) => (await call('DELETE', path)).body;
export const device = (id) => `/api/devices/${encodeURIComponent(id)}`;
