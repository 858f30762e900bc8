/** Reports as text: what every one of them has, whatever is in it. A browser looks at them in test/e2e/report.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHTML } from 'linkedom';
import { renderReport } from '../../../src/report/html.js';
import type { Chart, Report } from '../../../src/report/model.js';
import { sampleReport } from '../../support/sample-report.js';

const sample = sampleReport();
const html = renderReport(sample);
const { document } = parseHTML(html);
const all = (selector: string, root: ParentNode = document) => [...root.querySelectorAll(selector)];
type ParentNode = Pick<typeof document, 'querySelectorAll'>;
const charts = sample.sections.flatMap((s) =>
  s.parts.filter((p): p is Chart => p.kind !== 'text' && p.kind !== 'table'),
);

test('report: one file that loads nothing and runs nothing', () => {
  assert.equal(all('script, link, img, iframe, object').length, 0);
  for (const attribute of ['src', 'srcset', 'onload', 'onclick'])
    assert.equal(all(`[${attribute}]`).length, 0);
  for (const a of all('[href]')) assert.match(a.getAttribute('href') as string, /^#/);
  assert.ok(!/url\(|@import/.test(html));
});

test('report: texts are texts', () => {
  assert.match(html, /&lt;script&gt;alert\(1\)&lt;\/script&gt;/);
  assert.equal(document.title, 'Sample <report> & "everything"');
});

test('report: every chart has a caption, a sentence and its numbers', () => {
  const figures = all('figure');
  assert.equal(figures.length, charts.length);
  for (const [i, figure] of figures.entries()) {
    assert.equal(figure.querySelector('figcaption')?.textContent, charts[i].caption);
    const pictures = all('[role=img]', figure);
    assert.deepEqual(
      pictures.map((p) => p.getAttribute('aria-label')),
      [charts[i].alt, charts[i].alt],
    );
    for (const p of pictures) assert.ok(all('path, rect, circle, line', p).length > 5, charts[i].caption);
    assert.ok(all('details table tbody tr', figure).length > 0);
  }
});

test('report: the numbers behind a chart are those that were given', () => {
  const numbers = (i: number) =>
    all('tbody tr', all('figure')[i] as never).map((row) =>
      all('th, td', row as never).map((c) => c.textContent),
    );
  const bars = charts.findIndex((c) => c.kind === 'bars');
  assert.deepEqual(numbers(bars), [
    ['worker 0', '642,000'],
    ['worker 1', '592,567'],
  ]);
  const intervals = charts.findIndex((c) => c.kind === 'intervals');
  assert.deepEqual(numbers(intervals)[0], ['time by the clock', '0.3', '−1.4', '2']);
});

test('report: headings in order, identifiers once, links that lead somewhere', () => {
  const levels = all('h1, h2, h3').map((h) => Number(h.tagName[1]));
  assert.equal(levels[0], 1);
  assert.equal(levels.filter((l) => l === 1).length, 1);
  const ids = all('[id]').map((e) => e.id);
  assert.equal(new Set(ids).size, ids.length);
  for (const a of all('[href]')) assert.ok(ids.includes((a.getAttribute('href') as string).slice(1)));
  for (const e of all('[aria-labelledby]'))
    assert.ok(ids.includes(e.getAttribute('aria-labelledby') as string));
});

test('report: charts of nothing, of one value, and of what is not finite can be drawn', () => {
  const empty: Report = {
    title: 'x',
    lead: '',
    facts: [],
    notes: [],
    sections: [
      {
        title: 'x',
        parts: [
          {
            kind: 'lines',
            caption: 'a',
            alt: 'a',
            stacked: true,
            x: { label: 'x' },
            y: { label: 'y' },
            series: [],
          },
          {
            kind: 'lines',
            caption: 'b',
            alt: 'b',
            stacked: false,
            x: { label: 'x' },
            y: { label: 'y', scale: 'log' },
            series: [{ name: 'one', points: [[0, 0]] }],
          },
          { kind: 'bars', caption: 'c', alt: 'c', value: 'v', bars: [] },
          {
            kind: 'intervals',
            caption: 'd',
            alt: 'd',
            value: 'v',
            rows: [{ name: 'r', value: 1, low: 0, high: Number.POSITIVE_INFINITY }],
            marks: [],
          },
          {
            kind: 'histogram',
            caption: 'e',
            alt: 'e',
            x: { label: 'x', scale: 'log' },
            count: 'n',
            bins: [],
            marks: [],
          },
          { kind: 'history', caption: 'f', alt: 'f', value: 'v', runs: [], changes: [] },
          { kind: 'table', caption: 'g', head: ['a', 'b'], rows: [] },
        ],
      },
    ],
  };
  const text = renderReport(empty);
  assert.equal(text.match(/<figure/g)?.length, 6);
  assert.ok(!/NaN|undefined/.test(text));
  assert.match(text, /∞/);
});
