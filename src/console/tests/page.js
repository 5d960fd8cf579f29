// As much of a browser as the console's scripts need: the tree of index.html, the focus, a dialog, and what is read aloud.
import { readFileSync } from 'node:fs';

const EMPTY = ['meta', 'link', 'input'];
// What was written into a part of the page that is read aloud.
export const aloud = [];

class Node {
  constructor(name) {
    Object.assign(this, { name, dataset: {}, children: [], above: null, hidden: false, open: false, scrollLeft: 0, heard: {} });
  }

  setAttribute(key, value) {
    if (key.startsWith('data-')) this.dataset[key.slice(5)] = value;
    else this[key] = value;
  }

  removeAttribute(key) { delete this[key]; }

  getAttribute(key) { return this[key] ?? null; }

  addEventListener(kind, act) { this.heard[kind] = act; }

  append(...children) {
    for (const child of children) if (child instanceof Node) child.above = this;
    this.children.push(...children);
  }

  replaceChildren(...children) {
    if (document.activeElement !== this && this.contains(document.activeElement)) document.activeElement = document.body;
    this.children = [];
    this.append(...children);
  }

  get textContent() { return this.children.map((child) => child.textContent ?? child).join(''); }

  set textContent(text) {
    if (this.withAbove().some((node) => ['status', 'alert'].includes(node.role))) aloud.push(text);
    this.replaceChildren(...(text === '' ? [] : [String(text)]));
  }

  withAbove() { return this.above ? [this, ...this.above.withAbove()] : [this]; }

  within() { return this.children.filter((child) => child instanceof Node).flatMap((child) => [child, ...child.within()]); }

  contains(node) { return node === this || this.within().includes(node); }

  querySelectorAll(selector) {
    const is = {
      '.scroll': (node) => (node.class || '').split(' ').includes('scroll'),
      '[data-key]': (node) => node.dataset.key,
      'nav a[data-page]': (node) => node.dataset.page,
      'time[datetime]': (node) => node.name === 'time',
    }[selector];
    return this.within().filter(is);
  }

  focus() { document.activeElement = this; }

  showModal() { this.open = true; }

  close() {
    if (this.open) setImmediate(() => this.onclose?.());
    this.open = false;
  }
}

const root = new Node('root');
let at = root;
for (const [, end, name, attributes, text] of
  readFileSync(new URL('./index.html', import.meta.url), 'utf8').matchAll(/<(\/?)(\w+)([^>]*)>([^<]*)/g)) {
  if (end) at = at.above;
  else {
    const node = new Node(name);
    for (const [, key, value] of attributes.matchAll(/([\w-]+)(?:="([^"]*)")?/g)) node.setAttribute(key, value ?? true);
    at.append(node);
    if (!EMPTY.includes(name)) at = node;
  }
  if (text.trim()) at.append(text.trim());
}

const body = root.within().find((node) => node.name === 'body');
globalThis.document = {
  body,
  activeElement: body,
  hidden: false,
  heard: {},
  addEventListener(kind, act) { this.heard[kind] = act; },
  createElement: (name) => new Node(name),
  createElementNS: (_, name) => new Node(name),
  getElementById: (id) => root.within().find((node) => node.id === id),
  querySelectorAll: (selector) => root.querySelectorAll(selector),
};
globalThis.window = { addEventListener() {} };
globalThis.location = { hash: '', reload() {} };
// What is done every second, by hand.
export const seconds = [];
globalThis.setInterval = (act) => { seconds.push(act); return 0; };

// The server: `answer(path, options)` gives a body, or a status.
export function serve(answer) {
  globalThis.fetch = async (path, options) => {
    const said = answer(path, options);
    const [status, body] = typeof said === 'number' ? [said, {}] : [200, said];
    const headers = { 'Content-Type': 'application/json', 'X-Total-Count': body.length };
    return new Response(JSON.stringify(body), { status, headers });
  };
}

// Until all that was asked is answered.
export async function settled() {
  for (let n = 0; n < 50; n += 1) await new Promise(setImmediate);
}

export function same(found, expected, what) {
  const [a, b] = [found, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${what}: ${a}, not ${b}`);
}
