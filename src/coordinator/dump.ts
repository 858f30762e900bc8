/** The connection table: as text, in the format of `ovs-appctl dpctl/dump-conntrack`, and as NDJSON.
 *
 *  Reads partitions while no packet is in flight. Connections come in the order of their creation, which is the
 *  same for any number of workers. */
import type { Expected } from '../conntrack/expected.js';
import { ConnKey } from '../conntrack/key.js';
import type { PartitionWriter } from '../conntrack/partition.js';
import { TCP_STATE_NAMES, WSCALE_KNOWN, WSCALE_SHIFT, WSCALE_UNKNOWN } from '../conntrack/tcp.js';
import { COLD, CONN, PARENT, STATE_CHILD, STATE_FTP, STATE_TFTP } from '../shm/layouts.js';
import { ipv4Text, ipv6Text } from '../wire/address.js';
import {
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IGMP,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';

const { STATE, PKTS_0, BYTES_0 } = CONN.at;
const { MARK, LABEL_0, CARRY } = COLD.at;

export const IPPROTO_DCCP = 33;
export const IPPROTO_UDPLITE = 136;

const PROTOCOL_NAMES = new Map([
  [IPPROTO_ICMP, 'icmp'],
  [IPPROTO_TCP, 'tcp'],
  [IPPROTO_UDP, 'udp'],
  [IPPROTO_ICMPV6, 'icmpv6'],
  [IPPROTO_SCTP, 'sctp'],
  [IPPROTO_IGMP, 'igmp'],
  [IPPROTO_DCCP, 'dccp'],
  [IPPROTO_UDPLITE, 'udplite'],
]);

/** One direction of a connection. `sport` and `dport` are 0 for protocols without ports; ICMP has `id`, `type` and
 *  `code` instead. */
export interface Tuple {
  src: string;
  dst: string;
  sport?: number;
  dport?: number;
  id?: number;
  type?: number;
  code?: number;
}

/** A connection as the table has it. */
export interface Connection {
  proto: number;
  ipv6: boolean;
  orig: Tuple;
  reply: Tuple;
  helper: 'ftp' | 'tftp' | null;
  /** Original tuple of the connection that a helper read when it expected this one. */
  parent: Tuple | null;
  zone: number;
  mark: number;
  /** Most significant word first. */
  label: Int32Array;
  /** CONN.STATE. */
  state: number;
  /** Packets and bytes, original direction first. */
  packets: [number, number];
  bytes: [number, number];
  /** Number, from 0, of the packet that made it, with a fraction by which of its ct() did; and the clock in ms at
   *  that packet. */
  created: number;
  createdMs: number;
  /** Clock in ms. */
  expiresMs: number;
}

/** Options of dpctl/dump-conntrack. */
export interface DumpOptions {
  /** -m */
  verbose: boolean;
  /** -s */
  statistics: boolean;
  zone: number | null;
}

/** Connections that are live at `clock` (ms), in the order of their creation. */
export function connectionsAt(
  partitions: readonly PartitionWriter[],
  clock: number,
  zone: number | null = null,
): Connection[] {
  const rows: Connection[] = [];
  for (const p of partitions) {
    for (let slot = 0; slot < p.high; slot++) {
      if (!p.used[slot] || p.expires(slot) <= clock) continue;
      if (zone === null || p.zone(slot) === zone) rows.push(connection(p, slot));
    }
  }
  return rows.sort((a, b) => a.created - b.created);
}

const MORE: DumpOptions = { verbose: true, statistics: false, zone: null };

/** One line a live connection. */
export function dumpConntrack(
  partitions: readonly PartitionWriter[],
  clock: number,
  options: DumpOptions = MORE,
): string[] {
  return connectionsAt(partitions, clock, options.zone).map((c) => formatConnection(c, clock, options));
}

/** What helpers expect at `clock`, as dpctl/dump-conntrack-exp shows it: in the order in which the control
 *  connections came, and for each in the order in which data connections were announced. */
export function dumpExpectations(
  partitions: readonly PartitionWriter[],
  clock: number,
  zone: number | null,
): string[] {
  const rows: { created: number; text: string }[] = [];
  for (const p of partitions) {
    for (const e of p.expected.records()) {
      const { slot, created } = e;
      if (!p.used[slot] || p.expires(slot) <= clock || p.created(slot) !== created) continue;
      if (zone === null || e.zoneProto >>> 16 === zone) rows.push({ created, text: expectationText(e) });
    }
  }
  return rows.sort((a, b) => a.created - b.created).map((row) => row.text);
}

function expectationText(e: Expected): string {
  key.src = e.src;
  key.dst = e.dst;
  key.ports = e.port;
  setKind(e.zoneProto);
  key.addr6.set(e.addr6);
  let text = `${protocolName(key.proto)},orig=(${tupleText(tupleOf(key))})`;
  if (e.zoneProto >>> 16 !== 0) text += `,zone=${e.zoneProto >>> 16}`;
  if (e.mark !== 0) text += `,mark=${e.mark}`;
  const label = labelText(e.label);
  if (label !== '') text += `,labels=${label}`;
  const { parent } = e;
  key.src = parent[PARENT.at.SRC];
  key.dst = parent[PARENT.at.DST];
  key.ports = parent[PARENT.at.PORTS];
  setKind(parent[PARENT.at.ZONE_PROTO]);
  for (let i = 0; i < 8; i++) key.addr6[i] = parent[PARENT.at.SRC6_0 + i];
  return `${text},parent=(${tupleText(tupleOf(key))})`;
}

function setKind(zoneProto: number): void {
  key.zoneProto = zoneProto;
  key.proto = (zoneProto >>> 8) & 0xff;
  key.ipv6 = (zoneProto & 0x80) !== 0;
}

/** Reads the record in `slot`. */
export function connection(p: PartitionWriter, slot: number): Connection {
  const { hot, cold } = p;
  const c = slot << CONN.shift;
  const m = slot << COLD.shift;
  const state = hot[c + STATE];
  let parent: Tuple | null = null;
  if (state & STATE_CHILD) {
    p.loadParent(slot, key);
    parent = tupleOf(key);
  }
  p.load(slot, 1, key);
  const reply = tupleOf(key);
  p.load(slot, 0, key);
  const carry = cold[m + CARRY];
  return {
    proto: key.proto,
    ipv6: key.ipv6,
    orig: tupleOf(key),
    reply,
    helper: state & STATE_FTP ? 'ftp' : state & STATE_TFTP ? 'tftp' : null,
    parent,
    zone: p.zone(slot),
    mark: cold[m + MARK] >>> 0,
    label: cold.slice(m + LABEL_0, m + LABEL_0 + 4),
    state,
    packets: [hot[c + PKTS_0] >>> 0, hot[c + PKTS_0 + 1] >>> 0],
    bytes: [
      (hot[c + BYTES_0] >>> 0) + (carry & 0xffff) * 2 ** 32,
      (hot[c + BYTES_0 + 1] >>> 0) + (carry >>> 16) * 2 ** 32,
    ],
    created: p.created(slot),
    createdMs: p.createdMs[slot],
    expiresMs: p.expires(slot),
  };
}

const key = new ConnKey();

/** The tuple that `k` has, whose hash is not looked at. */
export function tupleOf(k: ConnKey): Tuple {
  const { ipv6, proto, ports } = k;
  const src = ipv6 ? ipv6Text(k.addr6, 0) : ipv4Text(k.src);
  const dst = ipv6 ? ipv6Text(k.addr6, 4) : ipv4Text(k.dst);
  if (proto !== IPPROTO_ICMP && proto !== IPPROTO_ICMPV6) {
    return { src, dst, sport: ports >>> 16, dport: ports & 0xffff };
  }
  // ICMP over the wrong IP version is tracked like any other protocol but printed like ICMP.
  const right = proto === (ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
  return { src, dst, id: ports >>> 16, type: right ? k.zoneProto & 0xff : 0, code: 0 };
}

/** A line of dpctl/dump-conntrack at `clock`. */
export function formatConnection(c: Connection, clock: number, o: DumpOptions): string {
  let text = `${protocolName(c.proto)},orig=(${tupleText(c.orig)}),reply=(${tupleText(c.reply)})`;
  if (o.verbose) text += ',id=0';
  if (c.zone !== 0) text += `,zone=${c.zone}`;
  if (o.verbose) text += ',status=0';
  if (o.statistics) text += `,timeout=${secondsLeft(c, clock)}`;
  if (c.mark !== 0) text += `,mark=${c.mark}`;
  const label = labelText(c.label);
  if (label !== '') text += `,labels=${label}`;
  if (c.proto === IPPROTO_TCP) {
    text += `,protoinfo=(${o.verbose ? tcpPart(c.state) : `state=${TCP_STATE_NAMES[tcpOneState(c.state)]}`})`;
  }
  if (c.helper !== null) text += `,helper=${c.helper}`;
  if (c.parent !== null) text += `,parent=(${tupleText(c.parent)})`;
  return text;
}

/** A line of NDJSON. Times in seconds as of the capture; `firstNs` is the time of its first packet. `limit`:
 *  how many connections the zone may have, or null. */
export function connectionJson(c: Connection, clock: number, firstNs: bigint, limit: number | null): string {
  const label = labelText(c.label);
  return JSON.stringify({
    protocol: protocolName(c.proto),
    zone: c.zone,
    zone_limit: limit,
    mark: c.mark,
    labels: label === '' ? '0x0' : label,
    orig: { ...c.orig, packets: c.packets[0], bytes: c.bytes[0] },
    reply: { ...c.reply, packets: c.packets[1], bytes: c.bytes[1] },
    ...(c.proto === IPPROTO_TCP ? { tcp: tcpJson(c.state) } : {}),
    ...(c.helper === null ? {} : { helper: c.helper }),
    ...(c.parent === null ? {} : { parent: c.parent }),
    packet: Math.floor(c.created) + 1,
    created: timeText(firstNs, c.createdMs),
    expires: timeText(firstNs, c.expiresMs),
    timeout: secondsLeft(c, clock),
  });
}

export function protocolName(proto: number): string {
  return PROTOCOL_NAMES.get(proto) ?? String(proto);
}

/** The one state that OVS shows without -m: that of the end which is further, as the kernel would name it. */
export function tcpOneState(state: number): number {
  const further = Math.max(state & 15, (state >>> 4) & 15);
  if (further === 9) return 10; // FIN_WAIT_2: TIME_WAIT
  return further === 3 ? 4 : further; // SYN_RECV: ESTABLISHED
}

function secondsLeft(c: Connection, clock: number): number {
  return Math.max(0, Math.floor((c.expiresMs - clock) / 1000));
}

/** Whole milliseconds behind the first packet, as seconds of the capture. */
function timeText(firstNs: bigint, ms: number): string {
  const ns = firstNs + BigInt(Math.floor(ms)) * 1_000_000n;
  const sec = ns / 1_000_000_000n;
  return `${sec}.${String(ns % 1_000_000_000n).padStart(9, '0')}`;
}

function tupleText(t: Tuple): string {
  const rest =
    t.id === undefined ? `sport=${t.sport},dport=${t.dport}` : `id=${t.id},type=${t.type},code=${t.code}`;
  return `src=${t.src},dst=${t.dst},${rest}`;
}

function labelText(words: Int32Array): string {
  let hex = '';
  for (const word of words) hex += (word >>> 0).toString(16).padStart(8, '0');
  hex = hex.replace(/^0+/, '');
  return hex === '' ? '' : `0x${hex}`;
}

function tcpPart(state: number): string {
  const scales = [(state >>> 8) & 0xff, (state >>> 16) & 0xff];
  let text = `state_orig=${TCP_STATE_NAMES[state & 15]},state_reply=${TCP_STATE_NAMES[(state >>> 4) & 15]}`;
  if (((scales[0] | scales[1]) & WSCALE_SHIFT) !== 0) {
    text += `,wscale_orig=${scales[0] & WSCALE_SHIFT},wscale_reply=${scales[1] & WSCALE_SHIFT}`;
  }
  return `${text},flags_orig=${tcpFlags(scales[0]) || '0'},flags_reply=${tcpFlags(scales[1]) || '0'}`;
}

function tcpJson(state: number) {
  const end = (peer: number, scale: number) => ({
    state: TCP_STATE_NAMES[peer],
    wscale: scale & WSCALE_KNOWN ? scale & WSCALE_SHIFT : null,
  });
  return {
    orig: end(state & 15, (state >>> 8) & 0xff),
    reply: end((state >>> 4) & 15, (state >>> 16) & 0xff),
  };
}

function tcpFlags(scale: number): string {
  const flags: string[] = [];
  if (scale & WSCALE_KNOWN) flags.push('WINDOW_SCALE');
  if (scale & WSCALE_UNKNOWN) flags.push('BE_LIBERAL');
  return flags.join('|');
}
