/** FTP and TFTP: control connections with announcements in all spellings, well and badly formed, split over segments,
 *  of one's own addresses and others', from either side, with and without translation; and the data connections that
 *  they let through, or don't.
 *
 *  Kept out: what comes after a control connection has expired, or has been opened again (docs/ovs-differences.md). */
import { ACK, type Bytes, type Ends, ends, FIN, ip, PSH, RST, SYN, swap, tcp, udp } from '../packets.js';
import { C, C6, S, S6, type Script, SHOW } from '../scenarios/script.js';
import { type Draw, damaged, type Fuzzer, once, pick } from './fuzzer.js';

/** Shorter and longer than the client's, so that sequence numbers move. */
const OUTSIDE = '10.222.222.222';
const OUTSIDE6 = 'fc00:2222:0:0:1::2';
const BACKEND = '10.3.3.3';
const BACKEND6 = 'fc00:3::3';

/** `how` and `how6`: what ct() is told for a connection that port 1 opens; `back` for what comes from port 2. */
const helped = (how: string, how6: string, back: string, set: string): string => {
  const lines = ['# Port 1 opens connections with helpers; port 2 only those that a helper expects.'];
  for (const [v, l4, nat] of [
    ['ip', ['tcp', 'udp'], how],
    ['ipv6', ['tcp6', 'udp6'], how6],
  ] as const) {
    const open = (alg: string) => `ct(commit,zone=1${nat}${alg}${set},table=1)`;
    lines.push(
      `table=0,priority=110,in_port=1,${l4[0]},tp_dst=21,actions=${open(',alg=ftp')}`,
      `table=0,priority=110,in_port=1,${l4[1]},tp_dst=69,actions=${open(',alg=tftp')}`,
      // Data connections from inside: translated as their parents if a helper expects them.
      `table=0,priority=100,in_port=1,${v},actions=ct(zone=1${back},table=2)`,
      `table=0,priority=100,in_port=2,${v},actions=ct(zone=1${back},table=2)`,
      `table=2,priority=100,${v},ct_state=+new+rel,actions=ct(commit,zone=1${back},table=1)`,
      `table=2,priority=90,in_port=1,${v},ct_state=+new,actions=ct(commit,zone=1${nat},table=1)`,
    );
  }
  return `${[
    ...lines,
    'table=2,priority=0,actions=resubmit(,1)',
    `table=1,priority=100,in_port=1,actions=${SHOW},output:2`,
    `table=1,priority=100,in_port=2,actions=${SHOW},output:1`,
  ].join('\n')}\n`;
};

const TABLES = [
  helped('', '', '', ''),
  helped('', '', '', ',exec(set_field:0x77->ct_mark,set_field:0x1234567890abcdef->ct_label)'),
  helped(`,nat(src=${OUTSIDE})`, `,nat(src=${OUTSIDE6})`, ',nat', ''),
  helped(`,nat(dst=${BACKEND})`, `,nat(dst=${BACKEND6})`, ',nat', ',exec(set_field:5->ct_mark)'),
];
const SNAT = 2;
const DNAT = 3;

/** A control connection as both of its ends see it. */
class Control {
  readonly #s: Script;
  readonly #r: Draw;
  readonly six: boolean;
  readonly client: Ends;
  readonly server: Ends;
  #up: number;
  #down = 5000;
  /** By how much what the server has seen is longer. */
  #skew = 0;
  #ended = false;

  constructor(s: Script, r: Draw, n: number, table: number) {
    this.#s = s;
    this.#r = r;
    this.six = once(r, 3);
    const [c, v] = this.six ? [C6, S6] : [C, S];
    const outside = table === SNAT ? (this.six ? OUTSIDE6 : OUTSIDE) : c;
    const backend = table === DNAT ? (this.six ? BACKEND6 : BACKEND) : v;
    this.client = ends(c, 40_000 + n, v, 21);
    this.server = ends(backend, 21, outside, 40_000 + n);
    this.#up = pick(r, [1000, 0xfffffff0]);
  }

  open(): void {
    const s = this.#s;
    s.pkt(1, tcp(this.client, SYN, this.#up, 0), 'SYN');
    this.#up++;
    s.pkt(2, tcp(this.server, SYN | ACK, this.#down, this.#up), 'SYN-ACK');
    this.#down++;
    s.pkt(1, tcp(this.client, ACK, this.#up, this.#down));
  }

  /** A segment with text from the client (0) or the server (1). */
  say(from: number, text: string, flags = PSH | ACK): void {
    const r = this.#r;
    // A SYN would begin another connection, where Open vSwitch expects still what the former one announced.
    if (this.#ended && flags & SYN) return;
    this.#ended ||= (flags & (FIN | RST)) !== 0;
    const at = once(r, 20) ? pick(r, [-1, 1, -20, 70_000]) : 0;
    const options = {
      data: text,
      ...(once(r, 30) ? { badL4: true } : {}),
      ...(once(r, 15) ? { opts: [1, 1, 1, 1] } : {}),
    };
    let frame: Bytes = from
      ? tcp(this.server, flags, this.#down + at, this.#up + this.#skew, options)
      : tcp(this.client, flags, this.#up + at, this.#down, options);
    if (once(r, 50)) frame = damaged(r, frame, 54, 1);
    this.#s.pkt(1 + from, frame, JSON.stringify(text.slice(0, 60)));
    if (at) return;
    const n = text.length + (flags & FIN);
    if (from) this.#down += n;
    else this.#up += n;
    if (!once(r, 3)) this.acknowledge(from);
    // The server is told of an address of another length now and then; a wrong guess is a case as well.
    if (once(r, 10)) this.#skew += pick(r, [-6, -1, 1, 6, 14]);
  }

  acknowledge(from: number): void {
    if (from) this.#s.pkt(1, tcp(this.client, ACK, this.#up, this.#down));
    else this.#s.pkt(2, tcp(this.server, ACK, this.#down, this.#up + this.#skew));
  }
}

const cased = (r: Draw, word: string): string =>
  pick(r, [
    word,
    word,
    word.toLowerCase(),
    [...word].map((c) => (once(r, 2) ? c : c.toLowerCase())).join(''),
  ]);

function addressOf(r: Draw, c: Control, from: number): string {
  const own = from ? c.server.a : c.client.a;
  const seen = from ? c.client.b : c.server.b;
  return pick(r, [
    own,
    own,
    own,
    own,
    seen,
    from ? c.client.a : c.server.a,
    c.six ? 'fc00::77' : '10.1.1.77',
    '0.0.0.0',
    '::',
  ]);
}

function number(r: Draw, n: number): string {
  return pick(r, [
    String(n),
    String(n),
    String(n),
    String(n),
    String(n),
    String(n),
    `0${n}`,
    ` ${n}`,
    `${n}x`,
    '',
    '256',
    '-1',
    '999',
    '65536',
    '1000000',
  ]);
}

/** An announcement of `port`, by the client (0) or the server (1), or something like it. */
function announcement(r: Draw, c: Control, from: number, port: number): string {
  const address = addressOf(r, c, from);
  const clean = !once(r, 3);
  const n = (x: number): string => (clean ? String(x) : number(r, x));
  const parts = address.includes(':') ? ['10', '1', '1', '1'] : address.split('.');
  const comma = clean ? ',' : pick(r, [',', '.', ', ', ' ', '']);
  const listed = [...parts.map((p) => n(Number(p))), n(port >> 8), n(port & 255)].join(comma);
  const bar = clean ? '|' : pick(r, ['|', '!', ',', ' ', '||', '1']);
  const family = clean ? (address.includes(':') ? '2' : '1') : pick(r, ['1', '2', '3', '', '01', '12']);
  const end = pick(r, [
    '\r\n',
    '\r\n',
    '\r\n',
    '\n',
    '',
    ' \r\n',
    '\r\nNOOP\r\n',
    `${' '.repeat(r(130))}\r\n`,
  ]);
  const extended = `${bar}${family}${bar}${address}${bar}${n(port)}${bar}`;
  const passive = pick(r, [
    'Entering Extended Passive Mode ',
    'Extended passive mode',
    'EXTENDED PASSIVE ok ',
    'Entering ',
    '',
  ]);
  const words = [
    `${cased(r, 'PORT')}${clean ? ' ' : pick(r, [' ', '', '  ', '\t', '=', 'S '])}${listed}`,
    `${cased(r, 'EPRT')}${clean ? ' ' : pick(r, [' ', '', '  '])}${extended}`,
    `227${clean ? ' ' : pick(r, [' ', '-', '', '0 '])}${clean ? 'Entering Passive Mode ' : pick(r, ['Entering Passive Mode ', '', '1 '])}${pick(r, ['(', ''])}${listed}${pick(r, [')', ').', ''])}`,
    `229${clean ? ' ' : pick(r, [' ', '-', '', '0 '])}${passive}(${clean ? '|||' : pick(r, ['|||', '||', '|1||', '!!!'])}${n(port)}${clean ? '|' : pick(r, ['|', '', '||', ')'])})`,
  ];
  let text = words[once(r, 6) ? r(4) : 2 * from + (c.six ? 1 : r(2))] + end;
  if (once(r, 25)) text = `${pick(r, [' ', 'NOOP\r\n', 'x', '\0', '\r\n'])}${text}`;
  if (once(r, 25)) {
    const at = r(text.length);
    text = text.slice(0, at) + String.fromCharCode(r(128)) + text.slice(at + 1);
  }
  return text;
}

/** Packets of a data connection to `port` of an end of the control connection. */
function data(s: Script, r: Draw, c: Control, toServer: number, port: number): void {
  const way = once(r, 10) ? toServer ^ 1 : toServer;
  const source = pick(r, [20, 20, 41_000 + r(3), 21, 0]);
  // Whoever opens it does so to the address that it sees.
  const opener = way ? c.client : c.server;
  const answerer = way ? c.server : c.client;
  const other = once(r, 12) ? (c.six ? 'fc00::55' : '10.1.1.55') : opener.a;
  const up = ends(other, source, opener.b, port);
  const down = ends(answerer.a, port, answerer.b, source);
  const [first, second] = way ? [1, 2] : [2, 1];
  if (once(r, 12)) {
    s.pkt(first, udp(up), 'UDP in its place');
    return;
  }
  s.pkt(first, tcp(up, SYN, 100, 0), 'data: SYN');
  if (once(r, 3)) return;
  s.pkt(second, tcp(down, SYN | ACK, 200, 101), 'data: SYN-ACK');
  s.pkt(first, tcp(up, ACK, 101, 201));
  if (once(r, 3)) s.pkt(first, tcp(up, RST | ACK, 101, 201), 'data: RST');
}

function tftp(s: Script, r: Draw, c: Control): void {
  const port = 50_000 + r(3);
  const request = udp(
    { ...c.client, ap: port, bp: 69 },
    { data: pick(r, ['\0\x01file\0octet\0', 'xyz', 0]) },
  );
  s.pkt(1, request, 'TFTP request');
  const from = pick(r, [1024 + r(3), 69]);
  s.pkt(2, udp({ ...c.server, ap: from, bp: once(r, 6) ? port + 1 : port }, { data: 100 }), 'TFTP data');
  if (once(r, 2)) s.pkt(1, udp({ ...c.client, ap: port, bp: from }, { data: 4 }), 'TFTP acknowledgement');
  if (once(r, 4))
    s.pkt(2, udp({ ...c.server, ap: from + 1, bp: port }, { data: 10 }), 'TFTP from another port');
}

export const ftpFuzzer: Fuzzer = {
  name: 'ftp',
  about: 'FTP and TFTP helpers: announcements of all kinds, data connections, translation, mark and label',
  tables: TABLES,
  ports: 2,
  play: (s, r, table) => {
    const controls = Array.from({ length: 1 + r(2) }, (_, n) => new Control(s, r, n, table));
    for (const c of controls) if (!once(r, 15)) c.open();
    const ports: number[] = [1025, 1026];
    for (let n = 12 + r(20); n > 0; n--) {
      const c = pick(r, controls);
      const from = r(2);
      const port = pick(r, [1025, 1026, 2049, 65_535, 20, 21, 1024 + r(5), once(r, 10) ? 0 : 3000]);
      switch (r(10)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4: {
          const text = announcement(r, c, from, port);
          ports.push(port);
          if (once(r, 8)) {
            const at = r(text.length);
            c.say(from, text.slice(0, at));
            c.say(from, text.slice(at));
          } else c.say(from, text);
          if (once(r, 2)) data(s, r, c, from, port);
          break;
        }
        case 5:
          c.say(
            from,
            pick(r, [
              'USER me\r\n',
              '220 ready\r\n',
              'LIST\r\n',
              'QUIT\r\n',
              '150 ok\r\n',
              'x'.repeat(r(300)),
              '',
            ]),
          );
          break;
        case 6:
        case 7:
          data(s, r, c, r(2), pick(r, ports));
          break;
        case 8:
          tftp(s, r, c);
          break;
        default:
          switch (r(8)) {
            case 0:
            case 1:
              c.say(from, '', pick(r, [FIN | ACK, RST | ACK, SYN]));
              break;
            case 2:
            case 3:
              s.wait(pick(r, [0.5, 2]));
              break;
            case 4:
              s.pkt(1, ip(c.client.a, c.client.b, 47, new Uint8Array(8)), 'another protocol');
              break;
            default:
              s.pkt(2, tcp(swap(c.client), ACK, 1, 1), 'untranslated');
          }
      }
      if (once(r, 15)) s.cmd('dpctl/dump-conntrack', '-m');
    }
    s.cmd('dpctl/dump-conntrack-exp');
  },
};
