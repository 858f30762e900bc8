/** Says in words what a frame is and where two frames differ, for the messages of the differential tests. */
import { type Bytes, unhex } from './packets.js';

export const STATE_NAMES = ['new', 'est', 'rel', 'rpl', 'inv', 'trk', 'snat', 'dnat'] as const;

/** 0x21 -> "+new+trk", in the order of the bits. */
export const stateOfBits = (bits: number): string =>
  STATE_NAMES.filter((_, k) => (bits >> k) & 1)
    .map((n) => `+${n}`)
    .join('') || '(none)';

/** Any order of flags -> the order of the bits. */
export function stateText(flags: string): string {
  const have = new Set(flags.split(/[^a-z]+/).filter(Boolean));
  const known = STATE_NAMES.filter((n) => have.delete(n)).map((n) => `+${n}`);
  return [...known, ...[...have].map((n) => `+${n}?`)].join('') || '(none)';
}

/** The zone and state in the source MAC, where the flows have moved them. */
export function exposedState(hex: string): string | null {
  const high = Number.parseInt(hex.slice(12, 16), 16);
  const low = Number.parseInt(hex.slice(16, 24), 16);
  return low & 0x20 && low < 256 && low > 0 ? `zone ${high} ${stateOfBits(low)}` : null;
}

export const EXPOSES = 'NXM_NX_CT_STATE[]->NXM_OF_ETH_SRC[0..31]';

interface Layers {
  readonly etherType: number;
  readonly l3: number;
  readonly version: 0 | 4 | 6;
  readonly src: string;
  readonly dst: string;
  readonly proto: number;
  /** Offset of L4, or -1. */
  readonly l4: number;
  readonly later: boolean;
  readonly vlans: readonly number[];
}

const be16 = (b: Bytes, o: number): number => ((b[o] ?? 0) << 8) | (b[o + 1] ?? 0);
const be32 = (b: Bytes, o: number): number => ((be16(b, o) << 16) | be16(b, o + 2)) >>> 0;

export function addressText(b: Bytes): string {
  if (b.length === 4) return b.join('.');
  const words = Array.from({ length: 8 }, (_, k) => be16(b, 2 * k).toString(16));
  return words.join(':').replace(/(^|:)0(:0)+(:|$)/, '::');
}

export function layers(b: Bytes): Layers {
  let o = 12;
  const vlans: number[] = [];
  while ((be16(b, o) === 0x8100 || be16(b, o) === 0x88a8) && b.length >= o + 6) {
    vlans.push(be16(b, o + 2));
    o += 4;
  }
  const etherType = b.length >= o + 2 ? be16(b, o) : 0;
  const l3 = o + 2;
  const none = {
    etherType,
    l3,
    version: 0 as const,
    src: '',
    dst: '',
    proto: -1,
    l4: -1,
    later: false,
    vlans,
  };
  if (etherType === 0x0800 && b.length >= l3 + 20) {
    const later = (be16(b, l3 + 6) & 0x1fff) !== 0;
    return {
      ...none,
      version: 4,
      src: addressText(b.subarray(l3 + 12, l3 + 16)),
      dst: addressText(b.subarray(l3 + 16, l3 + 20)),
      proto: b[l3 + 9],
      l4: l3 + (b[l3] & 15) * 4,
      later,
    };
  }
  if (etherType === 0x86dd && b.length >= l3 + 40) {
    let next = b[l3 + 6];
    let p = l3 + 40;
    let later = false;
    while ([0, 43, 44, 51, 60].includes(next) && b.length >= p + 8) {
      if (next === 44 && be16(b, p + 2) & 0xfff8) later = true;
      const size = next === 44 ? 8 : next === 51 ? (b[p + 1] + 2) * 4 : (b[p + 1] + 1) * 8;
      next = b[p];
      p += size;
    }
    const src = addressText(b.subarray(l3 + 8, l3 + 24));
    return {
      ...none,
      version: 6,
      src,
      dst: addressText(b.subarray(l3 + 24, l3 + 40)),
      proto: next,
      l4: p,
      later,
    };
  }
  return none;
}

/** Is the frame a piece of a larger IP datagram (an IPv6 atomic fragment is whole)? */
export function isFragment(b: Bytes): boolean {
  const l = layers(b);
  if (l.version === 4) return (be16(b, l.l3 + 6) & 0x3fff) !== 0;
  if (l.version !== 6) return false;
  let next = b[l.l3 + 6];
  for (let p = l.l3 + 40; [0, 43, 44, 51, 60].includes(next) && b.length >= p + 8; ) {
    if (next === 44) return (be16(b, p + 2) & 0xfff9) !== 0;
    const size = next === 51 ? (b[p + 1] + 2) * 4 : (b[p + 1] + 1) * 8;
    next = b[p];
    p += size;
  }
  return false;
}

const TCP_LETTERS = 'FSRPAUEC';

export function describe(hex: string): string {
  const b = unhex(hex);
  const l = layers(b);
  const vlan = l.vlans.map((t) => `vlan ${t & 0xfff} `).join('');
  if (!l.version) return `${vlan}${b.length} bytes of type 0x${l.etherType.toString(16).padStart(4, '0')}`;
  const port = (o: number) => (l.later || ![6, 17, 132].includes(l.proto) ? '' : `:${be16(b, l.l4 + o)}`);
  let what = `protocol ${l.proto}`;
  if (l.later) what += ', later fragment';
  else if (l.proto === 6) {
    const flags = [...TCP_LETTERS].filter((_, k) => (b[l.l4 + 13] >> k) & 1).join('');
    what = `TCP [${flags}] seq ${be32(b, l.l4 + 4)} ack ${be32(b, l.l4 + 8)} win ${be16(b, l.l4 + 14)}`;
  } else if (l.proto === 17) what = 'UDP';
  else if (l.proto === 132) what = 'SCTP';
  else if (l.proto === 1 || l.proto === 58) {
    what = `${l.proto === 1 ? 'ICMP' : 'ICMPv6'} type ${b[l.l4]} code ${b[l.l4 + 1]} id ${be16(b, l.l4 + 4)}`;
  }
  return `${vlan}${l.src}${port(0)} > ${l.dst}${port(2)} ${what}, ${b.length} bytes`;
}

type Fields = readonly (readonly [end: number, name: string])[];
const IP4: Fields = [
  [1, 'IP version/IHL'],
  [2, 'TOS'],
  [4, 'IP length'],
  [6, 'IP ident'],
  [8, 'IP fragment field'],
  [9, 'TTL'],
  [10, 'protocol'],
  [12, 'IP checksum'],
  [16, 'IP source'],
  [20, 'IP destination'],
];
const IP6: Fields = [
  [4, 'IPv6 class/label'],
  [6, 'IPv6 length'],
  [7, 'next header'],
  [8, 'hop limit'],
  [24, 'IPv6 source'],
  [40, 'IPv6 destination'],
];
const L4: Readonly<Record<number, Fields>> = {
  6: [
    [2, 'TCP source port'],
    [4, 'TCP destination port'],
    [8, 'seq'],
    [12, 'ack'],
    [13, 'TCP data offset'],
    [14, 'TCP flags'],
    [16, 'window'],
    [18, 'TCP checksum'],
    [20, 'urgent pointer'],
  ],
  17: [
    [2, 'UDP source port'],
    [4, 'UDP destination port'],
    [6, 'UDP length'],
    [8, 'UDP checksum'],
  ],
  132: [
    [2, 'SCTP source port'],
    [4, 'SCTP destination port'],
    [8, 'verification tag'],
    [12, 'SCTP checksum'],
  ],
  1: [
    [1, 'ICMP type'],
    [2, 'ICMP code'],
    [4, 'ICMP checksum'],
    [6, 'ICMP id'],
    [8, 'ICMP seq'],
  ],
  58: [
    [1, 'ICMPv6 type'],
    [2, 'ICMPv6 code'],
    [4, 'ICMPv6 checksum'],
    [6, 'ICMPv6 id'],
    [8, 'ICMPv6 seq'],
  ],
};

export function fieldAt(b: Bytes, off: number): string {
  const l = layers(b);
  if (off < 6) return 'eth_dst';
  if (off < 12) return 'eth_src';
  if (off < l.l3) return l.vlans.length ? 'VLAN tag/eth_type' : 'eth_type';
  const name = (fields: Fields, o: number) => fields.find(([end]) => o < end)?.[1];
  if (!l.version) return l.etherType === 0x0806 ? 'ARP' : 'payload';
  if (off < l.l4)
    return (
      name(l.version === 4 ? IP4 : IP6, off - l.l3) ??
      (l.version === 4 ? 'IP options' : 'IPv6 extension header')
    );
  if (l.later) return 'payload';
  return name(L4[l.proto] ?? [], off - l.l4) ?? 'payload';
}

/** How frame `got` differs from `expected`, in words. */
export function explain(expected: string, got: string): string {
  const [se, sg] = [exposedState(expected), exposedState(got)];
  if (se !== sg && se && sg) return `ct_state ${se} expected, ${sg} got`;
  const [e, g] = [unhex(expected), unhex(got)];
  const names = new Map<string, number[]>();
  for (let k = 0; k < Math.max(e.length, g.length); k++) {
    if (e[k] === g[k]) continue;
    const n = fieldAt(k < e.length ? e : g, k);
    const at = names.get(n);
    if (at) at.push(k);
    else names.set(n, [k]);
  }
  const words = [...names].map(([n, at]) => `${n} (byte ${at.slice(0, 8).join(' ')})`);
  if (e.length !== g.length) words.unshift(`length ${e.length} expected, ${g.length} got`);
  return words.join('; ');
}
