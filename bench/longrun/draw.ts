/** A long run as one SVG file: memory, connections and packets over time, below each other. */
import { draw } from '../../src/report/charts.js';
import type { Lines } from '../../src/report/model.js';
import { MEMORY, type Sample } from './judge.js';

const WIDTH = 760;
const CHART_HEIGHT = 290;
const COLOURS = ['#0067a8', '#b4500b', '#00805c', '#a3387a'];
/** More points than a chart has pixels only make the file large. */
const MOST_POINTS = 300;

type Column = keyof Sample;

export function picture(samples: readonly Sample[]): string {
  const step = Math.ceil(samples.length / MOST_POINTS);
  const drawn = samples.filter((_, i) => i % step === 0);
  const chart = (label: string, columns: readonly Column[], scale = 1): Lines => ({
    kind: 'lines',
    caption: '',
    alt: '',
    x: { label: 'minutes' },
    y: { label },
    stacked: false,
    series: columns.map((name) => ({
      name,
      points: drawn.map((s) => [s.seconds / 60, s[name] / scale] as const),
    })),
  });
  const charts = [
    chart('MiB', MEMORY),
    chart('live connections', ['live']),
    chart('million connections made (1), expired (2)', ['made', 'expired'], 1e6),
    chart('million packets', ['packets'], 1e6),
  ];
  const legend = MEMORY.map(
    (name, i) => `<text x="${90 + i * 150}" y="14" fill="${COLOURS[i]}">${i + 1}: ${name}</text>`,
  ).join('');
  const places = charts.map((c, i) => draw(c, WIDTH).replace('<svg ', `<svg y="${24 + i * CHART_HEIGHT}" `));
  const colours = COLOURS.map((colour, i) => `--c${i + 1}:${colour}`).join(';');
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${24 + charts.length * CHART_HEIGHT}" ` +
    `font-family="sans-serif" font-size="12" style="${colours};background:#fff">` +
    `<rect width="100%" height="100%" fill="#fff"/>${legend}${places.join('')}</svg>\n`
  );
}
