/** Reports for those who seldom make one: what draws is loaded when it is needed, a quarter of a second. */
import type { Report } from './model.js';

export async function renderReport(report: Report): Promise<string> {
  const html = await import('./html.js');
  return html.renderReport(report);
}
