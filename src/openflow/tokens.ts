/** Cuts a flow line into keys and values as ovs-ofctl(8) does, keeping the place of every piece, and
 *  collects what is wrong with it. */
import { type FlowProblem, FlowSyntaxError } from './types.js';
import { Refusal } from './values.js';

/** A piece of the line and the offset of its first character in it. */
export interface Span {
  text: string;
  at: number;
}

/** The piece of `s` from `from` to `to`. */
export function slice(s: Span, from: number, to = s.text.length): Span {
  return { text: s.text.slice(from, to), at: s.at + from };
}

/** `s` without white space around it. */
export function trim(s: Span): Span {
  const from = s.text.length - s.text.trimStart().length;
  return slice(s, from, Math.max(from, s.text.trimEnd().length));
}

/** The pieces of `s` between characters of `separators`, empty ones left out. */
export function words(s: Span, separators: string): Span[] {
  const found: Span[] = [];
  let from = 0;
  for (let i = 0; i <= s.text.length; i++) {
    if (i < s.text.length && !separators.includes(s.text[i])) continue;
    if (i > from) found.push(slice(s, from, i));
    from = i + 1;
  }
  return found;
}

/** The problems of a file; `line` is the line being read. */
export class Problems {
  readonly found: FlowProblem[] = [];
  line = 0;
  readonly file: string;

  /** `file` is the name that positions carry. */
  constructor(file: string) {
    this.file = file;
  }

  /** Records that the token `where` is wrong. */
  add(where: Span, message: string, expected: string, suggestion?: string): void {
    const pos = {
      file: this.file,
      line: this.line,
      column: where.at + 1,
      length: Math.max(1, where.text.length),
    };
    this.found.push(
      suggestion === undefined ? { pos, message, expected } : { pos, message, expected, suggestion },
    );
  }

  /** Throws a FlowSyntaxError if there are any; `text` is the whole file. */
  throwIfAny(text: string): void {
    if (this.found.length === 0) return;
    this.found.sort((a, b) => a.pos.line - b.pos.line || a.pos.column - b.pos.column);
    throw new FlowSyntaxError(this.found, text);
  }

  /** `value` itself, or undefined after recording the refusal at its place within `where`. */
  value<T>(where: Span, value: T | Refusal): T | undefined {
    if (!(value instanceof Refusal)) return value;
    const from = value.ofs ?? 0;
    const to = value.length === undefined ? where.text.length : from + value.length;
    this.add(slice(where, from, to), value.message, value.expected);
    return undefined;
  }
}

/** A key with the value after `=`, `:` or in parentheses; `whole` is all of it. */
export interface Pair {
  key: Span;
  delimiter: '' | '=' | ':' | '(';
  value: Span;
  /** What follows `->` right behind the parenthesis, as in check_pkt_larger(1500)->reg0[0]. */
  target?: Span;
  whole: Span;
}

const SPACE = ', \t\r\n';

/** The index after the parenthesis that closes the one at `open`, or -1. */
function closing(text: string, open: number): number {
  let level = 0;
  for (let i = open; i < text.length; i++) {
    if (text[i] === '(') level++;
    else if (text[i] === ')' && --level === 0) return i + 1;
  }
  return -1;
}

/** The pairs of `s`: separated by commas and white space, a value after `=` or `:` running to the next
 *  of these outside parentheses. An unclosed parenthesis is recorded (ovs-ofctl lets it pass). */
export function pairs(s: Span, problems: Problems): Pair[] {
  const found: Pair[] = [];
  const { text } = s;
  let i = 0;
  while (true) {
    while (i < text.length && SPACE.includes(text[i])) i++;
    if (i >= text.length) return found;
    const start = i;
    while (i < text.length && !(':=(' + SPACE).includes(text[i])) i++;
    const key = slice(s, start, i);
    const after = text[i];
    if (after !== '=' && after !== ':' && after !== '(') {
      found.push({ key, delimiter: '', value: slice(s, i, i), whole: key });
      continue;
    }
    const valueStart = i + 1;
    let unclosed = -1;
    if (after === '(') {
      const end = closing(text, i);
      if (end < 0) unclosed = i;
      i = end < 0 ? text.length : end;
    } else {
      i++;
      while (i < text.length && !SPACE.includes(text[i])) {
        const end = text[i] === '(' ? closing(text, i) : i + 1;
        if (end < 0) unclosed = i;
        i = end < 0 ? text.length : end;
      }
    }
    if (unclosed >= 0) problems.add(slice(s, unclosed, unclosed + 1), 'parenthesis is never closed', '")"');
    const valueEnd = after === '(' && unclosed < 0 ? i - 1 : i;
    const value = slice(s, valueStart, valueEnd);
    let target: Span | undefined;
    if (after === '(' && text.startsWith('->', i)) {
      const from = i + 2;
      while (i < text.length && !SPACE.includes(text[i])) i++;
      target = slice(s, from, i);
    }
    found.push({ key, delimiter: after, value, target, whole: slice(s, start, i) });
  }
}

/** The nearest of `names` to `name` by edit distance (with neighbour swaps), if it is near. */
export function nearest(name: string, names: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.max(1, Math.floor(name.length / 3))) + 1;
  for (const candidate of names) {
    if (Math.abs(candidate.length - name.length) >= bestDistance) continue;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let older: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      row[j] = Math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j], older[j - 2] + 1);
      }
    }
    older = previous;
    previous = row;
  }
  return previous[b.length];
}
