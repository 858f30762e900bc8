/** Compares what shardtrack did with what Open vSwitch answered. Every difference is a sentence. */
import type { Answer, InputRecord, Outputs } from './fixture.js';
import { describe, explain, stateText } from './frame.js';
import type { Run } from './product.js';

/** What is in `a` and not in `b`, by number of occurrences. */
function minus(a: readonly string[], b: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const x of b) left.set(x, (left.get(x) ?? 0) + 1);
  return a.filter((x) => {
    const n = left.get(x) ?? 0;
    if (n) left.set(x, n - 1);
    return !n;
  });
}

const portText = (p: number): string => (p === 65534 ? 'LOCAL' : String(p));

/** Null, or how the outputs of a packet differ. The copies are a multiset: their order between ports means nothing. */
export function outputDifference(expected: Outputs, got: Outputs, reason: string | null): string | null {
  const key = (o: Outputs) => o.map(([p, h]) => `${p} ${h}`);
  const missing = minus(key(expected), key(got));
  const extra = minus(key(got), key(expected));
  if (!missing.length && !extra.length) return null;
  const parts = (s: string) => s.split(' ') as [string, string];
  for (const [p, h] of missing.map(parts)) {
    const same = extra.map(parts).find(([q]) => q === p);
    if (same)
      return `the output on port ${portText(Number(p))} differs: ${explain(h, same[1])}\n      expected ${h}\n      got      ${same[1]}`;
  }
  const ports = (l: string[]) => l.map((s) => portText(Number(parts(s)[0]))).join(',');
  if (missing.length && extra.length)
    return `expected on port ${ports(missing)}, got on port ${ports(extra)}`;
  if (missing.length)
    return `the output on port ${ports(missing)} is missing${reason ? ` (reason given: ${reason})` : ''}: ${describe(parts(missing[0])[1])}`;
  return `the output on port ${ports(extra)} is too much: ${describe(parts(extra[0])[1])}`;
}

const norm = (ct: string): string => {
  const [, zone, state] = /^zone (\d+) (.*)$/.exec(ct) ?? ['', '?', ct];
  return `zone ${zone} ${stateText(state)}`;
};

/** [packet index, sentence] of every packet that differs. */
export function packetDifferences(
  records: readonly InputRecord[],
  answers: readonly Answer[],
  run: Run,
): [number, string][] {
  const byIndex = new Map(answers.map((a) => [a.i, a]));
  const found: [number, string][] = [];
  let k = -1;
  records.forEach((r, i) => {
    if (r.hex === undefined) return;
    k++;
    const a = byIndex.get(i);
    if (!a?.out) throw new Error(`the expected file has no answer for record ${i}: npm run oracle:record`);
    const v = run.verdicts[k];
    let d = outputDifference(a.out, run.outs[k], v.reason);
    if (!d) {
      const have = v.ct.map((c) => `zone ${c.zone} ${stateText(c.state)}`);
      const lacks = (a.ct ?? []).map(norm).find((s) => !have.includes(s));
      if (lacks) d = `the verdict's ct lacks ${lacks}; it has ${have.join(', ') || 'nothing'}`;
    }
    if (!d && !v.out.length && !v.reason) d = 'the verdict has neither an output nor a reason';
    if (!d && v.out.length && v.reason) d = `the verdict has outputs and the reason ${v.reason}`;
    if (d)
      found.push([
        k,
        `packet ${k + 1} (t=${r.t}, in_port ${portText(r.in_port!)}${r.note ? `, "${r.note}"` : ''}: ${describe(r.hex)}): ${d}`,
      ]);
  });
  return found;
}

/** A sentence for every command that answered something else. Tables have no order; errors may say what would be
 *  right. */
export function commandDifferences(
  records: readonly InputRecord[],
  answers: readonly Answer[],
  run: Run,
): string[] {
  const found: string[] = [];
  for (const a of answers) {
    const r = records[a.i];
    const args = r.cmd ?? r.vsctl ?? r.ofctl;
    if (!args) continue;
    const got = run.answers.get(a.i);
    if (!got) throw new Error(`the log has no line for record ${a.i}`);
    const where = `record ${a.i} (t=${r.t}): ${args.join(' ')}`;
    if (r.ofctl) {
      const [want, have] = [a, got].map((x) => ofctlLines(x.error ?? (x.result as string)));
      found.push(...minus(want, have).map((l) => `${where}: missing: ${l}`));
      found.push(...minus(have, want).map((l) => `${where}: too much: ${l}`));
    } else if ((a.error ?? '').trim() !== (got.error ?? '').trim())
      found.push(`${where}: error ${JSON.stringify(a.error)} expected, ${JSON.stringify(got.error)} got`);
    else if (Array.isArray(a.result)) {
      const lines = (got.result ?? '').split('\n').filter(Boolean);
      found.push(...tableDifferences(a.result as string[], lines, true).map((t) => `${where}: ${t}`));
    } else if (!a.error && (a.result as string) !== (got.result ?? '').trimEnd())
      found.push(`${where}: ${JSON.stringify(a.result)} expected, ${JSON.stringify(got.result)} got`);
  }
  return found;
}

/** Lines of ovs-ofctl without what depends on the moment at which the switch was started. */
function ofctlLines(text: string): string[] {
  return text
    .split('\n')
    .map((l) =>
      l
        .replace(/xid=0x[0-9a-f]+/, 'xid')
        .replace(/\bduration([=:])[0-9.]+s/, 'duration$1*')
        .trim(),
    )
    .filter((l) => l !== '');
}

/** Splits at the commas outside parentheses. */
function fields(line: string): string[] {
  const out: string[] = [];
  let depth = 0;
  let cur = '';
  for (const c of line) {
    if (c === ',' && !depth) {
      out.push(cur);
      cur = '';
      continue;
    }
    depth += c === '(' ? 1 : c === ')' ? -1 : 0;
    cur += c;
  }
  return [...out, cur];
}

/** A table without order and id, and without timeouts unless they are wanted. */
export const normTable = (lines: readonly string[], timeouts = false): string[] =>
  lines
    .map((l) => l.trim())
    .filter(Boolean)
    .map((l) =>
      fields(l)
        .filter((f) => !(timeouts ? /^id=/ : /^(id|timeout)=/).test(f))
        .join(','),
    )
    .sort();

export function tableDifferences(
  expected: readonly string[],
  got: readonly string[],
  timeouts = false,
): string[] {
  const [e, g] = [normTable(expected, timeouts), normTable(got, timeouts)];
  return [
    ...minus(e, g).map((l) => `connection missing: ${l}`),
    ...minus(g, e).map((l) => `connection too many: ${l}`),
  ];
}
