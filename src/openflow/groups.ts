/** Reads groups and changes of the group table as `ovs-ofctl` takes them (ovs-ofctl(8), "Group Syntax"),
 *  and prints groups as `ovs-ofctl dump-groups` does. */
import { OFPP_CONTROLLER, OFPP_MAX, OFPP_NONE } from '../classifier/flow-key.js';
import { MAX_GROUP, parseBucketActions } from './actions.js';
import { FIELDS, type Field, fieldByName, isWireName, wireName } from './fields.js';
import { formatActions } from './format.js';
import { flowLines } from './parser.js';
import { unknownField } from './subfields.js';
import { nearest, type Pair, Problems, pairs, type Span, slice } from './tokens.js';
import type { Bucket, Group, GroupMod } from './types.js';
import { fieldValueText, ones, parseFieldValue, parseNumber, parsePort, portText } from './values.js';

type Command = GroupMod['command'];

/** The words that a line of a file may begin with. */
const COMMANDS: ReadonlyMap<string, Command> = new Map([
  ['add', 'add'],
  ['modify', 'modify'],
  ['add_or_mod', 'add_or_modify'],
  ['delete', 'delete'],
  ['insert_bucket', 'insert_buckets'],
  ['remove_bucket', 'remove_buckets'],
]);
const TYPES: ReadonlyMap<string, Group['type']> = new Map([
  ['all', 'all'],
  ['select', 'select'],
  ['indirect', 'indirect'],
  ['ff', 'fast_failover'],
  ['fast_failover', 'fast_failover'],
]);
const DEFINING: readonly Command[] = ['add', 'modify', 'add_or_modify'];
const WITH_BUCKET_ID: readonly Command[] = ['insert_buckets', 'remove_buckets'];
/** Which commands a keyword can stand in. */
const KEYWORDS: ReadonlyMap<string, readonly Command[]> = new Map<string, readonly Command[]>([
  ['group_id', [...DEFINING, ...WITH_BUCKET_ID, 'delete']],
  ['type', DEFINING],
  ['selection_method', DEFINING],
  ['selection_method_param', DEFINING],
  ['fields', DEFINING],
  ['command_bucket_id', WITH_BUCKET_ID],
  ['bucket', [...DEFINING, 'insert_buckets']],
]);
const EXPECTED = 'group_id=N, type=TYPE, selection_method=METHOD, fields(...) or bucket=...';
const BUCKET_EXPECTED =
  'bucket=ACTIONS, with weight:N, watch_port:PORT, watch_group:N or bucket_id:N before them';
/** Bucket numbers end where groups do. */
const MAX_BUCKET = MAX_GROUP;

interface Draft {
  command: Command;
  id: number | null | undefined;
  type: Group['type'] | undefined;
  selectionMethod: Group['selectionMethod'];
  selectionParam: bigint;
  fields: Group['fields'];
  bucket: GroupMod['bucket'];
  /** Where selection_method and what belongs to it stand. */
  selection: Span | undefined;
}

/** The groups of a file for `ovs-ofctl add-groups`. `file` is the name that positions carry. Throws a
 *  FlowSyntaxError with all problems. */
export function parseGroups(text: string, file: string): Group[] {
  const problems = new Problems(file);
  const groups = new Map<number, Group>();
  for (const line of flowLines(text, problems)) {
    const mod = readGroupMod(line, undefined, problems);
    if (mod === undefined) continue;
    if (mod.command !== 'add') {
      problems.add(
        slice(line, 0, /^\w*/.exec(line.text)![0].length),
        'this changes groups that are there',
        'add, or no command, in a group table',
      );
    } else if (groups.has(mod.id!)) {
      problems.add(line, `group ${mod.id} is there already (OFPGMFC_GROUP_EXISTS)`, 'each group_id once');
    } else {
      groups.set(mod.id!, mod.group!);
    }
  }
  problems.throwIfAny(text);
  return [...groups.values()];
}

/** One change of the group table. Throws a FlowSyntaxError with all problems. */
export function parseGroupMod(command: Command, text: string, file: string): GroupMod {
  const problems = new Problems(file);
  problems.line = 1;
  const mod = readGroupMod({ text, at: 0 }, command, problems);
  problems.throwIfAny(text);
  return mod!;
}

/** The changes of a file, each line with its command or without (add), in order. */
export function parseGroupMods(text: string, file: string): GroupMod[] {
  const problems = new Problems(file);
  const mods: GroupMod[] = [];
  for (const line of flowLines(text, problems)) {
    const mod = readGroupMod(line, undefined, problems);
    if (mod !== undefined) mods.push(mod);
  }
  problems.throwIfAny(text);
  return mods;
}

function readGroupMod(line: Span, named: Command | undefined, problems: Problems): GroupMod | undefined {
  const before = problems.found.length;
  const word = named === undefined ? /^[^, \t=]+/.exec(line.text)?.[0] : undefined;
  const prefix = word === undefined ? undefined : COMMANDS.get(word);
  const command = named ?? prefix ?? 'add';
  const body = prefix === undefined ? line : slice(line, word!.length);
  if (command === 'delete' && body.text.trim() === '')
    return { command, id: null, group: null, bucket: null };

  const draft: Draft = {
    command,
    id: undefined,
    type: undefined,
    selectionMethod: '',
    selectionParam: 0n,
    fields: [],
    bucket: null,
    selection: undefined,
  };
  const starts = [...body.text.matchAll(/bucket=/g)].map((m) => m.index);
  const head = starts.length === 0 ? body : slice(body, 0, starts[0]);
  for (const p of pairs(head, problems)) readKey(p, draft, problems);
  const end = slice(head, head.text.replace(/[, \t]+$/, '').length);
  if (draft.id === undefined && problems.found.length === before) {
    problems.add(end, 'the group has no number', 'group_id=N');
  }
  if (DEFINING.includes(command) && draft.type === undefined && problems.found.length === before) {
    problems.add(end, 'the group has no type', 'type=all, select, indirect or ff');
  }
  if (command === 'insert_buckets' && draft.bucket === null && problems.found.length === before) {
    problems.add(end, 'insert_bucket needs a place', 'command_bucket_id=N, first or last');
  }
  if (command === 'remove_buckets') draft.bucket ??= 'all';
  checkSelection(draft, problems);
  if (starts.length > 0 && !KEYWORDS.get('bucket')!.includes(command)) {
    problems.add(slice(body, starts[0]), `${wordOf(command)} takes no buckets`, 'no bucket=');
    return undefined;
  }
  const type = draft.type ?? 'all';
  const buckets = starts.map((start, i) => {
    const text = slice(body, start + 'bucket='.length, starts[i + 1] ?? body.text.length);
    return readBucket(text, slice(body, start, start + 'bucket='.length), command, type, problems);
  });
  if (DEFINING.includes(command) && type === 'indirect' && buckets.length !== 1) {
    const where = starts.length > 1 ? slice(body, starts[1]) : end;
    problems.add(
      where,
      `an indirect group has ${buckets.length} buckets (OFPGMFC_INVALID_GROUP)`,
      'one bucket',
    );
  }
  const ids = new Set<number>();
  for (const [i, bucket] of buckets.entries()) {
    if (bucket === undefined || bucket.id < 0) continue;
    if (ids.has(bucket.id)) {
      problems.add(
        slice(body, starts[i], starts[i + 1]),
        `a second bucket ${bucket.id} (OFPGMFC_BAD_BUCKET)`,
        'each bucket_id once',
      );
    }
    ids.add(bucket.id);
  }
  if (problems.found.length > before) return undefined;
  numberBuckets(buckets as Bucket[], ids);
  const pos = { file: problems.file, line: problems.line, column: line.at + 1, length: line.text.length };
  const { id, selectionMethod, selectionParam, fields, bucket } = draft;
  const group: Group = {
    id: id ?? 0,
    type,
    selectionMethod,
    selectionParam,
    fields,
    buckets: buckets as Bucket[],
    pos,
    text: line.text,
  };
  const whole = DEFINING.includes(command) || command === 'insert_buckets';
  return { command, id: id!, group: whole ? group : null, bucket };
}

/** Gives buckets without a number the lowest that are free, as ovs-ofctl does. */
function numberBuckets(buckets: readonly Bucket[], ids: Set<number>): void {
  let next = 0;
  for (const bucket of buckets) {
    if (bucket.id >= 0) continue;
    while (ids.has(next)) next++;
    bucket.id = next++;
  }
}

/** The word of a command in a file. */
function wordOf(command: Command): string {
  for (const [word, name] of COMMANDS) if (name === command) return word;
  return command;
}

function readKey(p: Pair, draft: Draft, problems: Problems): void {
  const name = p.key.text;
  const { value } = p;
  const where = value.text === '' ? p.whole : value;
  const commands = KEYWORDS.get(name);
  if (commands === undefined || name === 'bucket') {
    problems.add(
      name === '' ? p.whole : p.key,
      `unknown keyword "${name}"`,
      EXPECTED,
      nearest(name, KEYWORDS.keys()),
    );
    return;
  }
  if (!commands.includes(draft.command)) {
    problems.add(
      p.whole,
      `${wordOf(draft.command)} takes no ${name}`,
      `${name} only in: ${commands.map(wordOf).join(', ')}`,
    );
    return;
  }
  switch (name) {
    case 'group_id':
      draft.id = readGroupId(value, where, draft.command, problems);
      return;
    case 'type':
      draft.type = TYPES.get(value.text);
      if (draft.type === undefined) {
        const close = nearest(value.text, TYPES.keys());
        problems.add(where, `unknown type "${value.text}" of a group`, 'all, select, indirect or ff', close);
      }
      return;
    case 'selection_method':
      draft.selection = p.whole;
      if (value.text === 'hash' || value.text === 'dp_hash') draft.selectionMethod = value.text;
      else {
        const close = nearest(value.text, ['hash', 'dp_hash']);
        problems.add(
          where,
          `unknown selection method "${value.text}" (OFPBPC_BAD_VALUE)`,
          'hash or dp_hash',
          close,
        );
      }
      return;
    case 'selection_method_param':
      draft.selection ??= p.whole;
      draft.selectionParam = problems.value(where, parseNumber(value.text, 64, name)) ?? 0n;
      return;
    case 'fields':
      draft.selection ??= p.whole;
      for (const field of pairs(value, problems)) readHashField(field, draft, problems);
      draft.fields.sort((a, b) => FIELDS.indexOf(a.field) - FIELDS.indexOf(b.field));
      return;
    case 'command_bucket_id':
      draft.bucket = readBucketId(value, where, draft.command, problems);
      return;
  }
}

function readGroupId(
  value: Span,
  where: Span,
  command: Command,
  problems: Problems,
): number | null | undefined {
  if (value.text === 'all' && command === 'delete') return null;
  const id = problems.value(where, parseNumber(value.text, 32, 'group'));
  if (id === undefined || id <= MAX_GROUP) return id === undefined ? 0 : Number(id);
  problems.add(where, `there is no group ${value.text}`, `a number from 0 to ${MAX_GROUP}`);
  return 0;
}

function readBucketId(value: Span, where: Span, command: Command, problems: Problems): GroupMod['bucket'] {
  const { text } = value;
  if (text === 'first' || text === 'last' || (text === 'all' && command === 'remove_buckets')) return text;
  const expected = `a number from 0 to ${MAX_BUCKET}, first${command === 'remove_buckets' ? ', last or all' : ' or last'}`;
  const id = problems.value(where, parseNumber(text, 32, 'bucket'));
  if (id !== undefined && id > MAX_BUCKET) problems.add(where, `there is no bucket ${text}`, expected);
  return Number(id ?? 0n);
}

/** A field that counts for selection_method=hash, with the bits that do. */
function readHashField(p: Pair, draft: Draft, problems: Problems): void {
  const name = p.key.text;
  const field = isWireName(name) ? undefined : fieldByName(name);
  if (field === undefined || wireName(field) === undefined) {
    const where = name === '' ? p.whole : p.key;
    if (field === undefined) unknownField(where, 'a field of ovs-fields(7)', problems);
    else
      problems.add(
        where,
        `${name} can't be hashed`,
        'a field with an OXM or NXM name',
        name === 'dl_vlan' ? 'vlan_vid' : 'vlan_pcp',
      );
    return;
  }
  if (draft.fields.some((f) => f.field === field)) {
    problems.add(p.whole, `${name} is there already`, 'each field once');
    return;
  }
  let mask = field.valid;
  if (p.value.text !== '') {
    const parsed = problems.value(p.value, parseFieldValue(p.value.text, field));
    if (parsed === undefined) return;
    mask = parsed.value;
    if (mask === 0n || parsed.mask !== field.valid || (!field.maskable && mask !== ones(field.bytes * 8))) {
      problems.add(
        p.value,
        `${name} can't be hashed with this mask`,
        field.maskable ? 'the bits that count, not all zero' : `${name} alone`,
      );
      return;
    }
  }
  draft.fields.push({ field, mask });
}

function checkSelection(draft: Draft, problems: Problems): void {
  const { selection, selectionMethod, type } = draft;
  if (selection === undefined) return;
  if (draft.fields.length > 0 && selectionMethod !== 'hash') {
    problems.add(selection, 'fields without selection_method=hash', 'selection_method=hash,fields(...)');
  } else if (draft.selectionParam !== 0n && selectionMethod === '') {
    problems.add(
      selection,
      'selection_method_param without selection_method',
      'selection_method=METHOD before it',
    );
  } else if (selectionMethod !== '' && type !== undefined && type !== 'select') {
    problems.add(selection, `a group of type ${type} selects nothing (OFPBPC_BAD_VALUE)`, 'type=select');
  }
}

function readBucket(
  s: Span,
  keyword: Span,
  command: Command,
  type: Group['type'],
  problems: Problems,
): Bucket | undefined {
  const before = problems.found.length;
  const bucket: Bucket = {
    id: -1,
    weight: type === 'select' ? 1 : 0,
    watchPort: null,
    watchGroup: null,
    actions: [],
  };
  const actions: Pair[] = [];
  for (const p of pairs(s, problems)) {
    const { value } = p;
    const where = value.text === '' ? p.whole : value;
    switch (p.key.text.toLowerCase()) {
      case 'weight':
        bucket.weight = Number(problems.value(where, parseNumber(value.text, 16, 'weight')) ?? 0n);
        if (bucket.weight !== 0 && type !== 'select' && command !== 'insert_buckets') {
          problems.add(p.whole, 'only buckets of select groups have a weight', 'no weight, or type=select');
        }
        break;
      case 'watch_port':
        bucket.watchPort = readWatchPort(value, where, problems);
        break;
      case 'watch_group':
        bucket.watchGroup = readGroupId(value, where, command, problems) ?? null;
        break;
      case 'bucket_id': {
        const id = problems.value(where, parseNumber(value.text, 32, 'bucket'));
        bucket.id = Number(id ?? 0n);
        if (bucket.id > MAX_BUCKET)
          problems.add(where, `there is no bucket ${value.text}`, `a number from 0 to ${MAX_BUCKET}`);
        break;
      }
      case 'action':
      case 'actions':
        actions.push(...pairs(value, problems));
        break;
      default:
        actions.push(p);
    }
  }
  if (actions.length === 0)
    problems.add(s.text.trim() === '' ? keyword : s, 'the bucket has no actions', BUCKET_EXPECTED);
  const watches = bucket.watchPort !== null || bucket.watchGroup !== null;
  if (command !== 'insert_buckets') {
    if (type === 'fast_failover' && !watches) {
      problems.add(
        s,
        'a bucket of a fast failover group watches something',
        'watch_port:PORT or watch_group:N',
      );
    } else if (watches && (type === 'all' || type === 'indirect')) {
      problems.add(
        s,
        `a bucket of a group of type ${type} watches nothing (OFPGMFC_WATCH_UNSUPPORTED)`,
        'no watch_port and no watch_group',
      );
    }
  }
  bucket.actions = parseBucketActions(s, actions, problems).map((placed) => placed.action);
  return problems.found.length === before ? bucket : undefined;
}

function readWatchPort(value: Span, where: Span, problems: Problems): number | null {
  const port = parsePort(value.text);
  if (port === OFPP_NONE) return null;
  if (port !== undefined && (port < OFPP_MAX || port === OFPP_CONTROLLER)) return port;
  problems.add(where, `"${value.text}" is not a port to watch`, 'a decimal port number up to 65279');
  return null;
}

/** The group as dump-groups prints it, e.g. "group_id=1,type=select,bucket=bucket_id:0,actions=output:1". */
export function formatGroup(g: Group): string {
  const parts = [`group_id=${g.id}`, `type=${g.type === 'fast_failover' ? 'ff' : g.type}`];
  if (g.selectionMethod !== '') {
    parts.push(`selection_method=${g.selectionMethod}`);
    if (g.selectionParam !== 0n) parts.push(`selection_method_param=${g.selectionParam}`);
  }
  const fields = g.fields.map(({ field, mask }) => hashFieldText(field, mask)).join(',');
  if (g.fields.length === 1) parts.push(`fields=${fields}`);
  else if (g.fields.length > 1) parts.push(`fields(${fields})`);
  return [...parts, ...g.buckets.map((bucket) => formatBucket(bucket, g.type))].join(',');
}

function hashFieldText(field: Field, mask: bigint): string {
  return mask === field.valid ? field.name : `${field.name}=${fieldValueText(field, mask, field.valid)}`;
}

function formatBucket(b: Bucket, type: Group['type']): string {
  const parts = [`bucket=bucket_id:${b.id}`];
  if (b.weight !== (type === 'select' ? 1 : 0)) parts.push(`weight:${b.weight}`);
  if (b.watchPort !== null) parts.push(`watch_port:${portText(b.watchPort)}`);
  if (b.watchGroup !== null) parts.push(`watch_group:${b.watchGroup}`);
  return [...parts, `actions=${formatActions(b.actions)}`].join(',');
}
