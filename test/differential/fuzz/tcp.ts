/** TCP: whole connections and pieces of them, segments around the edges of windows and of the sequence space, from
 *  either side, in any state, with pauses around every timeout. */
import { ACK, type Bytes, ends, FIN, PSH, RST, SYN, swap, type TcpOptions, tcp, URG } from '../packets.js';
import { C, C6, S, S6, type Script, WATCH, WATCH_BOTH } from '../scenarios/script.js';
import { type Draw, damaged, type Fuzzer, once, pick } from './fuzzer.js';

const FLAGS = [
  ...[ACK, ACK, ACK, PSH | ACK, PSH | ACK, PSH | ACK, SYN, SYN, SYN | ACK, SYN | ACK, FIN | ACK, FIN | ACK],
  ...[
    RST,
    RST | ACK,
    FIN | PSH | ACK,
    SYN | PSH,
    URG | ACK,
    RST | SYN,
    FIN,
    0,
    PSH,
    SYN | ACK | RST,
    FIN | RST | ACK,
  ],
];
/** Distances from the number that is expected. */
const NEAR = [-2, -1, 1, 2, 99, -99, 1459, -1460];
/** Around one window, a window and the fudge factor, shifted windows. */
const FAR = [0xffff, 0xffff + 1500, 0xffff + 1501, 1 << 17, 1 << 20, 1 << 24, 0x3fffffff, 0x7fffffff];
/** In seconds, around the timeouts of the states: 30, 45, 900, 86400. */
const PAUSES = [
  ...[
    0.5, 1, 5, 29, 29.9, 30, 30.1, 31, 44, 44.9, 45, 45.1, 46, 60, 61, 899, 900, 901, 86_399, 86_400, 86_401,
  ],
];

/** Of a zone's policy. */
const TIMERS = [
  'syn_sent',
  'syn_recv',
  'established',
  'fin_wait',
  'time_wait',
  'close',
  'last_ack',
  'syn_sent2',
];

function offset(r: Draw): number {
  switch (r(8)) {
    case 0:
      return pick(r, NEAR);
    case 1:
      return (pick(r, FAR) + r(3) - 1) * (once(r, 2) ? -1 : 1);
    case 2:
      return r(200_000) - 100_000;
    default:
      return 0;
  }
}

function options(r: Draw): number[] {
  const out: number[] = [];
  for (let n = r(4); n > 0; n--) {
    switch (r(8)) {
      case 0:
        out.push(2, 4, 5, 180);
        break;
      case 1:
      case 2:
      case 3:
        out.push(1, 3, 3, pick(r, [0, 1, 2, 7, 8, 13, 14, 15, 200]));
        break;
      case 4:
        out.push(4, 2, 1, 1);
        break;
      case 5:
        out.push(8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1);
        break;
      case 6:
        // Lengths that lie.
        out.push(pick(r, [3, 8, 254]), r(6), r(20), r(256));
        break;
      default:
        out.push(0);
    }
  }
  return out.slice(0, 40);
}

/** Both ends of a connection, and what each has sent so far. */
class Peer {
  readonly #s: Script;
  readonly #r: Draw;
  readonly #ends: ReturnType<typeof ends>;
  readonly #next: [number, number];

  constructor(s: Script, r: Draw, n: number, six: boolean) {
    this.#s = s;
    this.#r = r;
    this.#ends = six ? ends(C6, 40_000 + n, S6, 80) : ends(C, 40_000 + n, S, 80);
    const start = (): number =>
      pick(r, [1000, 0xffffffff, 0xffffff00, 0xfffe0000, 0x7fffff00, 0, r(2 ** 31), 0x80000000]);
    this.#next = [start(), start()];
  }

  /** A segment of end `from` as it should be, moved by `at` and `ackAt`. */
  send(
    from: 0 | 1,
    flags: number,
    o: TcpOptions & { at?: number; ackAt?: number } = {},
    note?: string,
  ): void {
    const to = (from ^ 1) as 0 | 1;
    const seq = (this.#next[from] + (o.at ?? 0)) >>> 0;
    const ack =
      flags & ACK ? (this.#next[to] + (o.ackAt ?? 0)) >>> 0 : once(this.#r, 8) ? this.#r(2 ** 31) : 0;
    let frame: Bytes = tcp(from ? swap(this.#ends) : this.#ends, flags, seq, ack, o);
    if (o.badL4 === undefined && once(this.#r, 60)) {
      frame = damaged(this.#r, frame, 14, 2);
      note = 'damaged';
    }
    this.#s.pkt(1 + from, frame, note);
    if (o.at) return;
    const size = typeof o.data === 'number' ? o.data : 0;
    this.#next[from] += size + (flags & SYN ? 1 : 0) + (flags & FIN ? 1 : 0);
  }

  open(): void {
    const r = this.#r;
    const first = (once(r, 5) ? 1 : 0) as 0 | 1;
    const second = (first ^ 1) as 0 | 1;
    const syn = () => ({ opts: options(r), win: window(r), ...(once(r, 10) ? { data: 1 + r(100) } : {}) });
    switch (r(6)) {
      case 0: // both at once
        this.send(first, SYN, syn());
        this.send(second, SYN, syn());
        if (once(r, 2)) {
          this.send(first, SYN | ACK, { at: -1 });
          this.send(second, SYN | ACK, { at: -1 });
        } else this.send(first, ACK);
        break;
      case 1: // split handshake
        this.send(first, SYN, syn());
        this.send(second, ACK);
        this.send(second, SYN, syn());
        this.send(first, ACK);
        break;
      case 2: // from the middle
        this.send(first, pick(r, [ACK, PSH | ACK, FIN | ACK, RST, RST | ACK]), {
          data: r(3) * 100,
          win: window(r),
        });
        break;
      default:
        this.send(first, SYN, syn());
        if (once(r, 4)) this.send(first, SYN, { ...syn(), at: -1 });
        this.send(second, SYN | ACK, syn());
        if (!once(r, 5)) this.send(first, ACK, { win: window(r) });
    }
  }

  close(): void {
    const r = this.#r;
    const first = r(2) as 0 | 1;
    const second = (first ^ 1) as 0 | 1;
    this.send(first, FIN | ACK, { data: r(2) * 50 });
    if (once(r, 2)) this.send(second, ACK);
    for (let n = r(3); n > 0; n--) this.send(second, PSH | ACK, { data: 100 });
    if (once(r, 3)) return;
    this.send(second, FIN | ACK);
    if (!once(r, 4)) this.send(first, ACK);
  }

  data(): void {
    const r = this.#r;
    const from = r(2) as 0 | 1;
    this.send(from, PSH | ACK, { data: pick(r, [1, 100, 1460, 8000]), win: window(r) });
    if (!once(r, 4)) this.send((from ^ 1) as 0 | 1, ACK, { win: window(r) });
  }

  stray(): void {
    const r = this.#r;
    const flags = once(r, 6) ? r(256) : pick(r, FLAGS);
    const at = offset(r);
    this.send(r(2) as 0 | 1, flags, {
      ...(at ? { at } : {}),
      ackAt: offset(r),
      win: window(r),
      data: pick(r, [0, 0, 0, 1, 50, 1460]),
      ...(flags & SYN || once(r, 10) ? { opts: options(r) } : {}),
      ...(once(r, 25) ? { badL4: true } : {}),
      ...(once(r, 40) ? { l4Length: r(16) } : {}),
      ...(once(r, 40) ? { pad: 1 + r(10) } : {}),
      ...(once(r, 40) ? { cut: 1 + r(4) } : {}),
    });
  }
}

const window = (r: Draw): number => pick(r, [65_535, 65_535, 8192, 1000, 1, 0, 32_768, r(65_536)]);

export const tcpFuzzer: Fuzzer = {
  name: 'tcp',
  about: 'TCP states, windows, wrap, pauses, damage',
  tables: [WATCH, WATCH_BOTH],
  ports: 2,
  play: (s, r) => {
    if (once(r, 12)) s.cmd('dpctl/ct-disable-tcp-seq-chk');
    const policy = once(r, 8);
    if (policy) {
      const timers = TIMERS.filter(() => once(r, 2)).map((t) => `tcp_${t}=${1 + r(70)}`);
      s.vsctl('add-zone-tp', 'dummy', 'zone=1', ...timers, 'udp_first=7');
    }
    const peers = Array.from({ length: 1 + r(3) }, (_, n) => new Peer(s, r, n, once(r, 4)));
    for (const p of peers) if (!once(r, 6)) p.open();
    for (let n = 10 + r(40); n > 0; n--) {
      const p = pick(r, peers);
      const what = r(20);
      if (what < 4) p.data();
      else if (what === 4) p.close();
      else if (what === 5) p.open();
      else p.stray();
      if (once(r, 12)) s.wait(pick(r, PAUSES));
      if (once(r, 20)) s.cmd('dpctl/dump-conntrack', '-m', '-s');
    }
    s.cmd('dpctl/ct-enable-tcp-seq-chk');
    if (policy) {
      // Before the policy goes: Open vSwitch would have its connections follow another one later.
      s.cmd('dpctl/dump-conntrack', '-m', '-s').cmd('dpctl/flush-conntrack');
      s.vsctl('del-zone-tp', 'dummy', 'zone=1');
    }
  },
};
