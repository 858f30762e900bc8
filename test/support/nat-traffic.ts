/** Draws traffic for tables that translate: few clients, servers and ports, so that connections get into each other's
 *  way; answers to what came out of the switch, soon or later; and whoever speaks with the translated addresses
 *  directly. */
import {
  ACK,
  type Bytes,
  data,
  ethernet,
  FIN,
  fragmentIpv4,
  fragmentIpv6,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  type Layer3,
  type Layer4,
  type Packet,
  type Random,
  RST,
  SYN,
  sctp,
  tcp,
  udp,
  unhex,
  view,
} from './packets.js';
import { type RunOptions, run } from './run.js';

/** Port 1: clients 10.0.0.1 to .4. Port 2: servers 10.0.1.1 to .3, which balanced addresses stand for, too. */
const hosts = (six: boolean, net: string, n: number) =>
  six ? `fd00:${net.replace('.', ':')}::${n}` : `10.${net}.${n}`;
const PORTS = [1, 600, 1024, 5000, 5001, 5002, 65535];

interface Ends {
  src: string;
  dst: string;
  sport: number;
  dport: number;
}

export interface NatTrafficOptions {
  packets: number;
  six: boolean;
  /** Packets between a packet and its answer, at most. */
  delay: number;
  /** Leave out fragments. */
  whole?: boolean;
}

/** Ranges to translate to, so small that they are used up. */
export function randomRange(r: Random, six: boolean): string {
  const v4 = [
    'src=10.9.0.1',
    'src=10.9.0.1-10.9.0.2',
    'src=10.9.0.1:5000-5003',
    'src=10.9.0.1-10.9.0.2:5000-5001,random',
    'src=10.9.0.1-10.9.0.3,persistent',
    'src=10.9.0.1:1024-65535,random',
    'src=0.0.0.0',
    'src=10.0.0.1',
    'dst=10.0.1.1-10.0.1.3',
    'dst=10.0.1.1:8000-8002',
    'dst=10.0.1.1-10.0.1.2:80-81,random',
    'dst=10.0.1.1-10.0.1.3,hash',
  ];
  const v6 = [
    'src=fd00:9:0::1',
    'src=fd00:9:0::1-fd00:9:0::2',
    'src=[fd00:9:0::1]:5000-5003',
    'src=[fd00:9:0::1]-[fd00:9:0::2]:5000-5001,random',
    'dst=fd00:0:1::1-fd00:0:1::3',
    'dst=[fd00:0:1::1]:8000-8002',
  ];
  return r.pick(six ? v6 : v4);
}

/** A flow table with one zone that translates. */
export function randomNatTable(r: Random, six: boolean): string {
  const ip = six ? 'ipv6' : 'ip';
  const zone = `zone=${r.pick([0, 1, 7])}`;
  const nat = () => `nat(${randomRange(r, six)})`;
  const mark = () => r.pick(['', '', ',exec(set_field:7->ct_mark)', ',exec(set_field:1/1->ct_label)']);
  const send = () => r.pick(['1', '2', '1,2', 'normal', 'table=1', 'normal,2', 'in_port,2', 'table=2']);
  const ct = (args: string, then: string) =>
    then.startsWith('table=') ? `ct(${args},${zone},${then})` : `ct(${args},${zone}),${then}`;
  const last = [
    `table=1,priority=9,${ip},ct_state=+inv,actions=${r.pick(['drop', '3'])}`,
    `table=1,priority=8,${ip},ct_state=+new,in_port=2,actions=${r.pick(['drop', `ct(commit,${zone}${mark()}),1`, `ct(commit,${zone},${nat()}),1`, '1'])}`,
    `table=1,priority=8,${ip},ct_state=+new,in_port=1,actions=${r.pick([`ct(commit,${zone},${nat()}${mark()}),2`, `ct(commit,${zone},${nat()}),normal`, `ct(commit,${zone}),2`])}`,
    `table=1,priority=7,${ip},ct_state=+est,actions=${r.pick(['1,2', 'normal', `ct(commit,${zone}${mark()}),1`, `ct(nat,${zone},table=2)`])}`,
    `table=1,priority=1,actions=${r.pick(['1,2', '2', 'normal'])}`,
    'table=2,actions=1,2',
  ];
  const first = r.pick([
    () => [`${ip},actions=${ct('nat', 'table=1')}`],
    () => [
      `in_port=1,${ip},actions=${ct(`commit,${nat()}${mark()}`, send())}`,
      `in_port=2,${ip},actions=${ct('nat', 'table=1')}`,
      `${ip},priority=2,actions=${ct('commit', send())}`,
    ],
    () => [
      `in_port=1,${ip},actions=${ct(`commit,${nat()}`, send())}`,
      `in_port=2,${ip},actions=${ct(`commit,${nat()}`, send())}`,
      `in_port=3,${ip},actions=${ct(`commit,force${mark()}`, send())}`,
    ],
    () => [
      `in_port=1,tcp,priority=8,actions=${ct(`commit,${nat()}`, 'table=1')}`.replace(
        'tcp',
        six ? 'tcp6' : 'tcp',
      ),
      `in_port=1,${ip},actions=clone(${ct(`commit,${nat()}`, '2')}),${ct('nat', 'table=1')}`,
      `in_port=2,${ip},actions=${ct(r.pick(['nat', 'commit,force,nat']), 'table=1')}`,
      `in_port=3,${ip},actions=${ct(`commit,force,${nat()}`, send())}`,
    ],
  ])();
  return `${[...first, `table=0,priority=0,actions=${r.pick(['normal', 'drop', '1,2'])}`, ...last].join('\n')}\n`;
}

/** A load balancer: what is new goes to a bucket of a group, where it is committed and goes on to a table that sends it,
 *  or asks once more. */
export function randomBalancer(r: Random, six: boolean): { flows: string; groups: string } {
  const ip = six ? 'ipv6' : 'ip';
  const zone = `zone=${r.pick([0, 7])}`;
  const bucket = () => {
    const commit = `ct(commit,${zone},nat(${randomRange(r, six)})${r.pick(['', ',table=2', ',table=2', ',table=3'])})`;
    return `bucket=${r.pick([commit, `${commit},2`, `clone(${commit}),2`])}`;
  };
  const type = r.pick(['select,selection_method=dp_hash', 'select,selection_method=hash', 'select', 'all']);
  const flows = [
    `${ip},actions=ct(${r.pick(['nat,', ''])}${zone},table=1)`,
    `table=0,priority=0,actions=drop`,
    `table=1,priority=9,${ip},ct_state=+new,actions=${r.pick(['group:1', 'group:1,2', 'clone(group:1),2'])}`,
    `table=1,priority=8,actions=${r.pick(['1,2', 'normal', '2'])}`,
    `table=2,actions=${r.pick(['1,2', 'mod_nw_ttl:9,2', 'resubmit(,4)'])}`,
    `table=3,${ip},actions=${r.pick(['normal', `ct(${zone},table=2)`, `ct(commit,${zone}),2`])}`,
    'table=4,actions=2',
  ];
  return {
    flows: `${flows.join('\n')}\n`,
    groups: `group_id=1,type=${type},${Array.from({ length: 1 + r.int(4) }, bucket).join(',')}\n`,
  };
}

/** Traffic for a table: drawn requests, answered as the switch with this table passes them on. */
export async function natTraffic(r: Random, o: NatTrafficOptions, options: RunOptions): Promise<Packet[]> {
  let ms = 0;
  const clock = () => {
    ms += r.once(60) ? 20_000 + r.int(60_000) : r.once(3) ? r.int(40) : 0;
    return { sec: 1_700_000_000 + Math.floor(ms / 1000), nsec: (ms % 1000) * 1e6 };
  };
  const asked: Packet[] = [];
  while (asked.length < o.packets) {
    const ends = drawEnds(r, o.six);
    const port = r.once(12) ? 3 : ends.src.includes(o.six ? ':0:0::' : '.0.0.') ? 1 : 2;
    for (const l3 of drawPackets(r, o, ends)) {
      asked.push({ ...clock(), port, frame: ethernet({ src: port, dst: r.once(9) ? 9 : 3 - port }, l3) });
    }
  }
  const passed = new Map<number, Bytes>();
  for (const line of (await run(asked, options)).frames) {
    const [number, port, frame] = line.split(' ');
    if (port === '2' || !passed.has(Number(number))) passed.set(Number(number), unhex(frame));
  }
  const due: { at: number; packet: (time: { sec: number; nsec: number }) => Packet }[] = [];
  const out: Packet[] = [];
  for (const [i, p] of asked.entries()) {
    out.push(p);
    const frame = passed.get(i + 1);
    if (frame !== undefined && !r.once(5)) {
      const reply = answer(r, o.six, frame);
      if (reply !== null) {
        const port = p.port === 2 ? 1 : 2;
        const packet = (time: { sec: number; nsec: number }) => ({
          ...time,
          port,
          frame: ethernet({}, reply),
        });
        due.push({ at: i + r.int(o.delay + 1), packet });
      }
    }
    for (let d = due.length - 1; d >= 0; d--) {
      if (due[d].at > i) continue;
      out.push(due.splice(d, 1)[0].packet({ sec: p.sec, nsec: p.nsec }));
    }
  }
  return out;
}

function drawEnds(r: Random, six: boolean): Ends {
  const client = hosts(six, '0.0', 1 + r.int(4));
  const server = hosts(six, '0.1', 1 + r.int(3));
  const outside = hosts(six, '9.0', 1 + r.int(2));
  const [sport, dport] = [r.pick(PORTS), r.pick([80, 80, 81, 8000, 8001])];
  switch (r.int(10)) {
    case 0: // from the other side
      return { src: server, dst: outside, sport: dport, dport: r.pick(PORTS) };
    case 1: // as if it had been translated already
      return { src: outside, dst: server, sport: r.pick(PORTS), dport };
    case 2:
      return { src: server, dst: client, sport: dport, dport: sport };
    default:
      return { src: client, dst: server, sport, dport };
  }
}

function drawPackets(r: Random, o: NatTrafficOptions, ends: Ends): Layer3[] {
  const { src, dst, sport, dport } = ends;
  const layer = (l4: Layer4, id = 0) => (o.six ? ipv6({ src, dst }, l4) : ipv4({ src, dst, id }, l4));
  switch (r.int(o.whole ? 9 : 10)) {
    case 0: {
      const rest = (sport << 16) | 1;
      return [layer(o.six ? icmp6({ rest }) : icmp({ rest }))];
    }
    case 1:
    case 2:
    case 3:
      return [layer(udp({ sport, dport, unsummed: !o.six && r.once(4) }))];
    case 4:
      return [layer(sctp({ sport, dport }))];
    case 9: {
      const whole = layer(udp({ sport, dport, data: data(1500 + r.int(900)) }), 1 + r.int(3));
      const parts = o.six ? fragmentIpv6(whole, 1300, 1 + r.int(3)) : fragmentIpv4(whole, 1300);
      if (r.once(2)) parts.reverse();
      return r.once(5) ? parts.slice(1) : parts;
    }
    default: {
      const flags = r.pick([SYN, SYN, SYN, SYN, ACK, ACK, FIN | ACK, RST, SYN | ACK]);
      const seq = flags === SYN ? 100 * r.int(3) : 1 + r.int(300);
      return [layer(tcp({ sport, dport, flags, seq, ack: flags & ACK ? 1 : 0, data: data(r.int(2) * 9) }))];
    }
  }
}

/** What the receiver of a frame sends, or null. */
export function answer(r: Random, six: boolean, frame: Bytes): Layer3 | null {
  const v = view(frame);
  const l4 = six ? 54 : 34;
  if (frame.length < l4 + 8 || v.getUint16(12) !== (six ? 0x86dd : 0x0800)) return null;
  if (!six && (v.getUint16(20) & 0x3fff) !== 0) return null;
  const text = (at: number) =>
    six
      ? Array.from({ length: 8 }, (_, i) => v.getUint16(at + 2 * i).toString(16)).join(':')
      : [...frame.subarray(at, at + 4)].join('.');
  const [src, dst] = six ? [text(38), text(22)] : [text(30), text(26)];
  const proto = frame[six ? 20 : 23];
  const layer = (l: Layer4) => (six ? ipv6({ src, dst }, l) : ipv4({ src, dst }, l));
  if (r.once(8)) {
    const inner = frame.subarray(14, r.once(3) ? l4 + 8 : undefined);
    return layer(
      six
        ? icmp6({ type: r.pick([1, 3]), rest: 0, data: inner })
        : icmp({ type: r.pick([3, 11]), code: 1, rest: 0, data: inner }),
    );
  }
  const [sport, dport] = [v.getUint16(l4 + 2), v.getUint16(l4)];
  switch (proto) {
    case 1:
      return layer(icmp({ type: 0, rest: v.getUint32(l4 + 4) }));
    case 58:
      return layer(icmp6({ type: 129, rest: v.getUint32(l4 + 4) }));
    case 17:
      return layer(udp({ sport, dport }));
    case 132:
      return layer(sctp({ sport, dport }));
    case 6: {
      const flags = frame[l4 + 13];
      const mine = flags & SYN ? SYN | ACK : r.pick([ACK, ACK, FIN | ACK, RST | ACK]);
      return layer(tcp({ sport, dport, flags: mine, seq: 9 + r.int(3), ack: v.getUint32(l4 + 4) + 1 }));
    }
    default:
      return null;
  }
}
