/** The connection table as text, in the format of `ovs-appctl dpctl/dump-conntrack -m`.
 *
 *  Reads partitions while no worker runs. Connections come in the order of their creation, which is the
 *  same for any number of workers. */
import type { PartitionWriter } from '../conntrack/partition.js';
import { TCP_STATE_NAMES, WSCALE_KNOWN, WSCALE_SHIFT, WSCALE_UNKNOWN } from '../conntrack/tcp.js';
import { ADDR6, COLD, CONN } from '../shm/layouts.js';
import { formatIpv4, formatIpv6 } from '../wire/address.js';
import {
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IGMP,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';

const { SRC, DST, PORTS, ZONE_PROTO, STATE } = CONN.at;
const { MARK, LABEL_0 } = COLD.at;

const PROTOCOL_NAMES = new Map([
  [IPPROTO_ICMP, 'icmp'],
  [IPPROTO_TCP, 'tcp'],
  [IPPROTO_UDP, 'udp'],
  [IPPROTO_ICMPV6, 'icmpv6'],
  [IPPROTO_SCTP, 'sctp'],
  [IPPROTO_IGMP, 'igmp'],
  [33, 'dccp'],
  [136, 'udplite'],
]);

/** Answer to an ICMP type, by its number (see CONN.ZONE_PROTO). */
const ICMP_ANSWERS = new Map([
  [8, 0],
  [0, 8],
  [13, 14],
  [14, 13],
  [15, 16],
  [16, 15],
  [128, 129],
  [129, 128],
]);

/** One line a live connection. `clock`: tracker clock in ms. */
export function dumpConntrack(partitions: readonly PartitionWriter[], clock: number): string[] {
  const rows: { created: number; zone: number; text: string }[] = [];
  for (const p of partitions) {
    for (let slot = 0; slot < p.high; slot++) {
      if (!p.used[slot] || p.expires(slot) <= clock) continue;
      rows.push({ created: p.created(slot), zone: p.zone(slot), text: line(p, slot) });
    }
  }
  rows.sort((a, b) => a.created - b.created || a.zone - b.zone || (a.text < b.text ? -1 : 1));
  return rows.map((row) => row.text);
}

function line(p: PartitionWriter, slot: number): string {
  const { hot, cold, addr6 } = p;
  const c = slot << CONN.shift;
  const m = slot << COLD.shift;
  const zoneProto = hot[c + ZONE_PROTO];
  const proto = (zoneProto >>> 8) & 0xff;
  const kind = zoneProto & 0xff;
  let src: string;
  let dst: string;
  if (kind & 0x80) {
    const a = slot << ADDR6.shift;
    src = formatIpv6(addr6, a);
    dst = formatIpv6(addr6, a + 4);
  } else {
    src = formatIpv4(hot[c + SRC]);
    dst = formatIpv4(hot[c + DST]);
  }
  const ports = hot[c + PORTS];
  // ICMP over the wrong IP version is tracked like any other protocol but printed like ICMP.
  const icmp = proto === IPPROTO_ICMP || proto === IPPROTO_ICMPV6;
  const right = proto === (kind & 0x80 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
  const orig = icmp ? icmpPart(ports, right ? kind : 0) : portPart(ports);
  const reply = icmp
    ? icmpPart(ports, right ? ICMP_ANSWERS.get(kind)! : 0)
    : portPart((ports << 16) | (ports >>> 16));
  let text = `${PROTOCOL_NAMES.get(proto) ?? proto},orig=(src=${src},dst=${dst},${orig}),reply=(src=${dst},dst=${src},${reply}),id=0`;
  const zone = zoneProto >>> 16;
  if (zone !== 0) text += `,zone=${zone}`;
  text += ',status=0';
  if (cold[m + MARK] !== 0) text += `,mark=${cold[m + MARK] >>> 0}`;
  const label = labelText(cold, m + LABEL_0);
  if (label !== '') text += `,labels=${label}`;
  if (proto === IPPROTO_TCP) text += `,protoinfo=(${tcpPart(hot[c + STATE])})`;
  return text;
}

function portPart(ports: number): string {
  return `sport=${ports >>> 16},dport=${ports & 0xffff}`;
}

function icmpPart(ports: number, type: number): string {
  return `id=${ports & 0xffff},type=${type},code=0`;
}

function labelText(words: Int32Array, at: number): string {
  let hex = '';
  for (let i = 0; i < 4; i++) hex += (words[at + i] >>> 0).toString(16).padStart(8, '0');
  hex = hex.replace(/^0+/, '');
  return hex === '' ? '' : `0x${hex}`;
}

function tcpPart(state: number): string {
  const scales = [(state >>> 8) & 0xff, (state >>> 16) & 0xff];
  let text = `state_orig=${TCP_STATE_NAMES[state & 15]},state_reply=${TCP_STATE_NAMES[(state >>> 4) & 15]}`;
  if (((scales[0] | scales[1]) & WSCALE_SHIFT) !== 0) {
    text += `,wscale_orig=${scales[0] & WSCALE_SHIFT},wscale_reply=${scales[1] & WSCALE_SHIFT}`;
  }
  return `${text},flags_orig=${tcpFlags(scales[0])},flags_reply=${tcpFlags(scales[1])}`;
}

function tcpFlags(scale: number): string {
  const flags: string[] = [];
  if (scale & WSCALE_KNOWN) flags.push('WINDOW_SCALE');
  if (scale & WSCALE_UNKNOWN) flags.push('BE_LIBERAL');
  return flags.length === 0 ? '0' : flags.join('|');
}
