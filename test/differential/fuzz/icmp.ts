/** ICMP and ICMPv6: queries of all types, and errors of all types about connections of all protocols, in either
 *  direction, through several zones and translations, with less and with nonsense inside. */
import {
  ACK,
  type Bytes,
  cat,
  checksum,
  echo,
  ends,
  icmp,
  icmpError,
  ip,
  RST,
  SYN,
  sctp,
  swap,
  tcp,
  u16,
  u32,
  udp,
} from '../packets.js';
import { C, C6, S, S6, type Script, SHOW, WATCH, WATCH_BOTH } from '../scenarios/script.js';
import { type Draw, damaged, type Fuzzer, once, pick } from './fuzzer.js';

const ROUTER = '10.9.9.9';
const ROUTER6 = 'fc00::99';
/** Where the translating tables put the client, and the server. */
const OUTSIDE = '10.2.2.2';
const OUTSIDE6 = 'fc00:2::2';
const BACKEND = '10.3.3.3';
const BACKEND6 = 'fc00:3::3';

const translating = (four: string, six: string): string => `# Port 1 opens connections, which are translated.
table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=1,nat(${four}),table=1)
table=0,priority=100,in_port=1,ipv6,actions=ct(commit,zone=1,nat(${six}),table=1)
table=0,priority=100,in_port=2,ip,actions=ct(zone=1,nat,table=1)
table=0,priority=100,in_port=2,ipv6,actions=ct(zone=1,nat,table=1)
table=1,priority=100,in_port=1,actions=${SHOW},output:2
table=1,priority=100,in_port=2,actions=${SHOW},output:1
`;

/** Three zones, one after the other, the other way round for what comes back. */
const CHAIN = `# Port 1 opens connections in zones 1, 2 and 3; port 2 goes through them from the last to the first.
${[1, 2, 3]
  .flatMap((zone) =>
    ['ip', 'ipv6'].flatMap((v) => [
      `table=${zone - 1},priority=100,in_port=1,${v},actions=ct(commit,zone=${zone},exec(set_field:${zone}->ct_mark),table=${zone})`,
      `table=${zone - 1},priority=100,in_port=2,${v},actions=ct(zone=${4 - zone},table=${zone})`,
    ]),
  )
  .join('\n')}
table=3,priority=100,in_port=1,actions=${SHOW},output:2
table=3,priority=100,in_port=2,actions=${SHOW},output:1
`;

const TABLES = [
  WATCH_BOTH,
  WATCH,
  CHAIN,
  translating(`src=${OUTSIDE}`, `src=${OUTSIDE6}`),
  translating(`dst=${BACKEND}`, `dst=${BACKEND6}`),
];
const SNAT = 3;
const DNAT = 4;

/** A connection: packets of its two directions, as they are on the client's side and on the server's. */
interface Talk {
  readonly client: readonly [Bytes, Bytes];
  readonly server: readonly [Bytes, Bytes];
  readonly six: boolean;
}

const PROTOCOLS = ['tcp', 'udp', 'echo', 'sctp', 'timestamp', 'gre', 'other'] as const;

function talk(r: Draw, n: number, table: number): Talk {
  const six = once(r, 3);
  const [c, s] = six ? [C6, S6] : [C, S];
  const protocol = pick(r, PROTOCOLS);
  const between = (a: string, b: string): readonly [Bytes, Bytes] => {
    const e = ends(a, 40_000 + n, b, 80);
    switch (protocol) {
      case 'tcp':
        return [tcp(e, SYN, 1000, 0), tcp(swap(e), SYN | ACK, 5000, 1001)];
      case 'udp':
        return [udp(e), udp(swap(e))];
      case 'sctp':
        return [sctp(e, 1, [1, 0, ...u16(4)]), sctp(swap(e), 2, [2, 0, ...u16(4)])];
      case 'gre':
        return [ip(a, b, 47, cat([0, 0, 8, 0], u32(n))), ip(b, a, 47, cat([0, 0, 8, 0], u32(n)))];
      case 'other':
        return [ip(a, b, 50 + (n % 3), cat(u32(7), u32(n))), ip(b, a, 50 + (n % 3), cat(u32(7), u32(n)))];
      case 'timestamp':
        if (!six)
          return [
            icmp(a, b, 13, [...u16(300 + n), 0, 1], { data: new Uint8Array(12) }),
            icmp(b, a, 14, [...u16(300 + n), 0, 1], { data: new Uint8Array(12) }),
          ];
        return [echo(a, b, 300 + n), echo(b, a, 300 + n, true)];
      default:
        return [echo(a, b, 300 + n), echo(b, a, 300 + n, true)];
    }
  };
  const outside = table === SNAT ? (six ? OUTSIDE6 : OUTSIDE) : c;
  const inside = table === DNAT ? (six ? BACKEND6 : BACKEND) : s;
  return { client: between(c, s), server: between(outside, inside), six };
}

const ERRORS4 = [3, 3, 3, 4, 5, 11, 11, 12];
const ERRORS6 = [1, 1, 2, 3, 4];

/** The packet inside, with something wrong. */
function spoilt(r: Draw, packet: Bytes, six: boolean): Bytes {
  const l3 = 14;
  const out = packet.slice();
  switch (r(12)) {
    case 0:
      return damaged(r, packet, l3, 2);
    case 1: // a fragment
      if (!six) out.set(u16(pick(r, [0x2000, 0x4000, 1, 0x2001, 0x1fff])), l3 + 6);
      else {
        const head = out.slice(0, l3 + 40);
        head[l3 + 6] = 44;
        const header = [out[l3 + 6], 0, ...u16(pick(r, [0, 1, 8, 9])), ...u32(7)];
        return cat(head, header, out.subarray(l3 + 40));
      }
      return out;
    case 2: // a header of another size
      out[l3] = (out[l3] & 0xf0) | r(16);
      return out;
    case 3: // another version
      out[l3] = (r(16) << 4) | (out[l3] & 15);
      return out;
    case 4: // another length
      out.set(u16(r(100)), l3 + (six ? 4 : 2));
      return out;
    case 5: // another protocol
      out[l3 + (six ? 6 : 9)] = pick(r, [
        0,
        1,
        2,
        4,
        6,
        17,
        41,
        43,
        44,
        47,
        50,
        51,
        58,
        59,
        60,
        132,
        255,
        r(256),
      ]);
      return out;
    case 6: // ports
      out.set(u16(pick(r, [0, 1, 80, 40_000, 40_001])), l3 + (six ? 40 : 20) + 2 * r(2));
      return out;
    case 7: // a wrong header checksum, which nobody looks at
      if (!six) out.set(u16(r(65_536)), l3 + 10);
      return out;
    case 8: // the first byte behind the header: an ICMP type, or half a port
      out[l3 + (six ? 40 : 20)] = r(256);
      return out;
    case 9: {
      // extension headers or options
      if (six) {
        const kind = pick(r, [0, 60, 43, 51]);
        const head = out.slice(0, l3 + 40);
        head[l3 + 6] = kind;
        return cat(
          head,
          [out[l3 + 6], kind === 51 ? 4 : 1],
          new Array<number>(kind === 51 ? 22 : 14).fill(0),
          out.subarray(l3 + 40),
        );
      }
      const options = cat(out.subarray(0, l3 + 20), [1, 1, 1, 1], out.subarray(l3 + 20));
      options[l3] = 0x46;
      return options;
    }
    case 10: // other addresses
      out[l3 + (six ? 8 + r(32) : 12 + r(8))] ^= 1 << r(8);
      return out;
    default:
      return out.subarray(0, Math.min(out.length, l3 + r(80)));
  }
}

function error(s: Script, r: Draw, t: Talk): void {
  // An error goes to whoever sent the packet that it is about, and quotes it as it was on that side.
  const toServer = r(2);
  const side = toServer ? t.server : t.client;
  const about = once(r, 5) ? side[toServer ^ 1] : side[toServer];
  // Errors from behind the translation are about the packet as it is there.
  let inner = once(r, 2) ? (toServer ? t.client : t.server)[toServer] : about;
  const { six } = t;
  const address = (packet: Bytes, from: number): string => {
    const at = 14 + (six ? 8 + 16 * from : 12 + 4 * from);
    const b = packet.subarray(at, at + (six ? 16 : 4));
    if (!six) return b.join('.');
    return Array.from({ length: 8 }, (_, k) => ((b[2 * k] << 8) | b[2 * k + 1]).toString(16)).join(':');
  };
  const destination = once(r, 15) ? (six ? 'fc00::77' : '10.1.1.77') : address(inner, 0);
  const source = pick(r, [six ? ROUTER6 : ROUTER, address(inner, 1), address(inner, 1), address(inner, 0)]);
  const type = once(r, 8) ? r(256) : pick(r, six ? ERRORS6 : ERRORS4);
  if (once(r, 3)) inner = spoilt(r, inner, six);
  if (once(r, 30)) inner = icmpError(source, destination, inner);
  if (once(r, 40)) inner = six ? udp(ends(C, 1, S, 2)) : udp(ends(C6, 1, S6, 2));
  let frame = icmpError(source, destination, inner, {
    type,
    code: once(r, 4) ? r(256) : r(8),
    rest: once(r, 2) ? u32(r(2 ** 31)) : u32(0),
    ...(once(r, 2)
      ? { keep: pick(r, [0, 7, 8, 19, 20, 24, 27, 28, 36, 39, 40, 47, 48, 52, 60, r(80)]) }
      : {}),
    ...(once(r, 30) ? { badL4: true } : {}),
    ...(once(r, 40) ? { cut: 1 + r(8) } : {}),
    ...(once(r, 40) ? { pad: 1 + r(20) } : {}),
    ...(once(r, 40) && !six ? { options: [1, 1, 1, 1] } : {}),
    ...(once(r, 40) && six ? { ext: [[60, [1, 4, 0, 0, 0, 0]]] as const } : {}),
  });
  if (once(r, 40)) frame = damaged(r, frame, 14, 1);
  s.pkt(1 + (once(r, 6) ? toServer : toServer ^ 1), frame, `error of type ${type}`);
}

function query(s: Script, r: Draw): void {
  const six = once(r, 3);
  const [a, b] = once(r, 2) ? (six ? [C6, S6] : [C, S]) : six ? [S6, C6] : [S, C];
  const type = once(r, 2)
    ? r(256)
    : pick(r, six ? [128, 129, 133, 134, 135, 136, 137, 143] : [8, 0, 13, 14, 15, 16, 17, 18]);
  const rest = [...u16(300 + r(3)), ...u16(r(3))];
  let frame = icmp(a, b, type, rest, {
    code: once(r, 6) ? r(256) : 0,
    ...(once(r, 20) ? { badL4: true } : {}),
    ...(once(r, 20) ? { data: new Uint8Array(r(3)) } : {}),
  });
  // Shorter than an ICMP header, with a right checksum.
  if (once(r, 20) && !six) {
    const short = [type, 0, 0, 0, 0, 0].slice(0, 4 + r(3));
    const sum = checksum(Uint8Array.from(short));
    frame = ip(a, b, 1, cat(short.slice(0, 2), u16(sum), short.slice(4)));
  }
  s.pkt(1 + r(2), frame, `type ${type}`);
}

export const icmpFuzzer: Fuzzer = {
  name: 'icmp',
  about: 'ICMP and ICMPv6 queries, and errors about connections of all protocols, with nonsense inside',
  tables: TABLES,
  ports: 2,
  play: (s, r, table) => {
    const talks = Array.from({ length: 1 + r(4) }, (_, n) => talk(r, n, table));
    for (const t of talks) {
      if (once(r, 8)) continue;
      s.pkt(1, t.client[0], 'opens');
      if (!once(r, 3)) s.pkt(2, t.server[1], 'answers');
    }
    for (let n = 15 + r(30); n > 0; n--) {
      if (once(r, 6)) query(s, r);
      else error(s, r, pick(r, talks));
      if (once(r, 15)) s.wait(pick(r, [1, 29, 31, 59, 61]));
      if (once(r, 15)) s.pkt(1, pick(r, talks).client[0]);
      if (once(r, 15)) s.pkt(2, pick(r, talks).server[1]);
      if (once(r, 40)) s.pkt(2, tcp(ends(S, 80, C, 40_000), RST | ACK, 5001, 1001), 'reset');
    }
  },
};
