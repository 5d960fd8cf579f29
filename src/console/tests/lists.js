// Lists of no page, of one and of more.
import { same } from './page.js';
import * as api from './api.js';

globalThis.fetch = async (path) => {
  const { pathname, searchParams: query } = new URL(path, 'http://localhost');
  const all = Array.from({ length: Number(pathname.slice(1)) }, (_, n) => n);
  const [page, size] = [query.get('page'), query.get('per_page')].map(Number);
  const headers = { 'Content-Type': 'application/json', 'X-Total-Count': all.length };
  return new Response(JSON.stringify(all.slice((page - 1) * size, page * size)), { headers });
};
for (const many of [0, 500, 1201]) {
  const read = await api.all(`/${many}`);
  same([read.length, new Set(read).size], [many, many], `a list of ${many}`);
}
