/** The scenarios that docs/scenarios explains, with their traffic. Flow tables, groups and captures are those of
 *  fixtures/scenarios, which a reader runs; fixtures/oracle has what Open vSwitch answers to them. Where its choice is
 *  free (which pod, which port) nothing is compared: there the traffic is such that every choice is the same. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PcapngWriter } from '../../../src/pcap/pcapng-writer.js';
import { ROOT, secondsText, timeline } from '../fixture.js';
import { ACK, type Ends, echo, ends, FIN, icmpError, PSH, SYN, tcp, udp } from '../packets.js';
import { type Scenario, Script } from './script.js';

export const SCENARIO_FOLDER = path.join(ROOT, 'fixtures', 'scenarios');

const text = (name: string, file: string): string =>
  readFileSync(path.join(SCENARIO_FOLDER, name, file), 'utf8');

/** A TCP conversation whose two ends know each other by other addresses: `client` is what its first end sends with,
 *  `server` what the other end sends with. */
class Translated {
  private readonly s: Script;
  private readonly client: Ends;
  private readonly server: Ends;
  private readonly ports: readonly [number, number];
  /** Next sequence numbers as their senders count. */
  private a = 1000;
  private b = 9000;
  /** How much longer the client's data is for the server, and the server's for the client. */
  shiftUp = 0;
  shiftDown = 0;

  constructor(s: Script, client: Ends, server: Ends, ports: readonly [number, number] = [1, 2]) {
    this.s = s;
    this.client = client;
    this.server = server;
    this.ports = ports;
  }

  up(flags: number, note: string, data?: string): this {
    const ack = flags & ACK ? this.b + this.shiftDown : 0;
    this.s.pkt(this.ports[0], tcp(this.client, flags, this.a, ack, data === undefined ? {} : { data }), note);
    this.a += (data?.length ?? 0) + (flags & (SYN | FIN) ? 1 : 0);
    return this;
  }

  down(flags: number, note: string, data?: string): this {
    const ack = flags & ACK ? this.a + this.shiftUp : 0;
    this.s.pkt(this.ports[1], tcp(this.server, flags, this.b, ack, data === undefined ? {} : { data }), note);
    this.b += (data?.length ?? 0) + (flags & (SYN | FIN) ? 1 : 0);
    return this;
  }

  open(what: string): this {
    return this.up(SYN, `${what}: SYN`)
      .down(SYN | ACK, 'SYN-ACK')
      .up(ACK, 'ACK');
  }

  close(): this {
    return this.up(FIN | ACK, 'FIN')
      .down(FIN | ACK, 'FIN')
      .up(ACK, 'ACK');
  }
}

const WORLD = '198.51.100.7';

function floatingIp(s: Script): void {
  const INSTANCE = '10.0.0.5';
  const OTHER = '10.0.0.6';
  const FLOATING = '203.0.113.10';
  const ROUTER = '203.0.113.1';
  new Translated(s, ends(INSTANCE, 40000, WORLD, 443), ends(WORLD, 443, FLOATING, 40000), [1, 3])
    .open('the instance opens HTTPS')
    .up(PSH | ACK, 'request', 'hello')
    .down(PSH | ACK, 'answer', 'hello yourself')
    .close();
  s.wait(1);
  new Translated(s, ends(WORLD, 51000, FLOATING, 22), ends(INSTANCE, 22, WORLD, 51000), [3, 1])
    .open('the world opens SSH to the floating address')
    .down(PSH | ACK, 'banner', 'SSH-2.0-example\r\n')
    .up(ACK, 'ACK');
  s.wait(1);
  s.pkt(3, echo(WORLD, FLOATING, 77), 'ping of the floating address');
  s.pkt(1, echo(INSTANCE, WORLD, 77, true), 'its answer');
  s.pkt(2, udp(ends(OTHER, 40000, WORLD, 53)), 'the other instance asks, as the router');
  s.pkt(3, udp(ends(WORLD, 53, ROUTER, 40000)), 'the answer');
  s.pkt(3, tcp(ends(WORLD, 51001, ROUTER, 22), SYN, 1, 0), 'nobody is behind the router’s address: dropped');
  s.pkt(1, udp(ends(INSTANCE, 33434, WORLD, 33434)), 'traceroute of the instance');
  const seen = udp(ends(FLOATING, 33434, WORLD, 33434));
  s.pkt(
    3,
    icmpError('192.0.2.254', FLOATING, seen, { type: 11, code: 0 }),
    'a hop on the way: time exceeded',
  );
  s.table();
}

const SERVICE = '10.96.0.10';
const HIDDEN = '169.254.17.1';
const pod = (n: number): string => `10.244.1.${n}`;
const FAR = '10.244.2.77';

/** Ports of clients and the pod that the group gives them, whatever hash its build has: found by asking. */
const CHOSEN: readonly (readonly [string, number, number])[] = [
  [pod(10), 40000, 12],
  [pod(10), 40001, 10],
  [pod(10), 40002, 11],
  [pod(11), 40000, 12],
  [pod(11), 40002, 10],
  [pod(11), 40004, 11],
  [pod(12), 40000, 12],
  [FAR, 40000, 12],
  [FAR, 40003, 11],
];
/** The same once pod 12 has weight 0: the first three would have got it. */
const DRAINED_CHOSEN: readonly (readonly [string, number, number])[] = [
  [pod(10), 40012, 10],
  [pod(11), 40013, 10],
  [pod(12), 40008, 11],
  [FAR, 40011, 10],
];

/** A connection of `client` to the service, which pod `n` answers. */
function service(s: Script, client: string, port: number, n: number, note: string): Translated {
  const from = client === FAR ? 4 : Number(client.split('.')[3]) - 9;
  const hairpin = client === pod(n);
  const asks = ends(client, port, SERVICE, 80);
  const answers = ends(pod(n), 8080, hairpin ? HIDDEN : client, port);
  return new Translated(s, asks, answers, [from, n - 9]).open(note);
}

function clusterService(s: Script): void {
  const open = CHOSEN.map(([client, port, n]) => {
    const hairpin = client === pod(n) ? ', itself: hairpin' : '';
    return service(s, client, port, n, `${client} gets pod ${pod(n)}${hairpin}`)
      .up(PSH | ACK, 'request', 'GET / HTTP/1.1\r\n\r\n')
      .down(PSH | ACK, 'answer', 'HTTP/1.1 200 OK\r\n\r\n');
  });
  s.table();
  s.pkt(1, udp(ends(pod(10), 5353, pod(11), 53)), 'pod to pod, past the service');
  s.pkt(2, udp(ends(pod(11), 53, pod(10), 5353)), 'its answer');
  s.wait(1);
  s.ofctl('mod-group', DRAINED);
  s.wait(1);
  for (const t of open)
    t.up(PSH | ACK, 'goes on', 'GET /2 HTTP/1.1\r\n\r\n').down(
      PSH | ACK,
      'answer',
      'HTTP/1.1 200 OK\r\n\r\n',
    );
  for (const [client, port, n] of DRAINED_CHOSEN) {
    service(s, client, port, n, `${client}, after pod ${pod(12)} was drained, gets ${pod(n)}`);
  }
  s.table();
}

/** What a controller says to take a pod out: its weight is 0. */
const DRAINED = text('cluster-service', 'groups.txt')
  .split('\n')
  .filter((l) => l.startsWith('group_id'))[0]
  .replace('bucket_id:12,weight:10', 'bucket_id:12,weight:0');

function ftpFirewall(s: Script): void {
  const CLIENT = '192.168.1.20';
  const SERVER = '192.168.1.21';
  const OUT = '203.0.113.5';
  const quad = (a: string) => a.replaceAll('.', ',');
  /** A data connection, opened by `e.a` from switch port `from`; the other end knows it by `back`. */
  const data = (from: 1 | 2, e: Ends, back: Ends, what: string) =>
    new Translated(s, e, back, from === 1 ? [1, 2] : [2, 1])
      .open(what)
      .up(PSH | ACK, 'data', 'a file, or a list of files\r\n')
      .down(ACK, 'ACK')
      .close();

  const out = new Translated(s, ends(CLIENT, 40000, WORLD, 21), ends(WORLD, 21, OUT, 40000))
    .open('the office to a server in the world')
    .down(PSH | ACK, 'greeting', '220 ready\r\n')
    .up(PSH | ACK, 'USER', 'USER anonymous\r\n')
    .down(PSH | ACK, 'welcome', '230 welcome\r\n');
  const port = 1025;
  out.up(PSH | ACK, 'PORT: the client’s own address', `PORT ${quad(CLIENT)},${port >> 8},${port & 255}\r\n`);
  out.shiftUp += OUT.length - CLIENT.length;
  out
    .down(PSH | ACK, 'the server acknowledges what it has seen', '200 PORT ok\r\n')
    .up(PSH | ACK, 'LIST', 'LIST\r\n');
  data(2, ends(WORLD, 20, OUT, port), ends(CLIENT, port, WORLD, 20), 'active data, from the world');
  s.pkt(
    2,
    tcp(ends('198.51.100.66', 20, OUT, port), SYN, 1, 0),
    'somebody else tries the announced port: dropped',
  );
  out.down(PSH | ACK, 'done', '226 done\r\n').up(PSH | ACK, 'PASV', 'PASV\r\n');
  out.down(PSH | ACK, 'where', `227 Entering Passive Mode (${quad(WORLD)},8,1)\r\n`);
  data(1, ends(CLIENT, 41000, WORLD, 2049), ends(WORLD, 2049, OUT, 41000), 'passive data, from the office');
  s.table();
  out
    .up(PSH | ACK, 'QUIT', 'QUIT\r\n')
    .down(PSH | ACK, 'bye', '221 bye\r\n')
    .close();
  s.wait(1);

  const into = new Translated(s, ends(WORLD, 50000, OUT, 21), ends(SERVER, 21, WORLD, 50000), [2, 1])
    .open('the world to the server in the office')
    .down(PSH | ACK, 'greeting', '220 ready\r\n')
    .up(PSH | ACK, 'PASV', 'PASV\r\n');
  into.down(PSH | ACK, 'the server’s own address', `227 Entering Passive Mode (${quad(SERVER)},8,2)\r\n`);
  into.shiftDown += OUT.length - SERVER.length;
  into.up(ACK, 'the client acknowledges what it has seen');
  data(2, ends(WORLD, 50001, OUT, 2050), ends(SERVER, 2050, WORLD, 50001), 'passive data, from the world');
  s.pkt(2, tcp(ends(WORLD, 50002, OUT, 2051), SYN, 1, 0), 'a port that nobody has announced: dropped');
  s.table();
}

export const documentedScenarios: readonly Scenario[] = [
  {
    name: 'scenario-floating-ip',
    about: 'an instance with a floating address: SNAT out, DNAT in, ICMP errors; another without one',
    flows: text('floating-ip', 'flows.txt'),
    play: floatingIp,
  },
  {
    name: 'scenario-cluster-service',
    about: 'a service address and its pods, hairpin included; a pod is drained while connections are open',
    flows: text('cluster-service', 'flows.txt'),
    groups: text('cluster-service', 'groups.txt'),
    play: clusterService,
  },
  {
    name: 'scenario-ftp-firewall',
    about: 'FTP behind NAT, active and passive, to the world and from it; data connections as announced only',
    flows: text('ftp-firewall', 'flows.txt'),
    play: ftpFirewall,
  },
];

/** When the captures begin. */
const EPOCH = 1_700_000_000;

/** The folder of a documented scenario, and its packets and events as a reader runs them: `traffic.pcapng` has port k on
 *  interface k - 1, with what a packet is about as its comment. */
export function writeTraffic(sc: Scenario, folder: string): void {
  const script = new Script();
  sc.play(script);
  const { packets } = timeline(script.records);
  const notes = script.records.filter((r) => r.hex !== undefined).map((r) => r.note);
  const writer = new PcapngWriter(path.join(folder, 'traffic.pcapng'));
  for (let port = 1; port <= 4; port++) writer.addInterface(`port ${port}`);
  const shift = EPOCH * 1e6 - packets[0].us;
  for (const [i, { us, port, frame }] of packets.entries()) {
    if (i >= notes.length) break;
    const at = us + shift;
    const [sec, nsec] = [Math.floor(at / 1e6), (at % 1e6) * 1000];
    writer.write(port - 1, sec, nsec, frame, 0, frame.length, frame.length, notes[i]);
  }
  writer.finish();
  const events = timeline(script.records).events.filter((e) => e.kind !== 'appctl');
  if (events.length === 0) return;
  const lines = events.map(
    (e) => `{"t": ${secondsText(e.us + shift)}, "${e.kind}": ${JSON.stringify(e.args)}}\n`,
  );
  writeFileSync(path.join(folder, 'events.ndjson'), lines.join(''));
}

/** `scenario-floating-ip` explains docs/scenarios/floating-ip.md and has its files in fixtures/scenarios/floating-ip. */
export const folderOf = (sc: Scenario): string => sc.name.replace(/^scenario-/, '');
