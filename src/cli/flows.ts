/** `shardtrack flows check` and `shardtrack flows format`, and how the commands read their tables. */
import fs from 'node:fs';
import { parseMeters } from '../openflow/flowmod.js';
import { formatFlowMod } from '../openflow/format.js';
import { parseGroups } from '../openflow/groups.js';
import { parseFlows, readFlowMod } from '../openflow/parser.js';
import { Problems, trim } from '../openflow/tokens.js';
import { type FlowRule, FlowSyntaxError, type Group, type Meter } from '../openflow/types.js';
import { systemReason } from '../pcap/feed.js';
import { UsageError } from './options.js';

/** A file and its text. */
interface TableFile {
  file: string;
  text: string;
}

/** The text of a file, or of standard input for `-`. Throws UsageError if it can't be read. */
export function readText(path: string): string {
  try {
    return fs.readFileSync(path === '-' ? 0 : path).toString();
  } catch (error) {
    throw new UsageError(`${path}: cannot read the file: ${systemReason(error)}`);
  }
}

/** Parses flow tables and the group and meter tables that they share. Throws one FlowSyntaxError with the mistakes
 *  of all files. */
export function parseTables(
  flows: readonly TableFile[],
  groupFile: TableFile | undefined,
  meterFile: TableFile | undefined,
): { rules: FlowRule[][]; groups: Group[]; meters: Meter[] } {
  const errors: FlowSyntaxError[] = [];
  const attempt = <T>(parse: () => T): T | undefined => {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof FlowSyntaxError)) throw error;
      errors.push(error);
      return undefined;
    }
  };
  const groups = groupFile === undefined ? [] : attempt(() => parseGroups(groupFile.text, groupFile.file));
  const meters = meterFile === undefined ? [] : attempt(() => parseMeters(meterFile.text, meterFile.file));
  // If they are wrong, nobody knows which there are.
  const context = {
    groups: groups === undefined ? undefined : new Set(groups.map((g) => g.id)),
    meters: meters === undefined ? undefined : new Set(meters.map((m) => m.id)),
  };
  const rules = flows.map(({ text, file }) => attempt(() => parseFlows(text, file, context)) ?? []);
  if (errors.length > 0) throw FlowSyntaxError.joined(errors);
  return { rules, groups: groups ?? [], meters: meters ?? [] };
}

/** Checks flow tables as replay reads them; returns a line for each, for people. Throws
 *  FlowSyntaxError. */
export function checkFlows(files: readonly string[], groupFile?: string, meterFile?: string): string[] {
  const load = (file: string): TableFile => ({ file, text: readText(file) });
  const { rules, groups, meters } = parseTables(
    files.map(load),
    groupFile === undefined ? undefined : load(groupFile),
    meterFile === undefined ? undefined : load(meterFile),
  );
  const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
  const lines = files.map((file, i) => {
    const tables = new Set(rules[i].map((rule) => rule.table)).size;
    return `${file}: ${count(rules[i].length, 'flow')} in ${count(tables, 'table')}`;
  });
  if (groupFile !== undefined) lines.push(`${groupFile}: ${count(groups.length, 'group')}`);
  if (meterFile !== undefined) lines.push(`${meterFile}: ${count(meters.length, 'meter')}`);
  return lines;
}

/** The flow file in canonical form: one flow a line as `ovs-ofctl dump-flows` writes it, comments and
 *  blank lines where they were. Throws FlowSyntaxError. */
export function formatFlows(text: string, file: string): string {
  const problems = new Problems(file);
  const lines = text.split(/\r?\n/).map((line, i) => {
    problems.line = i + 1;
    const hash = line.indexOf('#');
    const comment = hash < 0 ? '' : line.slice(hash).trimEnd();
    const flow = trim({ text: hash < 0 ? line : line.slice(0, hash), at: 0 });
    if (flow.text === '') return comment;
    const mod = readFlowMod(flow, undefined, problems, {});
    if (mod === undefined) return '';
    return comment === '' ? formatFlowMod(mod) : `${formatFlowMod(mod)} ${comment}`;
  });
  problems.throwIfAny(text);
  return lines.join('\n');
}
