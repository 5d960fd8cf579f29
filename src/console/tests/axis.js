// The ticks of an axis: few, of any numbers, and told apart by what is written beside them.
import { same } from './page.js';
import { chart, ticks } from './chart.js';

const check = (low, high, expected) => same(ticks(low, high), expected, `ticks(${low}, ${high})`);
check(0, 10, [0, 5, 10]);
check(-1, 2, [-1, 0, 1, 2]);
check(748.2, 751.9, [749, 750, 751]);
check(0.12, 0.31, [0.15, 0.2, 0.25, 0.3]);
for (let n = 0; n < 2000; n += 1) {
  const [low, high] = [-0.37 * n, 1 + 0.013 * n * n];
  same(ticks(low, high).length >= 2, true, `two ticks(${low}, ${high})`);
}
for (const nothing of [[5, 5], [0, 0], [2, 1], [NaN, 1], [0, Infinity], [-Infinity, 0], [-1.7e308, 1.7e308], [0, 5e-324]]) {
  check(...nothing, []);
}

// Values that differ by rounding only.
for (const value of [749.9999999999999, 1e-300, 1, -230, 1e15, 1e300]) {
  const next = value + Math.abs(value) * Number.EPSILON;
  for (const [low, high] of [[value, next], [next, value], [-value, next]]) {
    same(ticks(low, high).length <= 5, true, `few ticks(${low}, ${high})`);
  }
  const drawn = chart('', [[0, value], [1, next]], [0, 1], 'a', 300).children;
  const labels = drawn.filter((node) => node.x < 60 && node['text-anchor'] === 'end').map((node) => node.textContent);
  if (Math.abs(value) >= 1) same(new Set(labels).size, labels.length, `labels ${labels}`);
}
