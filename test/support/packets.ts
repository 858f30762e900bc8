/** Composes frames layer by layer: `ethernet({ tags: [7] }, ipv4({ src, dst }, tcp({ flags: SYN })))`.
 *  Lengths and checksums are right unless an option says otherwise. Nothing here comes from `src/`, so that
 *  the tests compare two independent readings of the RFCs. */

export type Bytes = Uint8Array;

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;

export const IP = 0x0800;
export const ARP = 0x0806;
export const IPV6 = 0x86dd;

export const u16 = (n: number): number[] => [(n >>> 8) & 255, n & 255];
export const u32 = (n: number): number[] => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
export const hex = (b: Bytes): string => Buffer.from(b.buffer, b.byteOffset, b.length).toString('hex');
export const unhex = (text: string): Bytes => Uint8Array.from(Buffer.from(text.replace(/[\s:]/g, ''), 'hex'));
export const view = (b: Bytes): DataView => new DataView(b.buffer, b.byteOffset, b.length);

export function cat(...parts: readonly (Bytes | readonly number[])[]): Bytes {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export const data = (n: number): Bytes => Uint8Array.from({ length: n }, (_, i) => 97 + (i % 26));

/** RFC 1071, the slow way. */
export function internetChecksum(b: Bytes): number {
  let sum = 0;
  for (let i = 0; i < b.length; i += 2) sum += (b[i] << 8) | (b[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

/** RFC 9260, appendix A, bit by bit. */
export function crc32c(b: Bytes): number {
  let crc = 0xffffffff;
  for (const byte of b) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

/** "10.0.0.1" or "fd00::1" (no dotted tail). */
export function address(text: string): Bytes {
  if (!text.includes(':')) return Uint8Array.from(text.split('.').map(Number));
  const [head, tail] = text.split('::');
  const groups = (s: string | undefined) => (s ? s.split(':').map((g) => Number.parseInt(g, 16)) : []);
  const left = groups(head);
  const right = groups(tail);
  const zeros = tail === undefined ? [] : new Array<number>(8 - left.length - right.length).fill(0);
  return cat(...[...left, ...zeros, ...right].map(u16));
}

/** "02:00:00:00:00:01", or a host number for 02:00:00:00:00:n. */
export function mac(m: string | number): Bytes {
  return typeof m === 'number'
    ? cat([2, 0], u32(m))
    : Uint8Array.from(m.split(':').map((x) => Number.parseInt(x, 16)));
}

// ---- layer 2 ----

/** What goes behind an Ethernet header. */
export interface Layer3 {
  type: number;
  bytes: Bytes;
}

/** A VID with TPID 0x8100, or a whole tag. */
export type Tag = number | { tpid?: number; vid: number; pcp?: number; cfi?: boolean };

export interface EthernetOptions {
  src?: string | number;
  dst?: string | number;
  /** Outermost first. */
  tags?: readonly Tag[];
  /** 802.3 length and LLC/SNAP header instead of an EtherType (RFC 1042). */
  snap?: boolean;
  /** Overrides the EtherType. */
  type?: number;
  /** Padding behind the packet. */
  pad?: number;
}

export function ethernet(o: EthernetOptions, l3: Layer3 | Bytes): Bytes {
  const payload = l3 instanceof Uint8Array ? l3 : l3.bytes;
  const type = o.type ?? (l3 instanceof Uint8Array ? 0xffff : l3.type);
  const tags = (o.tags ?? []).flatMap((t) => {
    const { tpid = 0x8100, vid, pcp = 0, cfi = false } = typeof t === 'number' ? { vid: t } : t;
    return [...u16(tpid), ...u16((pcp << 13) | (cfi ? 0x1000 : 0) | vid)];
  });
  const head = o.snap ? [...u16(payload.length + 8), 0xaa, 0xaa, 3, 0, 0, 0, ...u16(type)] : u16(type);
  return cat(mac(o.dst ?? 2), mac(o.src ?? 1), tags, head, payload, new Uint8Array(o.pad ?? 0));
}

export interface ArpOptions {
  op?: number;
  sha?: string | number;
  spa?: string;
  tha?: string | number;
  tpa?: string;
}

export function arp(o: ArpOptions = {}): Layer3 {
  const bytes = cat(
    [0, 1, 8, 0, 6, 4],
    u16(o.op ?? 1),
    mac(o.sha ?? 1),
    address(o.spa ?? '10.0.0.1'),
    mac(o.tha ?? '00:00:00:00:00:00'),
    address(o.tpa ?? '10.0.0.2'),
  );
  return { type: ARP, bytes };
}

// ---- layer 3 ----

/** What goes behind an IP header. */
export interface Layer4 {
  proto: number;
  /** `pseudo` makes the pseudo header for a segment of n bytes. */
  bytes(pseudo: (n: number) => Bytes): Bytes;
}

/** Bytes of any protocol. */
export const payload = (proto: number, bytes: Bytes): Layer4 => ({ proto, bytes: () => bytes });

export interface Ipv4Options {
  src?: string;
  dst?: string;
  ttl?: number;
  tos?: number;
  id?: number;
  /** Flags and offset field as it stands in the header. */
  frag?: number;
  options?: readonly number[];
  proto?: number;
  // Lies:
  version?: number;
  ihl?: number;
  length?: number;
  /** XORed into the header checksum. */
  spoil?: number;
}

export function ipv4(o: Ipv4Options, l4: Layer4): Layer3 {
  const src = address(o.src ?? '10.0.0.1');
  const dst = address(o.dst ?? '10.0.0.2');
  const options = [...(o.options ?? [])];
  while (options.length % 4) options.push(0);
  const proto = o.proto ?? l4.proto;
  const body = l4.bytes((n) => cat(src, dst, [0, proto], u16(n)));
  const head = cat(
    [((o.version ?? 4) << 4) | (o.ihl ?? 5 + options.length / 4), o.tos ?? 0],
    u16(o.length ?? 20 + options.length + body.length),
    u16(o.id ?? 0),
    u16(o.frag ?? 0),
    [o.ttl ?? 64, proto, 0, 0],
    src,
    dst,
    options,
  );
  head.set(u16(internetChecksum(head) ^ (o.spoil ?? 0)), 10);
  return { type: IP, bytes: cat(head, body) };
}

/** Cuts an IPv4 packet into fragments of at most `mtu` bytes each (RFC 791, section 3.2). */
export function fragmentIpv4(packet: Layer3, mtu: number): Layer3[] {
  const { bytes } = packet;
  const headBytes = (bytes[0] & 15) * 4;
  const step = (mtu - headBytes) & ~7;
  const out: Layer3[] = [];
  for (let at = headBytes; at < bytes.length; at += step) {
    const part = cat(bytes.subarray(0, headBytes), bytes.subarray(at, at + step));
    const more = at + step < bytes.length ? 0x2000 : 0;
    part.set(u16(part.length), 2);
    part.set(u16(more | ((at - headBytes) >> 3)), 6);
    part.set([0, 0], 10);
    part.set(u16(internetChecksum(part.subarray(0, headBytes))), 10);
    out.push({ type: IP, bytes: part });
  }
  return out;
}

/** An IPv6 extension header: next header and length are worked out. */
export interface Extension {
  /** 0 hop-by-hop, 43 routing, 44 fragment, 51 authentication, 60 destination options. */
  type: number;
  /** What comes behind the first two bytes; 6 bytes, or 6 + 8n (authentication: 4n + 10 or so). */
  body?: readonly number[];
  /** Overrides the length byte. */
  length?: number;
}

/** A fragment header (RFC 8200, section 4.5). */
export const fragment6 = (offset: number, more: boolean, id = 1): Extension => ({
  type: 44,
  body: [...u16(offset | (more ? 1 : 0)), ...u32(id)],
  length: 0,
});

/** Cuts an IPv6 packet without extension headers into fragments of at most `mtu` bytes each (RFC 8200,
 *  section 4.5). */
export function fragmentIpv6(packet: Layer3, mtu: number, id = 1): Layer3[] {
  const { bytes } = packet;
  const step = (mtu - 48) & ~7;
  const out: Layer3[] = [];
  for (let at = 40; at < bytes.length; at += step) {
    const more = at + step < bytes.length ? 1 : 0;
    const body = bytes.subarray(at, at + step);
    const part = cat(
      bytes.subarray(0, 4),
      u16(body.length + 8),
      [44],
      bytes.subarray(7, 40),
      [bytes[6], 0],
      u16((at - 40) | more),
      u32(id),
      body,
    );
    out.push({ type: IPV6, bytes: part });
  }
  return out;
}

export interface Ipv6Options {
  src?: string;
  dst?: string;
  hops?: number;
  trafficClass?: number;
  label?: number;
  extensions?: readonly Extension[];
  proto?: number;
  version?: number;
  length?: number;
}

export function ipv6(o: Ipv6Options, l4: Layer4): Layer3 {
  const src = address(o.src ?? 'fd00::1');
  const dst = address(o.dst ?? 'fd00::2');
  const proto = o.proto ?? l4.proto;
  const segment = l4.bytes((n) => cat(src, dst, u32(n), [0, 0, 0, proto]));
  const ext = o.extensions ?? [];
  const chain = ext.map(({ type, body = [1, 4, 0, 0, 0, 0], length }, i) => {
    const units = type === 51 ? (body.length + 2) / 4 - 2 : (body.length + 2) / 8 - 1;
    return [ext[i + 1]?.type ?? proto, length ?? units, ...body];
  });
  const body = cat(...chain, segment);
  const head = cat(
    u32((((o.version ?? 6) << 28) | ((o.trafficClass ?? 0) << 20) | (o.label ?? 0)) >>> 0),
    u16(o.length ?? body.length),
    [ext[0]?.type ?? proto, o.hops ?? 64],
    src,
    dst,
  );
  return { type: IPV6, bytes: cat(head, body) };
}

// ---- layer 4 ----

interface Sum {
  /** XORed into the checksum. */
  spoil?: number;
}

function summed(segment: Bytes, at: number, pseudo: Bytes, spoil: number): Bytes {
  segment.set(u16(internetChecksum(cat(pseudo, segment)) ^ spoil), at);
  return segment;
}

export interface TcpOptions extends Sum {
  sport?: number;
  dport?: number;
  seq?: number;
  ack?: number;
  flags?: number;
  window?: number;
  /** Raw options, padded with NOP. */
  options?: readonly number[];
  /** Overrides the data offset, in words. */
  offset?: number;
  data?: Bytes;
}

/** The window scale option (RFC 7323). */
export const windowScale = (shift: number): number[] => [3, 3, shift];

export function tcp(o: TcpOptions = {}): Layer4 {
  return {
    proto: 6,
    bytes(pseudo) {
      const options = [...(o.options ?? [])];
      while (options.length % 4) options.push(1);
      const segment = cat(
        u16(o.sport ?? 40000),
        u16(o.dport ?? 80),
        u32(o.seq ?? 0),
        u32(o.ack ?? 0),
        [(o.offset ?? 5 + options.length / 4) << 4, o.flags ?? ACK],
        u16(o.window ?? 65535),
        [0, 0, 0, 0],
        options,
        o.data ?? [],
      );
      return summed(segment, 16, pseudo(segment.length), o.spoil ?? 0);
    },
  };
}

export interface UdpOptions extends Sum {
  sport?: number;
  dport?: number;
  data?: Bytes;
  length?: number;
  /** Leave the checksum out (0). */
  unsummed?: boolean;
}

export function udp(o: UdpOptions = {}): Layer4 {
  return {
    proto: 17,
    bytes(pseudo) {
      const body = o.data ?? data(8);
      const segment = cat(
        u16(o.sport ?? 5000),
        u16(o.dport ?? 53),
        u16(o.length ?? 8 + body.length),
        [0, 0],
        body,
      );
      if (o.unsummed) return segment;
      summed(segment, 6, pseudo(segment.length), 0);
      // A computed zero is sent as all ones (RFC 768).
      const field = (segment[6] << 8) | segment[7] || 0xffff;
      segment.set(u16(field ^ (o.spoil ?? 0)), 6);
      return segment;
    },
  };
}

export interface IcmpOptions extends Sum {
  type?: number;
  code?: number;
  /** Second word: for echo the identifier is in the high half. */
  rest?: number;
  data?: Bytes;
}

export function icmp(o: IcmpOptions = {}): Layer4 {
  return {
    proto: 1,
    bytes() {
      const message = cat([o.type ?? 8, o.code ?? 0, 0, 0], u32(o.rest ?? 0x10001), o.data ?? data(8));
      return summed(message, 2, new Uint8Array(), o.spoil ?? 0);
    },
  };
}

export function icmp6(o: IcmpOptions = {}): Layer4 {
  return {
    proto: 58,
    bytes(pseudo) {
      const message = cat([o.type ?? 128, o.code ?? 0, 0, 0], u32(o.rest ?? 0x10001), o.data ?? data(8));
      return summed(message, 2, pseudo(message.length), o.spoil ?? 0);
    },
  };
}

export interface SctpOptions extends Sum {
  sport?: number;
  dport?: number;
  tag?: number;
  /** Chunks: type, flags, value. */
  chunks?: readonly { type: number; flags?: number; value?: Bytes; length?: number }[];
}

export function sctp(o: SctpOptions = {}): Layer4 {
  return {
    proto: 132,
    bytes() {
      const chunks = (o.chunks ?? [{ type: 0, value: data(8) }]).map((c) => {
        const value = c.value ?? new Uint8Array();
        return cat(
          [c.type, c.flags ?? 0],
          u16(c.length ?? 4 + value.length),
          value,
          [0, 0, 0].slice(0, -value.length & 3),
        );
      });
      const packet = cat(
        u16(o.sport ?? 7000),
        u16(o.dport ?? 7001),
        u32(o.tag ?? 1),
        [0, 0, 0, 0],
        ...chunks,
      );
      view(packet).setUint32(8, (crc32c(packet) ^ (o.spoil ?? 0)) >>> 0, true);
      return packet;
    },
  };
}

/** GRE without options around an Ethernet type (RFC 2784). */
export function gre(type = IP, inner: Bytes = data(8)): Layer4 {
  return { proto: 47, bytes: () => cat([0, 0], u16(type), inner) };
}

// ---- a pseudo-random source ----

/** mulberry32: small, seeded, good enough to draw traffic with. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** 0 to n - 1. */
  int(n: number): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  }

  /** True once in n. */
  once(n: number): boolean {
    return this.int(n) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.int(from.length)];
  }

  word(): number {
    return this.int(0x10000) * 0x10000 + this.int(0x10000);
  }

  bytes(n: number): Bytes {
    return Uint8Array.from({ length: n }, () => this.int(256));
  }
}

// ---- captures ----

export interface Packet {
  sec: number;
  nsec: number;
  port: number;
  frame: Bytes;
}

/** A packet at `seconds` on `port`. */
export function packet(seconds: number, port: number, frame: Bytes): Packet {
  const sec = Math.floor(seconds);
  return { sec, nsec: Math.round((seconds - sec) * 1e9), port, frame };
}

export interface PcapOptions {
  linkType?: number;
  nano?: boolean;
  bigEndian?: boolean;
  snaplen?: number;
}

/** A classic capture, ports forgotten. */
export function pcapFile(
  packets: readonly Pick<Packet, 'sec' | 'nsec' | 'frame'>[],
  o: PcapOptions = {},
): Bytes {
  const le = !o.bigEndian;
  const head = new Uint8Array(24);
  const h = view(head);
  h.setUint32(0, o.nano ? 0xa1b23c4d : 0xa1b2c3d4, le);
  h.setUint16(4, 2, le);
  h.setUint16(6, 4, le);
  h.setUint32(16, o.snaplen ?? 262144, le);
  h.setUint32(20, o.linkType ?? 1, le);
  const records = packets.map(({ sec, nsec, frame }) => {
    const kept = frame.subarray(0, o.snaplen ?? frame.length);
    const record = new Uint8Array(16);
    const r = view(record);
    r.setUint32(0, sec, le);
    r.setUint32(4, o.nano ? nsec : Math.floor(nsec / 1000), le);
    r.setUint32(8, kept.length, le);
    r.setUint32(12, frame.length, le);
    return cat(record, kept);
  });
  return cat(head, ...records);
}

/** The records of a little-endian classic capture: what PortSink writes. */
export function readPcap(file: Bytes): { sec: number; frac: number; wireLen: number; frame: Bytes }[] {
  const v = view(file);
  const out = [];
  for (let at = 24; at < file.length; ) {
    const length = v.getUint32(at + 8, true);
    out.push({
      sec: v.getUint32(at, true),
      frac: v.getUint32(at + 4, true),
      wireLen: v.getUint32(at + 12, true),
      frame: file.slice(at + 16, at + 16 + length),
    });
    at += 16 + length;
  }
  return out;
}
