/** The HTML report in a real browser: on a phone and on a desk, light and dark, with the keyboard, to axe-core's rules.
 *
 *      SCREENSHOTS=FOLDER node --test dist/test/e2e/report.test.js     # to look at it as well */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, test } from 'node:test';
import type { AxeResults } from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { renderReport } from '../../src/report/html.js';
import { chromiumPath, launch } from '../support/browser.js';
import { sampleAnalysisReport } from '../support/sample-analysis.js';
import { sampleReport } from '../support/sample-report.js';

const executable = chromiumPath();
const skip = executable === null ? 'there is no Chromium; install it, or set CHROMIUM' : false;
const browser: Browser | null = executable === null ? null : await launch(executable);
after(() => browser?.close());

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const html = renderReport(sampleReport());
const analysis = renderReport(sampleAnalysisReport());
const screenshots = process.env.SCREENSHOTS;

async function open(width: number, colorScheme: 'light' | 'dark', text = html): Promise<Page> {
  // Axe-core could not run under the report's own policy.
  const page = await browser!.newPage({ viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
  await page.setContent(text);
  return page;
}

const VIEWS = [
  ['report', html, 360, 'light'],
  ['report', html, 360, 'dark'],
  ['report', html, 1280, 'light'],
  ['report', html, 1280, 'dark'],
  ['analysis', analysis, 360, 'light'],
  ['analysis', analysis, 1280, 'dark'],
] as const;

for (const [name, text, width, scheme] of VIEWS) {
  test(`${name}: ${width} pixels wide, ${scheme}: fits, is drawn, and axe-core has nothing against it`, {
    skip,
  }, async () => {
    const page = await open(width, scheme, text);
    const errors: string[] = [];
    page.on('console', (m) => m.type() === 'error' && errors.push(m.text()));
    const layout = await page.evaluate(`({
        over: document.documentElement.scrollWidth - window.innerWidth,
        charts: [...document.querySelectorAll('figure')].map((f) =>
          [...f.querySelectorAll('[role=img]')].filter((p) => p.offsetWidth > 0).map((p) => p.firstElementChild.getBoundingClientRect().width)),
        small: [...document.querySelectorAll('svg text')].filter((t) => t.getBoundingClientRect().height > 0 && t.getBoundingClientRect().height < 10).length,
        background: getComputedStyle(document.body).backgroundColor,
      })`);
    const { over, charts, small, background } = layout as {
      over: number;
      charts: number[][];
      small: number;
      background: string;
    };
    assert.ok(over <= 0, `the page is ${over} pixels too wide`);
    for (const shown of charts) {
      assert.equal(shown.length, 1);
      assert.ok(shown[0] > width * 0.5 && shown[0] <= width);
    }
    assert.equal(small, 0, 'letters too small to read');
    const light = Number(/\d+/.exec(background)?.[0]) > 128;
    assert.equal(light, scheme === 'light');
    if (screenshots !== undefined) {
      fs.mkdirSync(screenshots, { recursive: true });
      await page.screenshot({
        path: path.join(screenshots, `${name}-${width}-${scheme}.png`),
        fullPage: true,
      });
    }
    await page.evaluate(`document.querySelectorAll('details').forEach((d) => { d.open = true; })`);
    await page.addScriptTag({ path: AXE });
    const { violations } = (await page.evaluate(
      `axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })`,
    )) as AxeResults;
    const said = violations.map(
      (v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 200)).join('\n')}`,
    );
    assert.deepEqual(said, []);
    assert.deepEqual(errors, []);
    await page.close();
  });
}

test('report: the keyboard goes through it from top to bottom, and opens what is closed', {
  skip,
}, async () => {
  const page = await open(1280, 'light');
  const focused = () =>
    page.evaluate(`({
      tag: document.activeElement.tagName,
      text: document.activeElement.textContent.slice(0, 40),
      y: document.activeElement.getBoundingClientRect().top + window.scrollY,
      outline: getComputedStyle(document.activeElement).outlineStyle,
    })`) as Promise<{ tag: string; text: string; y: number; outline: string }>;
  const seen: { tag: string; text: string; y: number; outline: string }[] = [];
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press('Tab');
    const at = await focused();
    if (at.tag === 'BODY') break;
    seen.push(at);
  }
  assert.match(seen[0].text, /Skip/);
  for (const [i, { y, outline, text }] of seen.entries()) {
    assert.notEqual(outline, 'none', `${text}: nobody sees where the focus is`);
    if (i > 1) assert.ok(y >= seen[i - 1].y - 40, `${text} comes after what is below it`);
  }
  assert.equal(seen.filter((s) => s.tag === 'SUMMARY').length, 7);
  // The first summary opens with the keyboard; what is inside can be reached and scrolled.
  await page.focus('summary');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(`document.querySelector('details').open`), true);
  await page.keyboard.press('Tab');
  assert.match((await focused()).text, /Throughput over capture time/);
  // Past the contents.
  await page.evaluate(`document.querySelector('.skip').focus()`);
  await page.keyboard.press('Enter');
  assert.equal((await focused()).tag, 'MAIN');
  await page.close();
});

test('report: what a screen reader is told', { skip }, async () => {
  const page = await open(360, 'light');
  const tree = await page.locator('body').ariaSnapshot();
  for (const role of ['banner', 'navigation "Contents"', 'main', 'contentinfo']) {
    assert.ok(tree.includes(`- ${role}`), `${role} is missing:\n${tree.slice(0, 2000)}`);
  }
  assert.match(tree, /figure "Throughput over capture time"/);
  assert.match(tree, /img "Steady at about 3\.4 million packets a second, with a dip to 2 at 30 s\."/);
  assert.match(tree, /heading "Comparison" \[level=2\]/);
  // Each picture once: the one for other widths is not there.
  assert.equal(tree.match(/img "Steady/g)?.length, 1);
  // Ticks of axes are no text to be read out.
  assert.ok(!/text: 0\.5/.test(tree));
  await page.close();
});

test('report: without network, script or motion', { skip }, async () => {
  const context = await browser!.newContext({
    javaScriptEnabled: false,
    offline: true,
    reducedMotion: 'reduce',
  });
  const page = await context.newPage();
  const asked: string[] = [];
  page.on('request', (r) => asked.push(r.url()));
  await page.setContent(html);
  assert.deepEqual(asked, []);
  assert.ok(await page.locator('figure svg').first().isVisible());
  await context.close();
});
