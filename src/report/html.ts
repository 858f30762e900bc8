/** A report as one HTML file that needs nothing else: no script, no network, no fonts.
 *
 *  It is to be read on a phone, in the dark, with the keyboard alone and by a screen reader: landmarks, headings in order, a link
 *  past the contents, a sentence for every chart and its numbers in a table behind it, tables that can be scrolled with the
 *  keyboard (WCAG 2.2, level AA; test/e2e/report.test.ts looks at it in a browser). */
import { draw, seriesOf, swatch, tableOf } from './charts.js';
import { cellText, escaped } from './format.js';
import type { Chart, Part, Report, Section, Table } from './model.js';
import { STYLE } from './style.js';

/** Pixels that a chart is drawn wide, for phones and for wider screens (the style sheet shows one of them). */
const NARROW = 328;
const WIDE = 736;

/** Throws nothing that depends on the report; the same report gives the same text. */
export function renderReport(report: Report): string {
  const page = new Page();
  const sections = report.sections.map((s) => page.section(s));
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escaped(report.title)}</title>
<style>${STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<header>
<h1>${escaped(report.title)}</h1>
<p class="lead">${escaped(report.lead)}</p>
</header>
${contents(report.sections, page)}
<main id="main" tabindex="-1">
${sections.join('\n')}
${notes(report.notes)}
</main>
<footer>
<h2>How this was made</h2>
<dl>${report.facts.map(([name, value]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}</dd></div>`).join('')}</dl>
</footer>
</body>
</html>
`;
}

function contents(sections: readonly Section[], page: Page): string {
  if (sections.length < 2) return '';
  const items = sections.map((s) => `<li><a href="#${page.idOf(s)}">${escaped(s.title)}</a></li>`);
  return `<nav aria-label="Contents"><ul>${items.join('')}</ul></nav>`;
}

function notes(all: readonly string[]): string {
  if (all.length === 0) return '';
  const items = all.map((note) => `<li>${escaped(note)}</li>`).join('');
  return `<section aria-labelledby="notes"><h2 id="notes">Notes</h2><ul>${items}</ul></section>`;
}

/** Gives out names of elements. */
class Page {
  private readonly ids = new Map<Section, string>();
  private n = 0;

  idOf(section: Section): string {
    let id = this.ids.get(section);
    if (id === undefined) {
      id = `s${this.ids.size + 1}`;
      this.ids.set(section, id);
    }
    return id;
  }

  section(section: Section): string {
    const id = this.idOf(section);
    const text = section.text === undefined ? '' : `<p>${escaped(section.text)}</p>`;
    return `<section aria-labelledby="${id}">
<h2 id="${id}" tabindex="-1">${escaped(section.title)}</h2>
${text}${section.parts.map((part) => this.part(part)).join('\n')}
</section>`;
  }

  private part(part: Part): string {
    if (part.kind === 'text') return `<p>${escaped(part.text)}</p>`;
    return part.kind === 'table' ? this.table(part) : this.chart(part);
  }

  private chart(chart: Chart): string {
    const id = `f${++this.n}`;
    const names = seriesOf(chart);
    const legend =
      names.length < 2
        ? ''
        : `<ul class="legend" aria-label="Legend">${names.map((name, i) => `<li>${swatch(chart, i)} ${escaped(name)}</li>`).join('')}</ul>`;
    const picture = (width: number, kind: string) =>
      `<div class="${kind}" role="img" aria-label="${escaped(chart.alt)}">${draw(chart, width)}</div>`;
    return `<figure aria-labelledby="${id}">
<figcaption id="${id}">${escaped(chart.caption)}</figcaption>
${legend}${picture(NARROW, 'narrow')}${picture(WIDE, 'wide')}
<details><summary>Numbers: ${escaped(chart.caption)}</summary>
${this.table(tableOf(chart))}</details>
</figure>`;
  }

  /** Wide tables scroll by themselves; then the keyboard must be able to. */
  private table({ caption, head, rows }: Table): string {
    const id = `f${++this.n}`;
    const numeric = head.map(
      (_, i) =>
        i > 0 && rows.length > 0 && rows.every((row) => typeof row[i] === 'number' || row[i] === null),
    );
    const side = (i: number) => (numeric[i] ? ' class="n"' : '');
    const first = (text: string) => (text === '' ? '<td></td>' : `<th scope="col">${escaped(text)}</th>`);
    const heads = head.map((text, i) =>
      i === 0 ? first(text) : `<th scope="col"${side(i)}>${escaped(text)}</th>`,
    );
    const body = rows.map((row) => {
      const cells = row.map((cell, i) =>
        i === 0
          ? `<th scope="row"${long(cellText(cell))}>${escaped(cellText(cell))}</th>`
          : `<td${side(i) || wide(cellText(cell))}>${escaped(cellText(cell))}</td>`,
      );
      return `<tr>${cells.join('')}</tr>`;
    });
    return `<div class="scroll" role="region" aria-labelledby="${id}" tabindex="0"><table>
<caption id="${id}"><span>${escaped(caption)}</span></caption>
<thead><tr>${heads.join('')}</tr></thead>
<tbody>${body.join('\n')}</tbody>
</table></div>`;
  }
}

/** Long names of rows, such as paths, go on in the next line. */
function long(text: string): string {
  return text.length > LONG_NAME ? ' class="l"' : '';
}
/** Sentences don't become a column of words. */
function wide(text: string): string {
  return text.length > SENTENCE ? ' class="t"' : '';
}
/** IPv6 addresses are none. */
const LONG_NAME = 40;
const SENTENCE = 80;
