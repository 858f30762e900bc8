/** The columns of a connection record, for every format that has columns: NDJSON, CSV, Parquet. docs/analyze.md says
 *  what each means. */

import { TCP_STATE_NAMES } from '../../conntrack/tcp.js';
import { protocolName, type Tuple, tcpOneState } from '../../coordinator/dump.js';
import { type ConnectionRecord, connState } from '../../coordinator/record.js';
import { DROP_REASONS } from '../../datapath/program.js';
import { ipv4Text } from '../../wire/address.js';
import { IPPROTO_TCP } from '../../wire/extract.js';

type Of<T> = (r: ConnectionRecord, rules: RuleNames) => T;

interface Named<T> {
  readonly name: string;
  /** null: it does not apply. */
  readonly value: Of<T | null>;
}
interface TextColumn extends Named<string> {
  readonly type: 'text';
  /** Next to no two records have the same. */
  readonly unique: boolean;
  /** An address: the word of one of IPv4, else its text. */
  readonly host?: (r: ConnectionRecord) => number | string;
}
/** `small`: an integer below 2^31. `seconds`: a difference. */
interface NumberColumn extends Named<number> {
  readonly type: 'integer' | 'small' | 'seconds';
}
/** Nanoseconds since 1970; in parts, too. */
interface TimeColumn extends Named<bigint> {
  readonly type: 'time';
  readonly sec: (r: ConnectionRecord) => number;
  readonly nsec: (r: ConnectionRecord) => number;
}
export type Column = TextColumn | NumberColumn | TimeColumn;
export type ColumnType = Column['type'];

/** Text of the rule by which a packet went last, at a stat point. */
export type RuleNames = (stat: number) => string | null;

const text = (name: string, value: Of<string | null>, unique = false): Column => ({
  name,
  type: 'text',
  unique,
  value,
});
const host = (name: string, reply: 0 | 1, dst: 0 | 1): Column => ({
  name,
  type: 'text',
  unique: false,
  host: (r) => r.host(reply, dst),
  value: (r) => {
    const address = r.host(reply, dst);
    return typeof address === 'number' ? ipv4Text(address) : address;
  },
});
const integer = (name: string, value: Of<number | null>): Column => ({ name, type: 'integer', value });
const small = (name: string, value: Of<number | null>): Column => ({ name, type: 'small', value });
const seconds = (name: string, ns: (r: ConnectionRecord) => number | null): Column => ({
  name,
  type: 'seconds',
  value: (r) => {
    const n = ns(r);
    return n === null ? null : n / 1e9;
  },
});
const time = (name: string, sec: TimeColumn['sec'], nsec: TimeColumn['nsec']): Column => ({
  name,
  type: 'time',
  sec,
  nsec,
  value: (r) => BigInt(sec(r)) * 1_000_000_000n + BigInt(nsec(r)),
});
/** A column for each direction. */
const both = (name: string, get: (r: ConnectionRecord, d: 0 | 1) => number): Column[] => [
  integer(`orig_${name}`, (r) => get(r, 0)),
  integer(`reply_${name}`, (r) => get(r, 1)),
];
/** The same, for TCP only. */
const bothTcp = (name: string, get: (r: ConnectionRecord, d: 0 | 1) => number): Column[] => [
  integer(`orig_${name}`, (r) => (isTcp(r) ? get(r, 0) : null)),
  integer(`reply_${name}`, (r) => (isTcp(r) ? get(r, 1) : null)),
];
const isTcp = (r: ConnectionRecord): boolean => r.proto === IPPROTO_TCP;
const flags = (r: ConnectionRecord, reply: 0 | 1): string | null =>
  isTcp(r) ? tcpFlagsText(r.tcpFlags[reply]) : null;

export const COLUMNS: readonly Column[] = [
  time(
    'start',
    (r) => r.startSec,
    (r) => r.startNsec,
  ),
  time(
    'end',
    (r) => r.endSec,
    (r) => r.endNsec,
  ),
  seconds('duration', (r) => r.durationNs),
  text('protocol', (r) => protocolName(r.proto)),
  small('ip_version', (r) => (r.ipv6 ? 6 : 4)),
  host('src', 0, 0),
  small('sport', (r) => (r.isIcmp ? null : r.ports(0) >>> 16)),
  host('dst', 0, 1),
  small('dport', (r) => (r.isIcmp ? null : r.ports(0) & 0xffff)),
  small('icmp_type', (r) => (r.isIcmp ? r.icmpType : null)),
  small('icmp_id', (r) => (r.isIcmp ? r.ports(0) >>> 16 : null)),
  text('nat', (r) => natOf(r)),
  host('reply_src', 1, 0),
  small('reply_sport', (r) => (r.isIcmp ? null : r.ports(1) >>> 16)),
  host('reply_dst', 1, 1),
  small('reply_dport', (r) => (r.isIcmp ? null : r.ports(1) & 0xffff)),
  small('zone', (r) => r.zone),
  integer('mark', (r) => r.mark),
  text('label', (r) => labelOf(r)),
  text('state', (r) => stateOf(r)),
  text('conn_state', (r) => connState(r)),
  text('ending', (r) => r.ending),
  text('history', (r) => r.history),
  ...both('packets', (r, d) => r.packets[d]),
  ...both('bytes', (r, d) => r.ipBytes[d]),
  ...both('frame_bytes', (r, d) => r.frameBytes[d]),
  ...both('payload_bytes', (r, d) => r.payloadBytes[d]),
  ...bothTcp('stream_bytes', (r, d) => r.streamBytes[d]),
  ...bothTcp('missed_bytes', (r, d) => r.missedBytes[d]),
  text('orig_tcp_flags', (r) => flags(r, 0)),
  text('reply_tcp_flags', (r) => flags(r, 1)),
  ...bothTcp('retransmissions', (r, d) => r.retransmissions[d]),
  ...bothTcp('out_of_order', (r, d) => r.outOfOrder[d]),
  seconds('syn_ack_time', (r) => r.synAckNs),
  seconds('handshake_time', (r) => r.handshakeNs),
  integer('invalid_packets', (r) => r.invalid),
  integer('icmp_errors', (r) => r.icmpErrors),
  text('helper', (r) => r.helper),
  text('parent', (r) => (r.isChild ? tupleText(r.connection.parent as Tuple) : null)),
  small('vlan', (r) => r.vlan[0] ?? null),
  small('inner_vlan', (r) => r.vlan[1] ?? null),
  small('in_port', (r) => r.inPort),
  integer('first_packet', (r) => r.firstPacket),
  integer('last_packet', (r) => r.lastPacket),
  text('community_id', (r) => r.communityId, true),
  integer('dropped_packets', (r) => r.drops),
  text('drop_reason', (r) => DROP_REASONS[r.dropReason]),
  text('drop_rule', (r, rules) => (r.drops === 0 ? null : rules(r.dropStat))),
];

/** Which end of the connection was translated: src, dst, both; null if neither. */
export function natOf(r: ConnectionRecord): string | null {
  if (!r.isTranslated) return null;
  const { orig, reply } = r.connection;
  const src = orig.src !== reply.dst || orig.sport !== reply.dport || orig.id !== reply.id;
  const dst = orig.dst !== reply.src || orig.dport !== reply.sport;
  return src && dst ? 'both' : src ? 'src' : dst ? 'dst' : null;
}

/** The state at the end: for TCP as the kernel would name it, else whether a reply has come. */
export function stateOf(r: ConnectionRecord): string {
  if (isTcp(r)) return TCP_STATE_NAMES[tcpOneState(r.state)];
  return r.packets[1] > 0 ? 'ESTABLISHED' : 'NEW';
}

/** As tshark writes them, FIN last: "SA", "PAF". */
export function tcpFlagsText(bits: number): string {
  return FLAGS_TEXT[bits];
}
const FLAG_BITS = [2, 4, 8, 16, 32, 64, 128, 1];
const FLAGS_TEXT = Array.from({ length: 256 }, (_, bits) =>
  [...'SRPAUECF'].filter((_flag, i) => bits & FLAG_BITS[i]).join(''),
);

export function tupleText(t: Tuple): string {
  if (t.id !== undefined) return `${t.src} -> ${t.dst} id ${t.id}`;
  const end = (host: string, port: number | undefined): string =>
    `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return `${end(t.src, t.sport)} -> ${end(t.dst, t.dport)}`;
}

function labelOf(r: ConnectionRecord): string | null {
  const { label } = r;
  if ((label[0] | label[1] | label[2] | label[3]) === 0) return null;
  const hex = [...label].map((w) => (w >>> 0).toString(16).padStart(8, '0')).join('');
  return `0x${hex.replace(/^0+/, '')}`;
}

/** Seconds with nine digits. */
export function timeText(ns: bigint): string {
  const sec = ns / 1_000_000_000n - (ns < 0n && ns % 1_000_000_000n !== 0n ? 1n : 0n);
  return `${sec}.${String(ns - sec * 1_000_000_000n).padStart(9, '0')}`;
}
