/** What the tables hold, as `ovs-ofctl -O OpenFlow15` prints it (ovs-ofctl(8), "OpenFlow Switch Flow Table
 *  Commands", "Group Table Commands", "Meter Table Commands"). Counters must be up to date. Where Open
 *  vSwitch's order comes from its hash tables, this is in the order of numbers and priorities. */
import { formatActions, formatMatch } from './format.js';
import { formatGroup } from './groups.js';
import { asOpenFlow15, groupAsOpenFlow15, matchAsOpenFlow15 } from './openflow15.js';
import { usesGroup, usesMeter } from './rules.js';
import type { Pipeline, RemovalReason, Selection, TableRule } from './tables.js';
import {
  DEFAULT_PRIORITY,
  type FlowFlag,
  type FlowMod,
  type GroupMod,
  type Match,
  type Meter,
} from './types.js';

/** What ages can say, in seconds. */
const MAX_AGE = 65535;
/** Message header; the transaction id is that of a tool's first request. */
const REPLY = '(OF1.5) (xid=0x2):';

/** In the order in which they are printed. */
const FLAGS: readonly FlowFlag[] = [
  'send_flow_rem',
  'check_overlap',
  'reset_counts',
  'no_packet_counts',
  'no_byte_counts',
];

/** Everything. */
export function selectAll(match: Match): Selection {
  return { table: null, match, cookie: 0n, cookieMask: 0n, outPort: null, outGroup: null };
}

/** Reply to dump-flows. Without `stats` as dump-flows --no-stats. */
export function dumpFlows(pipeline: Pipeline, selection: Selection, now: number, stats = true): string {
  const lines = pipeline.select(selection).map((rule) => ` ${flowText(rule, now, stats)}\n`);
  return stats ? `OFPST_FLOW reply ${REPLY}\n${lines.join('')}` : lines.join('');
}

function flowText(rule: TableRule, now: number, stats: boolean): string {
  const text: string[] = [];
  const age = now - rule.created;
  if (stats || rule.cookie !== 0n) text.push(`cookie=0x${rule.cookie.toString(16)}`);
  if (stats) text.push(`duration=${duration(age)}`);
  if (stats || rule.table !== 0) text.push(`table=${rule.table}`);
  if (stats) text.push(`n_packets=${rule.packets}`, `n_bytes=${rule.bytes}`);
  if (rule.idleTimeout !== 0) text.push(`idle_timeout=${rule.idleTimeout}`);
  if (rule.hardTimeout !== 0) text.push(`hard_timeout=${rule.hardTimeout}`);
  let rest = flagsText(rule.flags);
  if (rule.importance !== 0) rest += `importance=${rule.importance}, `;
  if (stats) {
    // OpenFlow 1.5 carries no hard_age.
    rest += `idle_age=${seconds(now - rule.used)}, `;
  }
  const match = matchText(rule.match, rule.priority);
  const head = text.length === 0 ? '' : `${text.join(', ')}, `;
  return `${head}${rest}${match === '' ? '' : `${match} `}actions=${formatActions(asOpenFlow15(rule.actions, rule.match))}`;
}

/** Reply to dump-aggregate. */
export function dumpAggregate(pipeline: Pipeline, selection: Selection): string {
  let packets = 0;
  let bytes = 0;
  const rules = pipeline.select(selection);
  for (const rule of rules) {
    packets += rule.packets;
    bytes += rule.bytes;
  }
  return `OFPST_AGGREGATE reply ${REPLY} packet_count=${packets} byte_count=${bytes} flow_count=${rules.length}\n`;
}

/** Reply to dump-groups, of one group or all. */
export function dumpGroups(pipeline: Pipeline, id: number | null): string {
  const lines = groupsOf(pipeline, id).map(({ group }) => ` ${formatGroup(groupAsOpenFlow15(group))}\n`);
  return `OFPST_GROUP_DESC reply ${REPLY}\n${lines.join('')}`;
}

/** Reply to dump-group-stats. */
export function dumpGroupStats(pipeline: Pipeline, id: number | null, now: number): string {
  const rules = pipeline.rules();
  const lines = groupsOf(pipeline, id).map((g) => {
    const users = rules.filter((rule) => usesGroup(rule, g.group.id)).length;
    const buckets = g.buckets.map((b, i) => `,bucket${i}:packet_count=${b.packets},byte_count=${b.bytes}`);
    const age = duration(now - g.created);
    return (
      ` group_id=${g.group.id},duration=${age},ref_count=${users},` +
      `packet_count=${g.packets},byte_count=${g.bytes}${buckets.join('')}\n`
    );
  });
  return `OFPST_GROUP reply ${REPLY}\n${lines.join('')}`;
}

function groupsOf(pipeline: Pipeline, id: number | null) {
  return [...pipeline.groups.values()]
    .filter(({ group }) => id === null || group.id === id)
    .sort((a, b) => a.group.id - b.group.id);
}

/** Reply to dump-meters. */
export function dumpMeters(pipeline: Pipeline, id: number | null): string {
  const lines = metersOf(pipeline, id).map(({ meter }) => `${meterText(meter)}\n`);
  return `OFPST_METER_CONFIG reply ${REPLY}\n${lines.join('')}`;
}

/** Reply to meter-stats. */
export function dumpMeterStats(pipeline: Pipeline, id: number | null, now: number): string {
  const rules = pipeline.rules();
  const lines = metersOf(pipeline, id).map((m) => {
    const users = rules.filter((rule) => usesMeter(rule, m.meter.id)).length;
    const bands = m.bandPackets.map((n, i) => `${i}: packet_count:${n} byte_count:${m.bandBytes[i]}\n`);
    return (
      `meter:${m.meter.id} flow_count:${users} packet_in_count:${m.packets} ` +
      `byte_in_count:${m.bytes} duration:${duration(now - m.created)} bands:\n${bands.join('')}`
    );
  });
  return `OFPST_METER reply ${REPLY}\n${lines.join('')}`;
}

function metersOf(pipeline: Pipeline, id: number | null) {
  return [...pipeline.meters.values()]
    .filter(({ meter }) => id === null || meter.id === id)
    .sort((a, b) => a.meter.id - b.meter.id);
}

function meterText(meter: Meter): string {
  const flags = [meter.unit, ...(meter.burst ? ['burst'] : []), ...(meter.stats ? ['stats'] : [])];
  const bands = meter.bands.map(
    (b) => `\ntype=drop rate=${b.rate}${meter.burst ? ` burst_size=${b.burstSize}` : ''}`,
  );
  return `meter=${meter.id} ${flags.join(' ')} bands=${bands.join('')}`;
}

/** What a switch tells a controller when a flow with send_flow_rem goes. */
export function flowRemovedText(rule: TableRule, reason: RemovalReason, now: number): string {
  let text = `OFPT_FLOW_REMOVED (OF1.5) (xid=0x0): ${matchText(rule.match, rule.priority)}`;
  text += ` reason=${reason} table_id=${rule.table}`;
  if (rule.cookie !== 0n) text += ` cookie:0x${rule.cookie.toString(16)}`;
  text += ` duration${duration(now - rule.created)} idle${rule.idleTimeout}`;
  if (rule.hardTimeout !== 0) text += ` hard${rule.hardTimeout}`;
  return `${text} pkts${rule.packets} bytes${rule.bytes}`;
}

const FLOW_COMMANDS: Record<FlowMod['command'], string> = {
  add: 'ADD',
  modify: 'MOD',
  modify_strict: 'MOD_STRICT',
  delete: 'DEL',
  delete_strict: 'DEL_STRICT',
};

/** A flow-mod as the tools show one that was refused. */
export function flowModText({ command, rule, cookieMask }: FlowMod): string {
  let text = `OFPT_FLOW_MOD ${REPLY} ${FLOW_COMMANDS[command]} `;
  if (rule.table !== 0) text += `table:${rule.table} `;
  const match = matchText(rule.match, rule.priority);
  if (match !== '') text += `${match} `;
  if (cookieMask !== 0n) text += `cookie:0x${rule.cookie.toString(16)}/0x${cookieMask.toString(16)} `;
  else if (command === 'add' && rule.cookie !== 0n) text += `cookie:0x${rule.cookie.toString(16)} `;
  if (rule.idleTimeout !== 0) text += `idle:${rule.idleTimeout} `;
  if (rule.hardTimeout !== 0) text += `hard:${rule.hardTimeout} `;
  if (rule.importance !== undefined && rule.importance !== 0) text += `importance:${rule.importance} `;
  return `${text}${flagsText(rule.flags ?? [])}actions=${formatActions(asOpenFlow15(rule.actions, rule.match))}\n`;
}

const GROUP_COMMANDS: Record<GroupMod['command'], string> = {
  add: 'ADD',
  modify: 'MOD',
  add_or_modify: 'ADD_OR_MOD',
  delete: 'DEL',
  insert_buckets: 'INSERT_BUCKET',
  remove_buckets: 'REMOVE_BUCKET',
};

/** A group-mod as the tools show one that was refused. */
export function groupModText({ command, id, group, bucket }: GroupMod): string {
  const what = bucket === null ? '' : `command_bucket_id:${bucket},`;
  let body = group === null ? `group_id=${id}` : formatGroup(groupAsOpenFlow15(group));
  if (command === 'insert_buckets') body = body.replace(/,type=\w+/, '');
  return `OFPT_GROUP_MOD ${REPLY}\n ${GROUP_COMMANDS[command]} ${what}${body}\n`;
}

/** A meter-mod as the tools show one that was refused. */
export function meterModText(command: 'ADD' | 'MOD', meter: Meter): string {
  return `OFPT_METER_MOD ${REPLY} ${command} ${meterText(meter)}\n`;
}

function flagsText(flags: readonly FlowFlag[]): string {
  return FLAGS.filter((flag) => flags.includes(flag))
    .map((flag) => `${flag} `)
    .join('');
}

/** With the priority before it, if that is not what flows have by default. */
function matchText(match: Match, priority: number): string {
  const parts = priority === DEFAULT_PRIORITY ? [] : [`priority=${priority}`];
  const text = formatMatch(matchAsOpenFlow15(match));
  if (text !== '') parts.push(text);
  return parts.join(',');
}

/** "12.5s" in whole ms, as the tools print durations. */
function duration(ms: number): string {
  const rest = ms % 1000;
  return `${Math.floor(ms / 1000)}${rest === 0 ? '' : `.${String(rest).padStart(3, '0')}`}s`;
}

function seconds(ms: number): number {
  return Math.max(0, Math.min(MAX_AGE, Math.floor(ms / 1000)));
}
