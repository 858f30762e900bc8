/** The flow table that Neutron's Open vSwitch firewall driver makes for a compute node, of any size, and
 *  traffic for it. After the driver's documentation (docs.openstack.org, Neutron, contributor/internals,
 *  "Open vSwitch Firewall Driver"): tables 60, 71, 72, 73, 81, 82 and 91 to 94, reg5 the port, reg6 the
 *  network and conntrack zone, ct_mark 1 for connections that are no longer allowed, conjunctions for
 *  remote groups. Port 1 leads to other nodes, with the network as VLAN tag; the others are VMs. */
import {
  ACK,
  arp,
  type Bytes,
  cat,
  type EthOptions,
  echo,
  ends,
  icmp,
  icmpError,
  ipBytes,
  macBytes,
  PSH,
  random,
  SYN,
  tcp,
  u32,
  udp,
} from '../packets.js';
import type { Scenario, Script } from './script.js';
import { Talk, type Way } from './ways.js';

export interface NeutronSize {
  readonly vms: number;
  /** TCP ports that every VM's security group lets in. */
  readonly services: number;
  /** Members of the remote group of each network. */
  readonly members: number;
  /** Connections in the traffic. */
  readonly connections: number;
}

const NETWORKS = [100, 200];
const ZONE = 'zone=NXM_NX_REG6[0..15]';

interface Vm {
  readonly n: number;
  readonly port: number;
  readonly net: number;
  readonly mac: string;
  readonly ip: string;
  readonly ip6: string;
}

const macOf = (n: number): string => `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`;

function vmsOf(size: NeutronSize): Vm[] {
  return Array.from({ length: size.vms }, (_, k) => {
    const net = NETWORKS[k % 2];
    return {
      n: k + 2,
      port: k + 2,
      net,
      mac: macOf(k + 2),
      ip: `10.${net}.0.${k + 2}`,
      ip6: `fd00:${net}::${(k + 2).toString(16)}`,
    };
  });
}

/** Members of the remote group, spread so that prefixes of all lengths tell them from others. */
const memberOf = (net: number, k: number): string =>
  `10.${net}.${1 + ((k * 7) % 200)}.${1 + ((k * 31) % 250)}`;
const serviceOf = (k: number): string =>
  k % 10 === 9 ? `0x${(0x8000 + k * 16).toString(16)}/0xfff0` : `${80 + k * 11}`;
const portOfService = (k: number): number => (k % 10 === 9 ? 0x8000 + k * 16 + 5 : 80 + k * 11);

export function neutronFlows(size: NeutronSize): string {
  const lines: string[] = [];
  const rule = (table: number, priority: number, match: string, actions: string) =>
    lines.push(`table=${table},priority=${priority},${match === '' ? '' : `${match},`}actions=${actions}`);
  const say = (text: string) => lines.push(`# ${text}`);
  const vms = vmsOf(size);

  say('what a VM may say of itself in ARP and neighbour discovery');
  for (const v of vms) {
    rule(0, 10, `icmp6,in_port=${v.port},icmp_type=136`, 'resubmit(,24)');
    rule(0, 10, `arp,in_port=${v.port}`, 'resubmit(,24)');
    rule(0, 9, `in_port=${v.port}`, 'resubmit(,25)');
    rule(24, 2, `icmp6,in_port=${v.port},icmp_type=136,nd_target=${v.ip6}`, 'resubmit(,60)');
    rule(24, 2, `arp,in_port=${v.port},arp_spa=${v.ip}`, 'resubmit(,25)');
    rule(25, 2, `in_port=${v.port},dl_src=${v.mac}`, 'resubmit(,60)');
  }
  rule(0, 0, '', 'resubmit(,60)');
  rule(24, 0, '', 'drop');
  rule(25, 0, '', 'drop');

  say('where a packet belongs: 71 comes from a VM, 81 goes to one');
  for (const v of vms) {
    rule(
      60,
      100,
      `in_port=${v.port}`,
      `load:${v.n}->NXM_NX_REG5[],load:${v.net}->NXM_NX_REG6[],resubmit(,71)`,
    );
    rule(
      60,
      90,
      `dl_vlan=${v.net},dl_dst=${v.mac}`,
      `load:${v.n}->NXM_NX_REG5[],load:${v.net}->NXM_NX_REG6[],strip_vlan,resubmit(,81)`,
    );
  }
  rule(60, 3, '', 'NORMAL');

  say('base rules of packets from VMs');
  for (const v of vms) {
    const own = `reg5=${v.n},in_port=${v.port}`;
    for (const type of [130, 133, 135, 143])
      rule(71, 95, `icmp6,${own},dl_src=${v.mac},ipv6_src=${v.ip6},icmp_type=${type}`, 'resubmit(,94)');
    rule(71, 95, `icmp6,${own},icmp_type=136,nd_target=${v.ip6}`, 'resubmit(,94)');
    rule(71, 95, `arp,${own},dl_src=${v.mac},arp_spa=${v.ip}`, 'resubmit(,94)');
    rule(71, 80, `udp,${own},tp_src=68,tp_dst=67`, 'resubmit(,73)');
    rule(71, 80, `udp6,${own},tp_src=546,tp_dst=547`, 'resubmit(,73)');
    rule(71, 70, `udp,${own},tp_src=67,tp_dst=68`, 'resubmit(,93)');
    rule(71, 70, `udp6,${own},tp_src=547,tp_dst=546`, 'resubmit(,93)');
    rule(71, 70, `icmp6,${own},icmp_type=134`, 'resubmit(,93)');
    rule(71, 65, `ip,${own},dl_src=${v.mac},nw_src=${v.ip}`, `ct(table=72,${ZONE})`);
    rule(71, 65, `ipv6,${own},dl_src=${v.mac},ipv6_src=${v.ip6}`, `ct(table=72,${ZONE})`);
    rule(71, 10, own, 'resubmit(,93)');
  }
  rule(71, 0, '', 'drop');

  say('security group rules of packets from VMs, and of connections that they no longer allow');
  for (const v of vms) {
    for (const state of ['+est-rel-rpl', '+new-est']) {
      rule(72, 74, `ct_state=${state},ipv6,reg5=${v.n}`, 'resubmit(,73)');
      // Every third VM may only talk to some ports.
      if (v.n % 3 !== 0) rule(72, 74, `ct_state=${state},ip,reg5=${v.n}`, 'resubmit(,73)');
      else
        for (const p of [53, 80, 443])
          for (const l4 of ['tcp', 'udp'])
            rule(72, 77, `ct_state=${state},${l4},reg5=${v.n},tp_dst=${p}`, 'resubmit(,73)');
    }
    rule(72, 50, `ct_mark=0x1,reg5=${v.n}`, 'resubmit(,93)');
    rule(72, 50, `ct_state=+est-rel+rpl,ct_zone=${v.net},ct_mark=0,reg5=${v.n}`, 'resubmit(,94)');
    rule(72, 50, `ct_state=-new-est+rel-inv,ct_zone=${v.net},ct_mark=0,reg5=${v.n}`, 'resubmit(,94)');
    rule(72, 40, `ct_state=-est,reg5=${v.n}`, 'resubmit(,93)');
    for (const l3 of ['ip', 'ipv6'])
      rule(72, 40, `ct_state=+est,${l3},reg5=${v.n}`, `ct(commit,${ZONE},exec(load:0x1->NXM_NX_CT_MARK[]))`);
  }
  rule(72, 51, 'ct_state=+inv+trk', 'resubmit(,93)');
  rule(72, 0, '', 'drop');

  say('allowed out: to a VM here, or away');
  for (const v of vms) {
    rule(73, 100, `reg6=${v.net},dl_dst=${v.mac}`, `load:${v.n}->NXM_NX_REG5[],resubmit(,81)`);
    for (const l3 of ['ip', 'ipv6'])
      rule(73, 90, `ct_state=+new-est,${l3},reg5=${v.n}`, `ct(commit,${ZONE}),resubmit(,91)`);
    rule(73, 80, `reg5=${v.n}`, 'resubmit(,94)');
  }
  rule(73, 0, '', 'drop');

  say('base rules of packets to VMs');
  for (const v of vms) {
    rule(81, 100, `arp,reg5=${v.n}`, `output:${v.port}`);
    for (const type of [130, 135, 136])
      rule(81, 100, `icmp6,reg5=${v.n},icmp_type=${type}`, `output:${v.port}`);
    rule(81, 95, `udp,reg5=${v.n},tp_src=67,tp_dst=68`, `output:${v.port}`);
    rule(81, 95, `udp6,reg5=${v.n},tp_src=547,tp_dst=546`, `output:${v.port}`);
    for (const l3 of ['ip', 'ipv6']) rule(81, 90, `ct_state=-trk,${l3},reg5=${v.n}`, `ct(table=82,${ZONE})`);
    rule(81, 80, `ct_state=+trk,reg5=${v.n}`, 'resubmit(,82)');
  }
  rule(81, 0, '', 'drop');

  say('security group rules of packets to VMs');
  for (const v of vms) {
    const accept = (priority: number, match: string) => {
      rule(82, priority, `ct_state=+est-rel-rpl,${match}`, `output:${v.port}`);
      rule(82, priority, `ct_state=+new-est,${match}`, `ct(commit,${ZONE}),output:${v.port},resubmit(,92)`);
    };
    for (let k = 0; k < size.services; k++) accept(77, `tcp,reg5=${v.n},tp_dst=${serviceOf(k)}`);
    accept(76, `icmp,reg5=${v.n},icmp_type=8,icmp_code=0`);
    accept(75, `ipv6,reg5=${v.n},ipv6_src=fd00:${v.net}::/112`);
    const id = 16 + 2 * v.n;
    rule(82, 73, `ct_state=+est-rel-rpl,ip,reg5=${v.n}`, `conjunction(${id},2/2)`);
    rule(82, 73, `ct_state=+new-est,ip,reg5=${v.n}`, `conjunction(${id + 1},2/2)`);
    rule(82, 73, `conj_id=${id},ct_state=+est-rel-rpl,ip,reg5=${v.n}`, `output:${v.port}`);
    rule(
      82,
      73,
      `conj_id=${id + 1},ct_state=+new-est,ip,reg5=${v.n}`,
      `ct(commit,${ZONE}),output:${v.port},resubmit(,92)`,
    );
    rule(82, 50, `ct_mark=0x1,reg5=${v.n}`, 'resubmit(,93)');
    rule(82, 50, `ct_state=+est-rel+rpl,ct_zone=${v.net},ct_mark=0,reg5=${v.n}`, `output:${v.port}`);
    rule(82, 50, `ct_state=-new-est+rel-inv,ct_zone=${v.net},ct_mark=0,reg5=${v.n}`, `output:${v.port}`);
    rule(82, 40, `ct_state=-est,reg5=${v.n}`, 'resubmit(,93)');
    for (const l3 of ['ip', 'ipv6'])
      rule(82, 40, `ct_state=+est,${l3},reg5=${v.n}`, `ct(commit,${ZONE},exec(load:0x1->NXM_NX_CT_MARK[]))`);
  }
  say('members of the remote groups: one clause for all VMs of the network');
  for (const net of NETWORKS) {
    const ids = vms.filter((v) => v.net === net).map((v) => 16 + 2 * v.n);
    const seen = new Set<string>();
    for (let k = 0; k < size.members; k++) {
      const ip = memberOf(net, k);
      if (seen.has(ip)) continue;
      seen.add(ip);
      rule(
        82,
        73,
        `ct_state=+est-rel-rpl,ip,reg6=${net},nw_src=${ip}`,
        ids.map((id) => `conjunction(${id},1/2)`).join(','),
      );
      rule(
        82,
        73,
        `ct_state=+new-est,ip,reg6=${net},nw_src=${ip}`,
        ids.map((id) => `conjunction(${id + 1},1/2)`).join(','),
      );
    }
  }
  rule(82, 51, 'ct_state=+inv+trk', 'resubmit(,93)');
  rule(82, 0, '', 'drop');

  say('accepted and dropped, for logging; out');
  rule(91, 1, '', 'resubmit(,94)');
  rule(92, 0, '', 'drop');
  rule(93, 0, '', 'drop');
  for (const v of vms) {
    rule(94, 12, `reg6=${v.net},dl_dst=${v.mac}`, `output:${v.port}`);
    rule(
      94,
      10,
      `reg6=${v.net},dl_src=${v.mac},dl_dst=00:00:00:00:00:00/01:00:00:00:00:00`,
      `push_vlan:0x8100,set_field:${v.net | 0x1000}->vlan_vid,output:1`,
    );
  }
  rule(94, 1, '', 'NORMAL');
  return `${lines.join('\n')}\n`;
}

/** The message of a neighbour solicitation (135) or advertisement (136) with its link-layer option. */
function neighbour(
  type: number,
  src: string,
  dst: string,
  target: string,
  mac: string,
  o: EthOptions,
): Bytes {
  const data = cat(ipBytes(target), [type === 135 ? 1 : 2, 1], macBytes(mac));
  return icmp(src, dst, type, u32(type === 136 ? 0x60000000 : 0), { ...o, data, ttl: 255 });
}

function play(s: Script, size: NeutronSize): void {
  const vms = vmsOf(size);
  const r = random(size.vms);
  const gateway = 250;
  const uplink = (net: number, v: Vm, smac = gateway): EthOptions & { port: number } => ({
    port: 1,
    smac,
    dmac: v.mac,
    vlan: [net],
  });
  const local = (v: Vm, dmac: string | number = gateway) => ({ port: v.port, smac: v.mac, dmac });
  const out = (v: Vm, ip: string, ap: number, bp: number): [Way, Way] => [
    { ...local(v), ends: ends(v.ip, ap, ip, bp) },
    { ...uplink(v.net, v), ends: ends(ip, bp, v.ip, ap) },
  ];
  const into = (v: Vm, ip: string, ap: number, bp: number): [Way, Way] => {
    const [down, up] = out(v, ip, bp, ap);
    return [up, down];
  };
  const service = () => portOfService(r(size.services));

  for (const v of vms.slice(0, 4)) {
    s.pkt(v.port, arp(1, v.n, v.ip, 0, `10.${v.net}.0.1`), 'ARP request')
      .pkt(1, arp(2, gateway, `10.${v.net}.0.1`, v.n, v.ip, { vlan: [v.net] }), 'its answer')
      .pkt(v.port, arp(1, v.n, '10.1.1.1', 0, `10.${v.net}.0.1`), 'ARP of another address')
      .pkt(v.port, arp(1, 99, v.ip, 0, `10.${v.net}.0.1`), 'ARP from another MAC')
      .pkt(
        v.port,
        neighbour(135, v.ip6, 'ff02::1:ff00:1', `fd00:${v.net}::1`, v.mac, {
          smac: v.mac,
          dmac: '33:33:ff:00:00:01',
        }),
        'solicitation',
      )
      .pkt(v.port, neighbour(136, v.ip6, `fd00:${v.net}::1`, v.ip6, v.mac, local(v)), 'advertisement')
      .pkt(
        v.port,
        neighbour(136, v.ip6, `fd00:${v.net}::1`, 'fd00::bad', v.mac, local(v)),
        'advertisement of another address',
      )
      .pkt(
        v.port,
        icmp(v.ip6, 'ff02::1', 134, u32(0), { smac: v.mac, dmac: '33:33:00:00:00:01' }),
        'router advertisement from a VM',
      )
      .pkt(
        v.port,
        udp(ends('0.0.0.0', 68, '255.255.255.255', 67), { smac: v.mac, dmac: 'ff:ff:ff:ff:ff:ff' }),
        'DHCP request',
      )
      .pkt(
        v.port,
        udp(ends(v.ip, 67, '255.255.255.255', 68), { smac: v.mac, dmac: 'ff:ff:ff:ff:ff:ff' }),
        'DHCP answer from a VM',
      );
  }
  for (let k = 0; k < size.connections; k++) {
    const v = vms[r(vms.length)];
    const peer = vms.filter((o) => o.net === v.net && o !== v)[
      r(vms.filter((o) => o.net === v.net).length - 1)
    ];
    const member = memberOf(v.net, r(size.members));
    const stranger = `192.0.2.${1 + r(250)}`;
    const ap = 20000 + k;
    switch (k % 10) {
      case 0:
        new Talk(s, ...out(v, stranger, ap, 80)).open('to the outside').exchange().close();
        break;
      case 1:
        new Talk(s, ...into(v, stranger, ap, service())).open('to a service').exchange();
        break;
      case 2:
        new Talk(s, ...into(v, member, ap, 7777)).open('from a member').exchange().reset();
        break;
      case 3:
        new Talk(s, ...into(v, stranger, ap, 7777))
          .up(SYN, 'from a stranger to no service')
          .up(SYN, 'again')
          .up(ACK, 'ACK of nothing');
        break;
      case 4:
        s.pkt(v.port, udp(ends(v.ip, ap, stranger, 53), local(v)), 'DNS')
          .pkt(1, udp(ends(stranger, 53, v.ip, ap), uplink(v.net, v)), 'its answer')
          .pkt(1, udp(ends(stranger, 53, v.ip, ap + 1), uplink(v.net, v)), 'an answer to nothing')
          .pkt(
            1,
            icmpError('192.0.2.254', v.ip, udp(ends(v.ip, ap, stranger, 53)), uplink(v.net, v)),
            'an error about it',
          );
        break;
      case 5:
        s.pkt(1, echo(stranger, v.ip, k, false, uplink(v.net, v)), 'ping')
          .pkt(v.port, echo(v.ip, stranger, k, true, local(v)), 'pong')
          .pkt(1, echo(stranger, v.ip, k + 1, true, uplink(v.net, v)), 'a pong to nothing');
        break;
      case 6:
        new Talk(
          s,
          { ...local(v, peer.mac), ends: ends(v.ip, ap, peer.ip, service()) },
          { ...local(peer, v.mac), ends: ends(peer.ip, 80, v.ip, ap) },
        ).up(SYN, 'to a VM here: SYN');
        break;
      case 7: {
        const bp = portOfService(0);
        new Talk(
          s,
          { ...local(v, peer.mac), ends: ends(v.ip, ap, peer.ip, bp) },
          { ...local(peer, v.mac), ends: ends(peer.ip, bp, v.ip, ap) },
        )
          .open('between VMs')
          .exchange();
        break;
      }
      case 8:
        new Talk(
          s,
          { ...local(v), ends: ends(v.ip6, ap, `fd00:${v.net}::77`, 443) },
          { ...uplink(v.net, v), ends: ends(`fd00:${v.net}::77`, 443, v.ip6, ap) },
        )
          .open('IPv6 to the outside')
          .exchange();
        break;
      default:
        s.pkt(
          v.port,
          tcp(ends('10.1.2.3', ap, stranger, 80), SYN, 1, 0, local(v)),
          'from an address that is not its own',
        )
          .pkt(
            1,
            tcp(ends(stranger, 80, v.ip, ap), ACK | PSH, 1, 1, { ...uplink(v.net, v), data: 4 }),
            'the middle of a connection',
          )
          .pkt(
            1,
            tcp(ends(stranger, 80, v.ip, service()), SYN, 1, 0, { ...uplink(v.net, v), badL4: true }),
            'a wrong checksum',
          );
    }
  }
  s.table();
}

export function neutron(name: string, size: NeutronSize): Scenario {
  const flows = neutronFlows(size);
  return {
    name,
    about: `Neutron's Open vSwitch firewall driver: ${size.vms} VMs in two networks`,
    flows,
    ports: size.vms + 1,
    play: (s) => play(s, size),
  };
}

export const NEUTRON_SMALL: NeutronSize = { vms: 4, services: 3, members: 4, connections: 20 };
export const NEUTRON_1K: NeutronSize = { vms: 8, services: 18, members: 100, connections: 60 };
export const NEUTRON_10K: NeutronSize = { vms: 24, services: 120, members: 760, connections: 60 };
