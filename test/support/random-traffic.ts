/** Draws traffic: conversations of a few hosts, both ways, with everything that goes wrong on a network. */
import {
  ACK,
  arp,
  type Bytes,
  cat,
  data,
  type EthernetOptions,
  ethernet,
  FIN,
  fragment6,
  fragmentIpv4,
  fragmentIpv6,
  gre,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  type Layer3,
  type Layer4,
  type Packet,
  PSH,
  payload,
  type Random,
  RST,
  SYN,
  sctp,
  type Tag,
  tcp,
  udp,
  windowScale,
} from './packets.js';

export interface TrafficOptions {
  packets: number;
  /** Conversations to draw from. */
  flows?: number;
  /** Leave out what is damaged. */
  clean?: boolean;
  /** TCP and UDP over IPv4 that keeps to the rules, and now and then something else. */
  plain?: boolean;
  /** No jumps in time. */
  calm?: boolean;
}

/** A conversation. */
interface Flow {
  six: boolean;
  proto: 'tcp' | 'udp' | 'icmp' | 'sctp' | 'gre';
  a: number;
  b: number;
  aPort: number;
  bPort: number;
  /** Switch ports of the two ends. */
  portA: number;
  portB: number;
  tags: Tag[];
  seq: [number, number];
  /** Segments so far of a TCP connection that keeps to the rules, -1 of one that does not. */
  step: number;
  opened: boolean;
}

const host = (six: boolean, n: number) => (six ? `fd00::${n.toString(16)}` : `10.0.0.${n}`);

export function randomTraffic(r: Random, o: TrafficOptions): Packet[] {
  const flows = Array.from({ length: o.flows ?? 4 + r.int(12) }, () => randomFlow(r, o.plain ?? false));
  const out: Packet[] = [];
  const recent: { l3: Layer3; flow: Flow; reply: boolean }[] = [];
  let ns = (1_700_000_000n + BigInt(r.int(1000))) * 1_000_000_000n + BigInt(r.int(1_000_000_000));
  const add = (port: number, frame: Bytes) => {
    out.push({ sec: Number(ns / 1_000_000_000n), nsec: Number(ns % 1_000_000_000n), port, frame });
  };
  const pending: { port: number; frame: Bytes }[] = [];
  while (out.length < o.packets) {
    ns += o.calm ? BigInt(r.int(20_000_000)) : randomStep(r);
    if (pending.length > 0 && r.once(2)) {
      const part = pending[r.once(3) ? r.int(pending.length) : 0];
      // Some come twice, some never.
      if (!r.once(12)) add(part.port, part.frame);
      if (!r.once(12)) pending.splice(pending.indexOf(part), 1);
      continue;
    }
    const flow = r.pick(flows);
    const reply = flow.step === 1 ? true : flow.opened && r.once(2);
    if (!reply) flow.opened = true;
    const calm = o.plain === true && !r.once(20);
    const port = !calm && r.once(15) ? 1 + r.int(4) : reply ? flow.portB : flow.portA;
    const eth: EthernetOptions = {
      src: reply ? flow.b : flow.a,
      dst: !calm && r.once(20) ? 'ff:ff:ff:ff:ff:ff' : reply ? flow.a : flow.b,
      tags: !calm && r.once(15) ? [1] : flow.tags,
      pad: r.once(10) ? r.int(20) : 0,
      snap: !calm && r.once(40),
    };
    const kind = calm ? 0 : r.int(o.clean ? 16 : 20);
    if (kind < 13) {
      const l3 = network(r, flow, reply, segment(r, flow, reply));
      add(port, ethernet(eth, l3));
      recent.push({ l3, flow, reply });
      if (recent.length > 8) recent.shift();
      // A retransmission, or the same packet on another port.
      if (r.once(12)) add(r.once(3) ? 1 + r.int(4) : port, ethernet(eth, l3));
    } else if (kind === 13) {
      add(
        port,
        ethernet(
          { ...eth, dst: 'ff:ff:ff:ff:ff:ff' },
          arp({ op: 1 + r.int(2), sha: flow.a, spa: host(false, flow.a), tpa: host(false, flow.b) }),
        ),
      );
    } else if (kind === 14 && recent.length > 0) {
      add(port, ethernet(eth, icmpError(r, r.pick(recent))));
    } else if (kind === 15) {
      const parts = fragments(r, flow, reply).map((part) => ({ port, frame: ethernet(eth, part) }));
      if (r.once(3)) for (const part of parts) add(part.port, part.frame);
      else pending.push(...parts);
    } else if (kind === 16) {
      add(port, r.bytes(r.int(80)));
    } else if (kind >= 17) {
      const frame = ethernet(eth, network(r, flow, reply, segment(r, flow, reply)));
      if (r.once(2)) add(port, frame.slice(0, r.int(frame.length + 1)));
      else {
        for (let n = 1 + r.int(3); n > 0; n--) frame[12 + r.int(frame.length - 12)] = r.int(256);
        add(port, frame);
      }
    }
  }
  return out.slice(0, o.packets);
}

function randomStep(r: Random): bigint {
  switch (r.int(40)) {
    case 0:
      return -BigInt(r.int(2000)) * 1_000_000n;
    case 1:
      return BigInt(r.int(40)) * 1_000_000_000n;
    case 2:
      return BigInt(r.int(3)) * 30_000_000_000n;
    case 3:
    case 4:
      return 0n;
    case 5:
      return r.once(6) ? BigInt(r.int(86_500)) * 1_000_000_000n : 0n;
    default:
      return BigInt(r.int(20_000_000));
  }
}

function randomFlow(r: Random, plain: boolean): Flow {
  const proto = plain
    ? r.pick(['tcp', 'udp'] as const)
    : r.pick(['tcp', 'tcp', 'tcp', 'udp', 'udp', 'icmp', 'sctp', 'gre'] as const);
  const inside = r.once(3) ? 3 : 1;
  return {
    six: !plain && r.once(4),
    proto,
    a: 1 + r.int(6),
    b: 1 + r.int(6),
    aPort: 40000 + r.int(4),
    bPort: r.pick([80, 53, 21, 69, 443, 40000]),
    portA: inside,
    portB: inside + 1,
    tags: r.once(4) ? [r.int(3)] : r.once(12) ? [{ tpid: 0x88a8, vid: 2 }, 1] : [],
    seq: [r.once(8) ? 0xffffff00 + r.int(256) : r.word(), r.word()],
    step: !plain && r.once(3) ? -1 : 0,
    opened: false,
  };
}

function segment(r: Random, f: Flow, reply: boolean): Layer4 {
  const [sport, dport] = reply ? [f.bPort, f.aPort] : [f.aPort, f.bPort];
  const spoil = r.once(40) ? 0x5555 : 0;
  switch (f.proto) {
    case 'tcp': {
      const me = Number(reply);
      if (f.step >= 0) return orderly(r, f, me, sport, dport);
      const bytes = r.once(2) ? data(r.int(40)) : new Uint8Array();
      const open = r.once(4);
      const flags = open
        ? reply
          ? SYN | ACK
          : SYN
        : r.pick([ACK, ACK, ACK, ACK | PSH, ACK | FIN, RST, RST | ACK, SYN | FIN, 0]);
      const l4 = tcp({
        sport,
        dport,
        seq: (f.seq[me] + (r.once(20) ? r.int(200_000) - 100_000 : 0)) >>> 0,
        ack: f.seq[1 - me],
        flags,
        window: r.pick([65535, 1000, 0, 29200]),
        options: open && r.once(2) ? windowScale(r.int(16)) : [],
        data: bytes,
        spoil,
      });
      if (!r.once(6)) f.seq[me] = (f.seq[me] + bytes.length + (flags & (SYN | FIN) ? 1 : 0)) >>> 0;
      return l4;
    }
    case 'udp':
      return udp({ sport, dport, data: data(r.int(30)), unsummed: r.once(10), spoil });
    case 'sctp':
      return sctp({ sport, dport, spoil });
    case 'gre':
      return gre();
    case 'icmp': {
      const rest = (((f.aPort << 16) | r.int(100)) >>> 0) % 2 ** 32;
      if (f.six) return icmp6({ type: reply ? 129 : 128, rest, spoil });
      return icmp({ type: r.once(8) ? r.pick([13, 14, 15, 16, 17]) : reply ? 0 : 8, rest, spoil });
    }
  }
}

/** A handshake, then data and acknowledgements both ways, and some day a FIN or RST. */
function orderly(r: Random, f: Flow, me: number, sport: number, dport: number): Layer4 {
  const n = f.step++;
  const seq = f.seq[me];
  const base = { sport, dport, seq, ack: f.seq[1 - me], window: r.pick([65535, 2000, 500]) };
  if (n < 2) {
    f.seq[me] = (seq + 1) >>> 0;
    const options = r.once(2) ? windowScale(r.int(15)) : [];
    return tcp({ ...base, ack: n === 0 ? 0 : base.ack, flags: n === 0 ? SYN : SYN | ACK, options });
  }
  if (n > 2 && r.once(25)) {
    f.step = r.once(2) ? -1 : 0;
    return tcp({ ...base, flags: r.pick([RST, ACK | FIN]) });
  }
  const bytes = data(r.once(2) ? r.int(100) : 0);
  f.seq[me] = (seq + bytes.length) >>> 0;
  return tcp({ ...base, flags: bytes.length > 0 ? ACK | PSH : ACK, data: bytes });
}

function network(r: Random, f: Flow, reply: boolean, l4: Layer4): Layer3 {
  const [src, dst] = [host(f.six, reply ? f.b : f.a), host(f.six, reply ? f.a : f.b)];
  if (!f.six) {
    return ipv4(
      {
        src,
        dst,
        ttl: r.once(10) ? r.int(3) : 64,
        options: r.once(12) ? [7, 3, 4, 0] : [],
        frag: r.once(2) ? 0x4000 : 0,
        spoil: r.once(50) ? 1 : 0,
      },
      l4,
    );
  }
  const extensions = r.once(10) ? [{ type: r.pick([0, 60]) }] : r.once(10) ? [fragment6(0, false)] : [];
  return ipv6({ src, dst, hops: r.once(10) ? r.int(3) : 64, extensions, label: r.once(5) ? 5 : 0 }, l4);
}

/** An ICMP error about a packet, from its receiver or from a router on the way. */
function icmpError(r: Random, about: { l3: Layer3; flow: Flow; reply: boolean }): Layer3 {
  const { flow: f, reply } = about;
  const src = host(f.six, r.once(3) ? 77 : reply ? f.a : f.b);
  const dst = host(f.six, reply ? f.b : f.a);
  const inner = about.l3.bytes.subarray(0, r.once(4) ? r.int(about.l3.bytes.length + 1) : undefined);
  if (f.six) return ipv6({ src, dst }, icmp6({ type: r.pick([1, 2, 3, 4]), rest: 0, data: inner }));
  return ipv4(
    { src, dst },
    icmp({ type: r.pick([3, 3, 11, 4, 5, 12]), code: r.int(4), rest: 0, data: inner }),
  );
}

/** More than fits into a frame. */
function bulk(r: Random, f: Flow, reply: boolean): Layer4 {
  const [sport, dport] = reply ? [f.bPort, f.aPort] : [f.aPort, f.bPort];
  const bytes = data(1300 + r.int(3500));
  const spoil = r.once(8) ? 0x5555 : 0;
  if (!f.six && r.once(8)) {
    // An error that quotes a lot.
    const [src, dst] = [host(false, reply ? f.a : f.b), host(false, reply ? f.b : f.a)];
    const about = ipv4({ src, dst }, udp({ sport: dport, dport: sport, data: bytes }));
    return icmp({ type: 3, code: 4, rest: 0, data: about.bytes, spoil });
  }
  switch (f.proto) {
    case 'tcp': {
      const me = Number(reply);
      const seq = f.seq[me];
      f.seq[me] = (seq + bytes.length) >>> 0;
      return tcp({ sport, dport, seq, ack: f.seq[1 - me], flags: ACK | PSH, data: bytes, spoil });
    }
    case 'icmp': {
      const rest = (f.aPort << 16) >>> 0;
      if (f.six) return icmp6({ type: reply ? 129 : 128, rest, data: bytes, spoil });
      return icmp({ type: reply ? 0 : 8, rest, data: bytes, spoil });
    }
    case 'gre':
      return gre(0x0800, bytes);
    default:
      return udp({ sport, dport, data: bytes, spoil });
  }
}

function fragments(r: Random, f: Flow, reply: boolean): Layer3[] {
  const [src, dst] = [host(f.six, reply ? f.b : f.a), host(f.six, reply ? f.a : f.b)];
  if (!r.once(3)) {
    // Such that ct() puts them together.
    const id = 1 + r.int(4);
    const l4 = bulk(r, f, reply);
    const mtu = 1288 + r.int(300);
    const parts = f.six
      ? fragmentIpv6(ipv6({ src, dst }, l4), mtu, id)
      : fragmentIpv4(ipv4({ src, dst, id, options: r.once(4) ? [1, 1, 1, 1] : [] }, l4), mtu);
    if (r.once(3)) parts.reverse();
    return parts;
  }
  const l4 = udp({ sport: f.aPort, dport: f.bPort, data: data(64) });
  if (!f.six) {
    const parts = fragmentIpv4(ipv4({ src, dst, id: r.int(4) }, l4), 20 + 8 * (1 + r.int(4)));
    if (r.once(2)) parts.reverse();
    return parts.slice(0, 4);
  }
  const whole = payload(17, cat(data(24)));
  return [
    ipv6({ src, dst, extensions: [fragment6(0, true)] }, whole),
    ipv6({ src, dst, extensions: [fragment6(24, false)] }, whole),
  ];
}
