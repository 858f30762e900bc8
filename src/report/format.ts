/** Numbers and texts as reports have them. */
import type { Cell } from './model.js';

const ESCAPES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ESCAPES[c]);
}

/** With four digits, or all of a whole number, in groups of three. */
export function numberText(n: number): string {
  if (!Number.isFinite(n)) return n > 0 ? '∞' : n < 0 ? '−∞' : '–';
  const options = Number.isInteger(n) ? {} : { maximumSignificantDigits: 4 };
  return n.toLocaleString('en-US', options).replace('-', '−');
}

export function cellText(cell: Cell): string {
  if (cell === null) return '–';
  return typeof cell === 'number' ? numberText(cell) : cell;
}

/** `0.051` is +5.1 %. */
export function percentText(share: number): string {
  return `${share < 0 ? '−' : '+'}${Math.abs(share * 100).toFixed(1)} %`;
}

export function rangeText(low: number, high: number): string {
  return `${numberText(low)} to ${numberText(high)}`;
}
