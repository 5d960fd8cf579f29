// Small tools to build pages. Text from the server is only ever set as text.
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, '');
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export const word = (text) => el('span', { class: String(text) }, String(text));

export function ago(time) {
  if (!time) return 'never';
  const s = Math.round((Date.now() - Date.parse(time)) / 1000);
  if (s < 0) return 'now';
  if (s < 90) return `${s} s ago`;
  if (s < 5400) return `${Math.round(s / 60)} min ago`;
  if (s < 129600) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} d ago`;
}

export const moment = (time) => el('time', { datetime: time || '', title: time || '' }, ago(time));

// `key` tells the links of one box apart.
export const deviceLink = (id, key = id) =>
  el('a', { href: `#/device/${encodeURIComponent(id)}`, 'data-key': `device-${key}` }, id);

export function number(value) {
  const size = Math.abs(value);
  return value.toLocaleString('en', { maximumFractionDigits: size >= 1000 ? 0 : size >= 10 ? 1 : 3 });
}

const UNITS = { Cel: '°C' };
export const quantity = (value, unit) => `${number(value)}${unit ? '\u00a0' + (UNITS[unit] || unit) : ''}`;

// A table; `columns` are [title, cell(row), class].
export function table(caption, columns, rows, empty) {
  if (rows.length === 0) return el('p', { class: 'soft' }, empty);
  const head = el('tr', {}, ...columns.map(([title, , kind]) => el('th', { scope: 'col', class: kind }, title)));
  const cells = (row) => columns.map(([, cell, kind]) => el('td', { class: kind }, cell(row)));
  return el('div', { class: 'scroll card', tabindex: '0', role: 'region', 'aria-label': caption, 'data-key': caption },
    el('table', {}, el('thead', {}, head), el('tbody', {}, ...rows.map((row) => el('tr', {}, ...cells(row))))));
}

// New content for a box. Tables stay scrolled as they are, and what had the focus keeps it, by its `data-key`: by its place,
// the focus would come to lie on another row.
export function fill(box, ...children) {
  const key = box.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const scrolled = [...box.querySelectorAll('.scroll')].map((part) => part.scrollLeft);
  box.replaceChildren(...children);
  box.querySelectorAll('.scroll').forEach((part, n) => { part.scrollLeft = scrolled[n] || 0; });
  if (key) [...box.querySelectorAll('[data-key]')].find((node) => node.dataset.key === key)?.focus({ preventScroll: true });
}

// For what is read aloud when it is written: the same text is not written again.
export function say(box, text) {
  if (box.textContent !== text) box.textContent = text;
}

let timer = 0;
export function notice(text) {
  const box = document.getElementById('notice');
  say(box, text);
  box.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { box.hidden = true; }, 8000);
}
