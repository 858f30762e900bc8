/** What the model of a policy reads of a frame; from IEEE 802.3 and 802.1Q, RFC 791, 792, 1042, 4443, 8200. */
import { hex } from '../support/packets.js';
import { ICMP, ICMP6, SCTP, TCP, UDP } from './policy.js';

/** Addresses in hex; ports, twice the identifier of an ICMP query, or 0. */
export interface Ends {
  src: string;
  sport: number;
  dst: string;
  dport: number;
}

export interface Read extends Ends {
  frame: Uint8Array;
  six: boolean;
  vlan: number;
  /** null: it can't be read, and may be anything. */
  proto: number | null;
  /** null likewise. */
  tpDst: number | null;
  /** Whether it is of a connection that can be read; `inside` is of that in an ICMP error. */
  own: boolean;
  inside: Read | null;
  /** Of which datagram it is a fragment; null: it is whole. */
  datagram: string | null;
}

export const turned = ({ src, sport, dst, dport }: Ends): Ends => ({
  ...{ src: dst, sport: dport, dst: src, dport: sport },
});

function word(b: Uint8Array, at: number): number {
  return (b[at] << 8) | b[at + 1];
}

/** null: no IP packet, for certain. */
export function readFrame(b: Uint8Array): Read | null {
  if (b.length < 14) return null;
  let type = word(b, 12);
  let l3 = 14;
  let vlan = 0;
  if ((type === 0x8100 || type === 0x88a8) && b.length >= 18) {
    vlan = word(b, 14) & 0xfff;
    type = word(b, 16);
    l3 = 18;
  }
  // LLC and SNAP (RFC 1042).
  if (type < 0x600 && b.length >= l3 + 8) {
    type = word(b, l3 + 6);
    l3 += 8;
  }
  if (type !== 0x800 && type !== 0x86dd) return null;
  return readIp(b, l3, type === 0x86dd, vlan, true);
}

function readIp(b: Uint8Array, l3: number, six: boolean, vlan: number, outer: boolean): Read {
  const nowhere = { src: '', sport: 0, dst: '', dport: 0 };
  const unknown = { proto: null, tpDst: null, own: false, inside: null, datagram: null };
  const read: Read = { frame: b, six, vlan, ...nowhere, ...unknown };
  if (b.length < l3 + (six ? 40 : 20)) return read;
  let proto = six ? b[l3 + 6] : b[l3 + 9];
  let l4 = l3 + (six ? 40 : (b[l3] & 15) * 4);
  let fragment = !six && (word(b, l3 + 6) & 0x3fff) !== 0;
  let later = !six && (word(b, l3 + 6) & 0x1fff) !== 0;
  let id = six ? '' : hex(b.subarray(l3 + 4, l3 + 6));
  while (six && [0, 43, 44, 51, 60].includes(proto) && l4 + 8 <= b.length) {
    if (proto === 44) id = hex(b.subarray(l4 + 4, l4 + 8));
    if (proto === 44 && (word(b, l4 + 2) & 0xfff9) !== 0) fragment = true;
    if (proto === 44 && (word(b, l4 + 2) & 0xfff8) !== 0) later = true;
    const size = proto === 44 ? 8 : proto === 51 ? (b[l4 + 1] + 2) * 4 : (b[l4 + 1] + 1) * 8;
    proto = b[l4];
    l4 += size;
  }
  read.src = hex(six ? b.subarray(l3 + 8, l3 + 24) : b.subarray(l3 + 12, l3 + 16));
  read.dst = hex(six ? b.subarray(l3 + 24, l3 + 40) : b.subarray(l3 + 16, l3 + 20));
  read.proto = proto;
  if (fragment) read.datagram = `${read.src} ${read.dst} ${id}`;
  if (later) return read;
  // Protocols without ports are tracked by their addresses, however little follows.
  if ([ICMP, TCP, UDP, ICMP6, SCTP].includes(proto) && l4 + 8 > b.length) return { ...read, proto: null };
  const icmp = proto === ICMP || proto === ICMP6;
  const error = proto === ICMP ? [3, 4, 5, 11, 12].includes(b[l4]) : proto === ICMP6 && b[l4] < 128;
  if (icmp && error) {
    if (outer) read.inside = readIp(b, l4 + 8, six, vlan, false);
    return read;
  }
  read.own = true;
  if (icmp) read.sport = read.dport = word(b, l4 + 4);
  if (proto === TCP || proto === UDP || proto === SCTP) {
    read.sport = word(b, l4);
    read.dport = read.tpDst = word(b, l4 + 2);
  }
  return read;
}
