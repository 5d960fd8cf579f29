// Calls of the API. The browser holds the session in a cookie that no script can read; here is only what a write has to
// bring besides.
let csrf = null;
let who = null;
let askToSignIn = async () => {};

// What hangs for longer does not answer.
const READ_MS = 30000;

export const onSignInNeeded = (ask) => { askToSignIn = ask; };
export const session = () => who;

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// An answer and its body; what has gone wrong on the way is said in our words, as status 0.
async function fetched(path, options) {
  // A write may bring a large file and take its time.
  const signal = options.method === 'GET' ? AbortSignal.timeout(READ_MS) : undefined;
  try {
    const response = await fetch(path, { ...options, signal, credentials: 'same-origin', cache: 'no-store' });
    const is_json = (response.headers.get('Content-Type') || '').includes('json');
    return [response, is_json ? await response.json() : null];
  } catch {
    throw new Failure(0, 'The server does not answer.');
  }
}

async function send(method, path, body, { tag, type = 'application/json' } = {}) {
  const headers = { Accept: 'application/json' };
  if (method !== 'GET' && csrf) headers['X-CSRF-Token'] = csrf;
  if (body !== undefined) headers['Content-Type'] = type;
  if (tag) headers['If-Match'] = tag;
  const text = body === undefined || body instanceof Blob ? body : JSON.stringify(body);
  const [response, answer] = await fetched(path, { method, headers, body: text });
  if (!response.ok) throw new Failure(response.status, (answer && answer.detail) || `status ${response.status}`);
  return { body: answer, total: Number(response.headers.get('X-Total-Count') || 0), tag: response.headers.get('ETag') };
}

function keep(answer) {
  who = answer;
  csrf = answer && answer.csrf_token;
}

// Who we are, as the server sees it; null = nobody.
export async function readSession() {
  try {
    keep((await send('GET', '/api/session')).body);
  } catch (error) {
    if (error.status !== 401) throw error;
    keep(null);
  }
  return who;
}

export const waysToSignIn = async () => (await send('GET', '/api/session/ways')).body;

// Signs in with a key; the server's cookie must have stayed.
export async function signIn(key) {
  keep((await send('POST', '/api/session', { key })).body);
  if (!await readSession()) {
    throw new Failure(0, 'The browser did not keep the session: open the console over HTTPS, or on the server itself.');
  }
}

// A write that was refused for a token of before: somebody has signed in or out in another tab, and the cookie is of that
// session. Whether there is another token now.
async function isOvertaken(error) {
  const before = csrf;
  return error.status === 403 && Boolean(await readSession()) && csrf !== before;
}

// Ends the session of the cookie, whosever it is.
export async function signOut() {
  const end = () => send('DELETE', '/api/session');
  try {
    await end().catch(async (error) => {
      if (!await isOvertaken(error)) throw error;
      await end();
    });
  } catch (error) {
    // Nobody is signed in.
    if (error.status !== 401 && (error.status !== 403 || who)) throw error;
  }
  keep(null);
}

async function call(method, path, body, how) {
  for (;;) {
    if (!who) await askToSignIn();
    const used = who;
    try {
      return await send(method, path, body, how);
    } catch (error) {
      if (method !== 'GET' && await isOvertaken(error)) {
        // What one person has chosen is not done as another.
        if (who.actor === used.actor) return send(method, path, body, how);
        throw new Failure(403, `Signed in as ${who.actor} meanwhile. Nothing was done.`);
      }
      if (error.status !== 401) throw error;
      // Another call may have asked meanwhile: then the new session is tried.
      if (who === used) keep(null);
    }
  }
}

export const get = async (path) => (await call('GET', path)).body;
export const list = (path) => call('GET', path);
// A list whole, page by page.
export async function all(path) {
  const items = [];
  for (let page = 1; ; page += 1) {
    const { body, total } = await list(`${path}?page=${page}&per_page=500`);
    items.push(...body);
    if (!body.length || items.length >= total) return items;
  }
}
export const post = async (path, body) => (await call('POST', path, body)).body;
export const upload = async (path, file, type) => (await call('POST', path, file, { type })).body;
// With `tag`, only what the client has seen is changed.
export const put = async (path, body, tag) => (await call('PUT', path, body, { tag })).body;
export const remove = async (path) => (await call('DELETE', path)).body;
export const device = (id) => `/api/devices/${encodeURIComponent(id)}`;
