// Energy as bars: what was drawn upwards, what was fed back downwards, an interval a bar, its quality marked.
import { svg, ticks } from './chart.js';

const [HEIGHT, LEFT, BOTTOM, TOP] = [200, 60, 20, 8];

export function describe(interval) {
  const reasons = interval.doubts ? ` (${interval.doubts.join(', ').replaceAll('_', ' ')})` : '';
  const kwh = (wh) => (wh / 1000).toLocaleString('en', { maximumFractionDigits: 3 });
  return `${new Date(interval.start).toLocaleString()}: drawn ${kwh(interval.import_wh)} kWh, `
    + `fed back ${kwh(interval.export_wh)} kWh, ${Math.round(interval.coverage * 100)} % covered, ${interval.quality}${reasons}`;
}

// `intervals` as the API answers them, ordered by time.
export function bars(label, intervals, width) {
  const WIDTH = Math.max(280, Math.min(1150, width));
  const root = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label });
  const covered = intervals.filter((i) => i.quality !== 'missing');
  if (covered.length === 0) {
    root.append(svg('text', { x: WIDTH / 2, y: HEIGHT / 2, 'text-anchor': 'middle' }, 'no data'));
    return root;
  }
  const high = Math.max(1e-6, ...covered.map((i) => i.import_wh / 1000)) * 1.08;
  const low = Math.min(0, ...covered.map((i) => -i.export_wh / 1000)) * 1.08;
  const [from, to] = [Date.parse(intervals[0].start), Date.parse(intervals[intervals.length - 1].end)];
  const x = (t) => LEFT + ((t - from) / (to - from)) * (WIDTH - LEFT - 4);
  const y = (v) => TOP + ((high - v) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  for (const tick of ticks(low, high)) {
    root.append(svg('line', { class: 'grid', x1: LEFT, x2: WIDTH, y1: y(tick), y2: y(tick) }));
    root.append(svg('text', { x: LEFT - 6, y: y(tick) + 4, 'text-anchor': 'end' }, tick.toLocaleString('en')));
  }
  for (const interval of intervals) {
    const [left, right] = [x(Date.parse(interval.start)), x(Date.parse(interval.end))];
    const group = svg('g', { class: interval.quality });
    group.append(svg('title', {}, describe(interval)));
    const bar = (kind, a, b) => group.append(svg('rect', { class: kind, x: (left + 0.5).toFixed(1), y: y(a).toFixed(1),
      width: Math.max(0.5, right - left - 1).toFixed(1), height: Math.max(0, y(b) - y(a)).toFixed(1) }));
    if (interval.quality === 'missing') bar('hole', high, low);
    else {
      bar('import', interval.import_wh / 1000, 0);
      bar('export', 0, -interval.export_wh / 1000);
    }
    root.append(group);
  }
  [['start', from], ['middle', (from + to) / 2], ['end', to]].forEach(([anchor, t]) => {
    const text = new Date(t).toLocaleString([], { day: '2-digit', month: '2-digit', hour: '2-digit', minute: '2-digit' });
    root.append(svg('text', { x: x(t), y: HEIGHT - 5, 'text-anchor': anchor }, text));
  });
  return root;
}
