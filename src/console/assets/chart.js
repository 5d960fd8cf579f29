// A line chart as SVG: time from left to right, a gap in the line where data are missing.
const NS = 'http://www.w3.org/2000/svg';
const [HEIGHT, LEFT, BOTTOM, TOP] = [180, 60, 20, 8];

export function svg(name, attributes, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Two to five round steps between the extremes; none where no step is between them, or no number is.
export function ticks(low, high) {
  const rough = (high - low) / 2;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [5, 2, 1].map((n) => n * power).find((n) => n <= rough);
  if (!(step > 0 && step < Infinity)) return [];
  const first = Math.ceil(low / step);
  // Counted, not added up: beside a large value a small step adds nothing, and the end is never reached.
  const many = Math.min(5, Math.floor(high / step) - first + 1);
  return Array.from({ length: many }, (_, n) => Number(((first + n) * step).toPrecision(12)));
}

function median(steps) {
  const sorted = [...steps].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] || 0;
}

// `points` are [milliseconds, value], ordered by time; a few hundred at most, as the API is asked for.
export function chart(label, points, [from, to], kind, width) {
  const WIDTH = Math.max(280, Math.min(1150, width));
  const root = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label });
  if (points.length === 0) {
    root.append(svg('text', { x: WIDTH / 2, y: HEIGHT / 2, 'text-anchor': 'middle' }, 'no data'));
    return root;
  }
  let low = Math.min(...points.map((p) => p[1]));
  let high = Math.max(...points.map((p) => p[1]));
  const size = Math.max(Math.abs(low), Math.abs(high));
  // What differs by rounding only is a straight line.
  const margin = high - low > size * 1e-9 ? (high - low) * 0.08 : size * 0.05 || 1;
  [low, high] = [low - margin, high + margin];
  const x = (t) => LEFT + ((t - from) / (to - from)) * (WIDTH - LEFT - 4);
  const y = (v) => TOP + ((high - v) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  for (const tick of ticks(low, high)) {
    root.append(svg('line', { class: 'grid', x1: LEFT, x2: WIDTH, y1: y(tick), y2: y(tick) }));
    root.append(svg('text', { x: LEFT - 6, y: y(tick) + 4, 'text-anchor': 'end' }, tick.toLocaleString('en')));
  }
  for (let n = 0; n <= 2; n += 1) {
    const t = from + ((to - from) * n) / 2;
    const anchor = ['start', 'middle', 'end'][n];
    root.append(svg('text', { x: x(t), y: HEIGHT - 5, 'text-anchor': anchor }, new Date(t).toLocaleTimeString()));
  }
  const hole = 5 * median(points.slice(1).map((p, n) => p[0] - points[n][0]));
  const path = points.map(([t, v], n) => {
    const starts = n === 0 || t - points[n - 1][0] > hole;
    return `${starts ? 'M' : 'L'}${x(t).toFixed(1)} ${y(v).toFixed(1)}`;
  });
  root.append(svg('path', { class: `line ${kind}`, d: path.join('') }));
  return root;
}
