/** Composes frames layer by layer for the scenarios of fixtures/oracle.
 *  Everything is a Uint8Array in network order; a checksum is right unless `bad` asks otherwise. */

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;
export const ECE = 64;
export const CWR = 128;

export type Bytes = Uint8Array;

export function cat(...parts: readonly (Bytes | readonly number[])[]): Bytes {
  return Uint8Array.from(parts.flatMap((p) => [...p]));
}

export const u16 = (n: number): number[] => [(n >>> 8) & 255, n & 255];
export const u32 = (n: number): number[] => [...u16(n >>> 16), ...u16(n)];
export const text = (s: string): Bytes => new TextEncoder().encode(s);
export const hex = (b: Bytes): string => Buffer.from(b.buffer, b.byteOffset, b.length).toString('hex');
export const unhex = (s: string): Bytes => Uint8Array.from(Buffer.from(s, 'hex'));

/** RFC 1071: the complement of the one's complement sum. */
export function checksum(b: Bytes): number {
  let sum = 0;
  for (let i = 0; i < b.length; i += 2) sum += (b[i] << 8) | (b[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export function ipBytes(a: string): Bytes {
  if (!a.includes(':')) return Uint8Array.from(a.split('.').map(Number));
  const [head, tail] = a.split('::');
  const words = (s: string | undefined) => (s ? s.split(':').map((w) => Number.parseInt(w, 16)) : []);
  const h = words(head);
  const t = words(tail);
  const all = tail === undefined ? h : [...h, ...new Array<number>(8 - h.length - t.length).fill(0), ...t];
  return cat(...all.map(u16));
}

/** Host n has the MAC 02:00:00:00:00:n; a string is taken as it is. */
export function macBytes(m: number | string): Bytes {
  return typeof m === 'number'
    ? cat([2, 0, 0, 0, 0, m])
    : cat(m.split(':').map((x) => Number.parseInt(x, 16)));
}

export interface EthOptions {
  readonly smac?: number | string;
  readonly dmac?: number | string;
  /** Tags, outermost first: a VID of TPID 0x8100, or [TPID, TCI]. */
  readonly vlan?: readonly (number | readonly [number, number])[];
  /** Bytes that follow the packet in the frame. */
  readonly pad?: number;
}

export function eth(type: number, payload: Bytes, o: EthOptions = {}): Bytes {
  const tags = (o.vlan ?? [])
    .map((t) => (typeof t === 'number' ? [0x8100, t] : t))
    .flatMap(([p, c]) => [...u16(p), ...u16(c)]);
  return cat(
    macBytes(o.dmac ?? 2),
    macBytes(o.smac ?? 1),
    tags,
    u16(type),
    payload,
    new Array<number>(o.pad ?? 0).fill(0),
  );
}

export interface IpOptions extends EthOptions {
  readonly ttl?: number;
  readonly tos?: number;
  readonly ident?: number;
  /** Flags and fragment offset as in the header. */
  readonly frag?: number;
  readonly options?: readonly number[];
  readonly version?: number;
  readonly ihl?: number;
  /** The length field, when it is to differ from the truth. */
  readonly length?: number;
  readonly badIp?: boolean;
  /** IPv6 extension headers: [type, body from the third byte on]; the length byte is worked out. */
  readonly ext?: readonly (readonly [number, readonly number[]])[];
  /** Cut the frame so that the IP packet lacks this many bytes. */
  readonly cut?: number;
}

export function ip4(src: string, dst: string, proto: number, payload: Bytes, o: IpOptions = {}): Bytes {
  const options = [...(o.options ?? [])];
  while (options.length % 4) options.push(0);
  const ihl = o.ihl ?? 5 + options.length / 4;
  const head = (sum: number) =>
    cat(
      [((o.version ?? 4) << 4) | ihl, o.tos ?? 0],
      u16(o.length ?? 20 + options.length + payload.length),
      u16(o.ident ?? 0),
      u16(o.frag ?? 0),
      [o.ttl ?? 64, proto],
      u16(sum),
      ipBytes(src),
      ipBytes(dst),
      options,
    );
  const sum = checksum(head(0));
  return cat(head(o.badIp ? sum ^ 0x5555 : sum), payload);
}

export function ip6(src: string, dst: string, proto: number, payload: Bytes, o: IpOptions = {}): Bytes {
  const ext = o.ext ?? [];
  let chain: Bytes = new Uint8Array();
  ext.forEach(([type, body], i) => {
    const next = ext[i + 1]?.[0] ?? proto;
    // Fragment headers are 8 bytes and have no length; AH counts in words less two, others in 8 bytes less one.
    const second = type === 44 ? 0 : type === 51 ? (body.length + 2) / 4 - 2 : (body.length + 2) / 8 - 1;
    chain = cat(chain, [next, second], body);
  });
  return cat(
    u32((((o.version ?? 6) << 28) | ((o.tos ?? 0) << 20)) >>> 0),
    u16(o.length ?? chain.length + payload.length),
    [ext[0]?.[0] ?? proto, o.ttl ?? 64],
    ipBytes(src),
    ipBytes(dst),
    chain,
    payload,
  );
}

function pseudo(src: string, dst: string, proto: number, n: number): Bytes {
  const s = ipBytes(src);
  return s.length === 4
    ? cat(s, ipBytes(dst), [0, proto], u16(n))
    : cat(s, ipBytes(dst), u32(n), [0, 0, 0, proto]);
}

function transport(
  src: string,
  dst: string,
  proto: number,
  seg: (sum: number) => Bytes,
  o: L4Options,
): Bytes {
  if (o.noSum) return seg(0);
  const zero = seg(0);
  let sum = checksum(cat(pseudo(src, dst, proto, zero.length), zero));
  if (proto === 17 && sum === 0) sum = 0xffff;
  return seg(o.badL4 ? sum ^ 0x5555 : sum);
}

export interface L4Options extends IpOptions {
  readonly badL4?: boolean;
  readonly noSum?: boolean;
  /** UDP: the length field; TCP: the data offset in words. */
  readonly l4Length?: number;
}

/** The IP packet of either version in a frame. */
export function ip(src: string, dst: string, proto: number, payload: Bytes, o: IpOptions = {}): Bytes {
  const six = src.includes(':');
  let p = six ? ip6(src, dst, proto, payload, o) : ip4(src, dst, proto, payload, o);
  if (o.cut) p = p.subarray(0, p.length - o.cut);
  return eth(six ? 0x86dd : 0x0800, p, o);
}

/** Both ends of a conversation: addresses, ports (or the ICMP id). */
export interface Ends {
  readonly a: string;
  readonly b: string;
  readonly ap: number;
  readonly bp: number;
}

export const swap = (e: Ends): Ends => ({ a: e.b, b: e.a, ap: e.bp, bp: e.ap });
export const ends = (a: string, ap: number, b: string, bp: number): Ends => ({ a, ap, b, bp });

export interface TcpOptions extends L4Options {
  readonly win?: number;
  readonly opts?: readonly number[];
  readonly data?: number | string;
  readonly urgent?: number;
}

const payloadOf = (d: number | string | undefined): Bytes =>
  typeof d === 'string' ? text(d) : new Uint8Array(d ?? 0).map((_, i) => 97 + (i % 26));

export function tcpSegment(e: Ends, flags: number, seq: number, ack: number, o: TcpOptions = {}): Bytes {
  const opts = [...(o.opts ?? [])];
  while (opts.length % 4) opts.push(1);
  const off = o.l4Length ?? 5 + opts.length / 4;
  const data = payloadOf(o.data);
  return transport(
    e.a,
    e.b,
    6,
    (sum) =>
      cat(
        u16(e.ap),
        u16(e.bp),
        u32(seq >>> 0),
        u32(ack >>> 0),
        [off << 4, flags],
        u16(o.win ?? 65535),
        u16(sum),
        u16(o.urgent ?? 0),
        opts,
        data,
      ),
    o,
  );
}

export function tcp(e: Ends, flags: number, seq: number, ack: number, o: TcpOptions = {}): Bytes {
  return ip(e.a, e.b, 6, tcpSegment(e, flags, seq, ack, o), o);
}

export interface DataOptions extends L4Options {
  readonly data?: number | string;
}

export function udp(e: Ends, o: DataOptions = {}): Bytes {
  const data = payloadOf(o.data ?? 'data');
  const seg = transport(
    e.a,
    e.b,
    17,
    (s) => cat(u16(e.ap), u16(e.bp), u16(o.l4Length ?? 8 + data.length), u16(s), data),
    o,
  );
  return ip(e.a, e.b, 17, seg, o);
}

export interface IcmpOptions extends L4Options {
  readonly code?: number;
  readonly seq?: number;
  readonly data?: Bytes;
}

/** An ICMP or ICMPv6 message; `rest` is the second word. */
export function icmp(
  src: string,
  dst: string,
  type: number,
  rest: readonly number[],
  o: IcmpOptions = {},
): Bytes {
  const data = o.data ?? text('ping-data');
  const message = (sum: number) => cat([type, o.code ?? 0], u16(sum), rest, data);
  if (src.includes(':')) return ip(src, dst, 58, transport(src, dst, 58, message, o), o);
  const sum = checksum(message(0));
  return ip(src, dst, 1, message(o.badL4 ? sum ^ 0x5555 : sum), o);
}

export function echo(src: string, dst: string, id: number, reply = false, o: IcmpOptions = {}): Bytes {
  const types = src.includes(':') ? [128, 129] : [8, 0];
  return icmp(src, dst, types[Number(reply)], [...u16(id), ...u16(o.seq ?? 1)], o);
}

/** An ICMP error about the IP packet of an untagged frame; `keep` bytes of that packet are embedded. */
export function icmpError(
  src: string,
  dst: string,
  about: Bytes,
  o: IcmpOptions & { readonly type?: number; readonly keep?: number; readonly rest?: readonly number[] } = {},
): Bytes {
  const inner = about.subarray(14);
  const type = o.type ?? (src.includes(':') ? 1 : 3);
  const code = o.code ?? (src.includes(':') ? 0 : 1);
  return icmp(src, dst, type, o.rest ?? u32(0), {
    ...o,
    code,
    data: inner.subarray(0, o.keep ?? inner.length),
  });
}

export function arp(
  op: number,
  smac: number,
  sip: string,
  tmac: number,
  tip: string,
  o: EthOptions = {},
): Bytes {
  const body = cat(
    u16(1),
    u16(0x0800),
    [6, 4],
    u16(op),
    macBytes(smac),
    ipBytes(sip),
    op === 1 ? new Uint8Array(6) : macBytes(tmac),
    ipBytes(tip),
  );
  return eth(0x0806, body, { smac, dmac: op === 1 ? 'ff:ff:ff:ff:ff:ff' : tmac, ...o });
}

/** Cuts the IP packet of a frame into fragments with so many bytes of payload each; the last takes what is left.
 *  The packet has no extension headers. */
export function fragments(frame: Bytes, sizes: readonly number[], ident = 1): Bytes[] {
  let l3 = 14;
  while (frame[l3 - 2] === 0x81 && frame[l3 - 1] === 0) l3 += 4;
  const six = frame[l3] >> 4 === 6;
  const l4 = six ? l3 + 40 : l3 + (frame[l3] & 15) * 4;
  const end = l3 + (six ? 40 + ((frame[l3 + 4] << 8) | frame[l3 + 5]) : (frame[l3 + 2] << 8) | frame[l3 + 3]);
  const out: Bytes[] = [];
  let at = l4;
  for (let i = 0; at < end; i++) {
    const next = Math.min(at + (sizes[i] ?? end - at), end);
    const offset = at - l4;
    const more = next < end;
    const body = frame.subarray(at, next);
    const head = frame.slice(0, l4);
    if (six) {
      head.set(u16(body.length + 8), l3 + 4);
      head[l3 + 6] = 44;
      out.push(
        cat(head, [frame[l3 + 6], 0], u16(offset | Number(more)), u32(ident), body, frame.subarray(end)),
      );
    } else {
      head.set(u16(l4 - l3 + body.length), l3 + 2);
      head.set(u16(ident), l3 + 4);
      head.set(u16((offset >> 3) | (more ? 0x2000 : 0)), l3 + 6);
      head.set([0, 0], l3 + 10);
      head.set(u16(checksum(head.subarray(l3))), l3 + 10);
      out.push(cat(head, body, frame.subarray(end)));
    }
    at = next;
  }
  return out;
}

/** CRC-32C, bit by bit: SCTP's checksum. */
export function crc32c(b: Bytes): number {
  let c = 0xffffffff;
  for (const x of b) {
    c ^= x;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  }
  return ~c >>> 0;
}

export function sctp(e: Ends, vtag: number, chunk: readonly number[], o: L4Options = {}): Bytes {
  const head = cat(u16(e.ap), u16(e.bp), u32(vtag));
  const sum = (crc32c(cat(head, u32(0), chunk)) ^ (o.badL4 ? 0x5555 : 0)) >>> 0;
  const le = [sum & 255, (sum >>> 8) & 255, (sum >>> 16) & 255, sum >>> 24];
  return ip(e.a, e.b, 132, cat(head, le, chunk), o);
}

/** Small seeded generator (mulberry32) for the scenarios that are drawn at random. */
export function random(seed: number): (n: number) => number {
  let s = seed >>> 0;
  return (n) => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), s | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}
