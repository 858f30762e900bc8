/** Fragments of IPv4 and IPv6: any order, duplicates, overlaps, gaps, tiny ones, headers that differ within a datagram,
 *  extension headers, VLAN tags, pauses around the timeout, limits and settings.
 *
 *  Kept out, because Open vSwitch answers by chance or not at all (docs/ovs-differences.md): a datagram on several
 *  ports, one whose end is beyond 65,535 bytes, and one that is older than 25 s when it is looked at: no pause
 *  is longer than 9 s, and behind each there are as many packets as it takes to drop all that is too old. */
import {
  ACK,
  type Bytes,
  cat,
  checksum,
  echo,
  ends,
  icmpError,
  ip,
  PSH,
  sctp,
  swap,
  tcp,
  u16,
  u32,
  udp,
} from '../packets.js';
import { C, C6, S, S6, type Script, SHOW, WATCH, WATCH_BOTH } from '../scenarios/script.js';
import { type Draw, damaged, type Fuzzer, once, pick, shuffled } from './fuzzer.js';

/** Matches on ip_frag before ct() and behind it. */
const MATCHES = `# What ip_frag says before ct() (register 1) and behind it, in the destination MAC and the TOS.
table=0,priority=100,ip,ip_frag=first,actions=load:1->NXM_NX_REG1[],resubmit(,1)
table=0,priority=100,ip,ip_frag=later,actions=load:2->NXM_NX_REG1[],resubmit(,1)
table=0,priority=100,ip,ip_frag=no,actions=load:3->NXM_NX_REG1[],resubmit(,1)
table=0,priority=100,ipv6,ip_frag=first,actions=load:4->NXM_NX_REG1[],resubmit(,1)
table=0,priority=100,ipv6,ip_frag=later,actions=load:5->NXM_NX_REG1[],resubmit(,1)
table=0,priority=100,ipv6,ip_frag=no,actions=load:6->NXM_NX_REG1[],resubmit(,1)
table=1,ip,actions=ct(commit,zone=NXM_NX_REG0[0..15],table=2)
table=1,ipv6,actions=ct(commit,zone=NXM_NX_REG0[0..15],table=2)
table=2,priority=100,ip,ip_frag=first,actions=mod_nw_tos:16,resubmit(,3)
table=2,priority=100,ip,ip_frag=later,actions=mod_nw_tos:32,resubmit(,3)
table=2,priority=100,udp,tp_dst=53,actions=mod_nw_tos:64,resubmit(,3)
table=2,priority=0,actions=resubmit(,3)
table=3,actions=${SHOW},move:NXM_NX_REG1[]->NXM_OF_ETH_DST[0..31],output:3
`;

const TRANSLATED = `# Port 1 opens connections from another address and port.
table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=1,nat(src=10.2.2.2),table=1)
table=0,priority=100,in_port=1,ipv6,actions=ct(commit,zone=1,nat(src=fc00:2::2),table=1)
table=0,priority=100,in_port=2,ip,actions=ct(zone=1,nat,table=1)
table=0,priority=100,in_port=2,ipv6,actions=ct(zone=1,nat,table=1)
table=1,priority=100,in_port=1,actions=${SHOW},output:2
table=1,priority=100,in_port=2,actions=${SHOW},output:1
`;

const TABLES = [WATCH_BOTH, WATCH, MATCHES, TRANSLATED];

interface Header {
  readonly ident: number;
  readonly ttl: number;
  readonly tos: number;
  readonly vlan: readonly number[];
  /** IPv4: options; IPv6: extension headers before the fragment header. */
  readonly extra: number;
  /** Reserved bits: DF and the evil bit of IPv4, two of the fragment header of IPv6. */
  readonly reserved: number;
}

/** A fragment of the IP packet in `frame`: bytes `at` to `end` behind its header. */
function piece(frame: Bytes, at: number, end: number, more: boolean, h: Header): Bytes {
  const six = frame[14] >> 4 === 6;
  const l4 = six ? 54 : 34;
  const address = (from: number, n: number): string =>
    n === 4
      ? frame.subarray(from, from + 4).join('.')
      : Array.from({ length: 8 }, (_, k) =>
          ((frame[from + 2 * k] << 8) | frame[from + 2 * k + 1]).toString(16),
        ).join(':');
  const body = frame.subarray(l4 + at, l4 + end);
  const o = { ttl: h.ttl, tos: h.tos, vlan: h.vlan };
  if (!six) {
    const field = (at >> 3) | (more ? 0x2000 : 0) | (h.reserved << 14);
    const options = new Array<number>(4 * h.extra).fill(1);
    return ip(address(26, 4), address(30, 4), frame[23], body, {
      ...o,
      ident: h.ident,
      frag: field,
      options,
    });
  }
  const fragment: [number, number[]] = [
    44,
    [...u16((at & 0xfff8) | (h.reserved << 1) | Number(more)), ...u32(h.ident)],
  ];
  const ext: [number, number[]][] = [fragment];
  if (h.extra & 1) ext.unshift([60, [1, 4, 0, 0, 0, 0]]);
  if (h.extra & 2) ext.unshift([0, [1, 4, 0, 0, 0, 0]]);
  return ip(address(22, 16), address(38, 16), frame[20], body, { ...o, ext });
}

/** What a case sends, so that there are answers. */
interface Kind {
  readonly six: boolean;
  readonly protocol: number;
}

/** The whole packets: with ports, without, with errors inside. */
function whole(r: Draw, port: number, n: number, table: number, kinds: readonly Kind[]): Bytes {
  const { six, protocol } = pick(r, kinds);
  const client = six ? C6 : C;
  const server = six ? S6 : S;
  const outside = table === 3 ? (six ? 'fc00:2::2' : '10.2.2.2') : client;
  const e = port === 1 ? ends(client, 40_000 + n, server, 53) : ends(server, 53, outside, 40_000 + n);
  const data = pick(r, [
    1300,
    2000,
    2400,
    2600,
    3000,
    4000,
    5000,
    once(r, 10) ? 20_000 : 1500,
    once(r, 20) ? 60_000 : 2500,
  ]);
  switch (protocol) {
    case 0:
      return tcp(e, PSH | ACK, 1000, 1000, { data, ...(once(r, 10) ? { badL4: true } : {}) });
    case 1:
      return echo(e.a, e.b, 300 + n, port === 2, { data: new Uint8Array(data) });
    case 2:
      return icmpError(e.a, e.b, udp(swap(e), { data }));
    case 3:
      return ip(e.a, e.b, 47, new Uint8Array(data));
    case 4:
      return sctp(e, 1, [0, 3, ...u16(4 + (data & ~3)), ...new Array<number>(data & ~3).fill(7)]);
    default:
      return udp(e, {
        data,
        ...(once(r, 12) ? { badL4: true } : {}),
        ...(once(r, 12) ? { noSum: true } : {}),
      });
  }
}

/** Where it is cut: ends of all but the last piece, multiples of 8. */
function cuts(r: Draw, size: number, least: number, clean: boolean): number[] {
  const out: number[] = [];
  for (let at = 0; ; ) {
    const n = !clean && once(r, 12) ? 8 * (1 + r(100)) : (least + r(once(r, 2) ? 8 : 1400)) & ~7;
    at += Math.max(8, n);
    if (at >= size || out.length > 60) return out;
    out.push(at);
  }
}

function datagram(
  r: Draw,
  port: number,
  n: number,
  table: number,
  least: number,
  kinds: readonly Kind[],
): Bytes[] {
  const frame = whole(r, port, n, table, kinds);
  // Half of them are as they should be.
  const clean = once(r, 2);
  const odd = (k: number): boolean => !clean && once(r, k);
  const six = frame[14] >> 4 === 6;
  const size = frame.length - (six ? 54 : 34);
  const header: Header = {
    ident: once(r, 4) ? r(4) : r(0x10000),
    ttl: 64,
    tos: once(r, 10) ? 4 * r(64) : 0,
    vlan: once(r, 8) ? [r(2) + 5] : [],
    extra: once(r, 6) ? r(4) : 0,
    reserved: once(r, 15) ? r(4) : 0,
  };
  const edges = [0, ...cuts(r, size, least, clean), size];
  // Open vSwitch translates IPv6 packets that have extension headers, atomic fragments too, with a wrong checksum.
  if (table === 3 && six && edges.length === 2) return [frame];
  const spans = edges.slice(1).map((end, k) => [edges[k], end, end < size] as [number, number, boolean]);
  // One more, that should not be there.
  if (odd(3)) {
    const [at, end, more] = pick(r, spans);
    switch (r(7)) {
      case 0: // a duplicate
        spans.push([at, end, more]);
        break;
      case 1: // a part of another
        spans.push([Math.min(at + 8 * r(20), end - 1) & ~7, end, more]);
        break;
      case 2: // over the next one
        spans.push([at, Math.min(end + 8 * (1 + r(200)), size), more]);
        break;
      case 3: // behind the end
        spans.push([(size + 7) & ~7, ((size + 7) & ~7) + 8 + 8 * r(200), once(r, 2)]);
        break;
      case 4: // another last one
        spans.push([at, end, !more]);
        break;
      case 5: // of no length; where headers are changed, Open vSwitch gets its checksum wrong
        spans.push([at, table >= 2 ? at + 8 : at, more]);
        break;
      default: // of a length that is no multiple of 8
        spans.push([at, Math.min(size, end + 1 + r(7)), true]);
    }
  }
  if (odd(5)) spans.splice(r(spans.length), 1);
  const padded = cat(frame, new Uint8Array(2000));
  const pieces = spans.map(([at, end, more]) => {
    const own = {
      ...header,
      ...(odd(12) ? { ttl: 1 + r(64) } : {}),
      ...(odd(40) ? { ident: r(4) } : {}),
      ...(odd(40) ? { vlan: once(r, 2) ? [] : [9] } : {}),
      ...(odd(40) ? { extra: r(4) } : {}),
    };
    let out = piece(padded, at, Math.min(end, 64_000), more, own);
    if (odd(60)) out = damaged(r, out, 14, 1);
    if (odd(60) && !six && !own.vlan.length) {
      // Another protocol, with a right header checksum.
      out = out.slice();
      out[23] = pick(r, [1, 6, 17, 132]);
      out.set([0, 0], 24);
      out.set(u16(checksum(out.subarray(14, 14 + (out[14] & 15) * 4))), 24);
    }
    if (odd(40)) out = cat(out, new Uint8Array(1 + r(20)));
    return out;
  });
  switch (r(4)) {
    case 0:
      return pieces;
    case 1:
      return pieces.reverse();
    default:
      return shuffled(r, pieces);
  }
}

/** In seconds; 15 of them are the timeout. */
const PAUSES = [0.1, 1, 5, 7.4, 7.5, 7.6, 8, 9];

function settings(s: Script, r: Draw): number {
  s.cmd('dpctl/ipf-set-enabled', 'v4').cmd('dpctl/ipf-set-enabled', 'v6');
  s.cmd('dpctl/ipf-set-max-nfrags', String(once(r, 6) ? pick(r, [0, 1, 3, 10]) : 1000));
  const least = once(r, 3) ? pick(r, [400, 500, 1000, 1500]) : 0;
  s.cmd('dpctl/ipf-set-min-frag', 'v4', String(least || 1200));
  s.cmd('dpctl/ipf-set-min-frag', 'v6', String(least || 1280));
  if (once(r, 15)) s.cmd('dpctl/ipf-set-disabled', pick(r, ['v4', 'v6']));
  return least || 1280;
}

export const fragmentFuzzer: Fuzzer = {
  name: 'fragments',
  about: 'fragments of IPv4 and IPv6 in any order and shape, timeouts, settings',
  tables: TABLES,
  ports: 3,
  play: (s, r, table) => {
    const least = settings(s, r);
    let begun = 0;
    const kinds = Array.from({ length: 1 + r(2) }, () => ({ six: once(r, 3), protocol: r(8) }));
    const drain = (): void => {
      for (let n = 0; n <= begun; n++) s.pkt(1, udp(ends(C, 9, S, 9)), 'drops what is too old');
    };
    let queues: { port: number; frames: Bytes[] }[] = [];
    for (let n = 0, most = 4 + r(6); n < most || queues.length; ) {
      if (n < most && (queues.length < 1 + r(3) || once(r, 6))) {
        const port = 1 + r(2);
        n++;
        const frames = datagram(r, port, r(2), table, least, kinds);
        queues.push({ port, frames });
        begun += frames.length;
      }
      const q = pick(r, queues);
      const frame = q.frames.shift();
      if (frame) s.pkt(q.port, frame);
      queues = queues.filter((x) => x.frames.length);
      if (once(r, 12)) s.pkt(1, udp(ends(C, 40_000 + r(2), S, 53)), 'whole');
      if (once(r, 20)) {
        s.wait(pick(r, PAUSES));
        drain();
      }
      if (once(r, 15)) s.cmd('dpctl/ipf-get-status');
    }
    for (const pause of [8, 8]) {
      s.wait(pause);
      drain();
    }
    s.cmd('dpctl/ipf-get-status');
  },
};
