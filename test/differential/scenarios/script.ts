/** What a scenario is made with: a flow table as text and a script of packets. Time moves 0.2 ms with every record. */
import type { InputRecord } from '../fixture.js';
import { ACK, type Bytes, type Ends, hex, PSH, SYN, swap, type TcpOptions, tcp } from '../packets.js';

const STEP_US = 200;

export class Script {
  readonly records: InputRecord[] = [];
  #us = 100_000_000;

  #next(): number {
    this.#us += STEP_US;
    return this.#us / 1e6;
  }

  pkt(port: number, frame: Bytes, note?: string): this {
    this.records.push({ t: this.#next(), in_port: port, hex: hex(frame), ...(note ? { note } : {}) });
    return this;
  }

  wait(seconds: number): this {
    this.#us += Math.round(seconds * 1e6);
    return this;
  }

  /** The connection table, here and now. */
  table(): this {
    this.records.push({ t: this.#next(), cmd: ['dpctl/dump-conntrack', '-m'] });
    return this;
  }

  /** An ovs-appctl command. */
  cmd(...args: string[]): this {
    this.records.push({ t: this.#next(), cmd: args });
    return this;
  }

  /** An ovs-vsctl command. */
  vsctl(...args: string[]): this {
    this.records.push({ t: this.#next(), vsctl: args });
    return this;
  }

  /** An ovs-ofctl command, without the bridge. */
  ofctl(...args: string[]): this {
    this.records.push({ t: this.#next(), ofctl: args });
    return this;
  }

  /** A record that is nothing but time. */
  until(note: string): this {
    this.records.push({ t: this.#next(), note });
    return this;
  }
}

export interface Scenario {
  readonly name: string;
  readonly about: string;
  readonly flows: string;
  readonly groups?: string;
  readonly ports?: number;
  readonly pending?: string;
  readonly play: (s: Script) => void;
}

/** Shows ct_state (source MAC, last 32 bits), ct_zone (first 16) and ct_mark (destination MAC, last 32 bits). */
export const SHOW =
  'move:NXM_NX_CT_STATE[]->NXM_OF_ETH_SRC[0..31],move:NXM_NX_CT_ZONE[]->NXM_OF_ETH_SRC[32..47],' +
  'set_field:00:00:00:00:00:00->eth_dst,move:NXM_NX_CT_MARK[]->NXM_OF_ETH_DST[0..31]';

/** Port 1 commits, port 2 only looks, zone 1; both directions show their state. */
export const WATCH = `# Port 1 opens connections, port 2 only looks them up; the frames show ct_state, zone and mark.
table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=1,table=1)
table=0,priority=100,in_port=1,ipv6,actions=ct(commit,zone=1,table=1)
table=0,priority=100,in_port=2,ip,actions=ct(zone=1,table=1)
table=0,priority=100,in_port=2,ipv6,actions=ct(zone=1,table=1)
table=0,priority=0,actions=drop
table=1,priority=100,in_port=1,actions=${SHOW},output:2
table=1,priority=100,in_port=2,actions=${SHOW},output:1
`;

/** Both ports open connections. */
export const WATCH_BOTH = WATCH.replaceAll(
  'in_port=2,ip,actions=ct(zone',
  'in_port=2,ip,actions=ct(commit,zone',
)
  .replaceAll('in_port=2,ipv6,actions=ct(zone', 'in_port=2,ipv6,actions=ct(commit,zone')
  .replace('port 2 only looks them up', 'and so does port 2');

/** `at` and `ackAt` move the numbers; a segment that is moved, or told to be `still`, does not advance the sender. */
export type Segment = TcpOptions & {
  readonly at?: number;
  readonly ackAt?: number;
  readonly still?: boolean;
};

/** A TCP conversation that keeps count of both sequence numbers: port 1 is end a, port 2 end b. */
export class Tcp {
  readonly e: Ends;
  a: number;
  b: number;
  readonly #s: Script;
  readonly #ports: readonly [number, number];

  constructor(s: Script, e: Ends, a = 1000, b = 5000, ports: readonly [number, number] = [1, 2]) {
    this.#s = s;
    this.e = e;
    this.a = a;
    this.b = b;
    this.#ports = ports;
  }

  up(flags: number, note?: string, o: Segment = {}): this {
    this.#s.pkt(
      this.#ports[0],
      tcp(this.e, flags, this.a + (o.at ?? 0), flags & ACK ? this.b + (o.ackAt ?? 0) : 0, o),
      note,
    );
    if (!o.at && !o.still) this.a = this.a + size(flags, o);
    return this;
  }

  down(flags: number, note?: string, o: Segment = {}): this {
    this.#s.pkt(
      this.#ports[1],
      tcp(swap(this.e), flags, this.b + (o.at ?? 0), flags & ACK ? this.a + (o.ackAt ?? 0) : 0, o),
      note,
    );
    if (!o.at && !o.still) this.b = this.b + size(flags, o);
    return this;
  }

  open(o: TcpOptions = {}, oBack: TcpOptions = o): this {
    return this.up(SYN, 'SYN', o)
      .down(SYN | ACK, 'SYN-ACK', oBack)
      .up(ACK, 'ACK');
  }

  send(n: number | string, note?: string): this {
    return this.up(PSH | ACK, note, { data: n }).down(ACK);
  }

  answer(n: number | string, note?: string): this {
    return this.down(PSH | ACK, note, { data: n }).up(ACK);
  }
}

const size = (flags: number, o: TcpOptions): number =>
  (flags & SYN ? 1 : 0) + (flags & 1) + (typeof o.data === 'string' ? o.data.length : (o.data ?? 0));

export const C = '10.1.1.1';
export const S = '10.1.1.2';
export const C6 = 'fc00::1';
export const S6 = 'fc00::2';
