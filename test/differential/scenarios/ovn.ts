/** The flow table that ovn-controller makes of logical switches with stateful ACLs and load balancers behind
 *  one logical router, of any size, and traffic for it. After ovn-architecture(7), ovn-northd(8) and
 *  ovn-logical-flows(7): table 0 physical to logical, 8 to 31 the ingress pipeline, 37 to 40 delivery, 42
 *  to 52 the egress pipeline, 64 and 65 logical to physical, 73 to 75 port security. metadata is the logical
 *  datapath, reg14 and reg15 the logical ports, reg11, reg12 and reg13 the zones of DNAT, SNAT and the port;
 *  ct_mark bit 0 is "blocked", bit 1 "natted". A packet between two switches goes through 70 tables. */
import {
  ACK,
  arp,
  type EthOptions,
  echo,
  ends,
  icmp,
  icmpError,
  PSH,
  random,
  SYN,
  tcp,
  u32,
  udp,
} from '../packets.js';
import type { Scenario, Script } from './script.js';
import { Talk, type Way } from './ways.js';

export interface OvnSize {
  readonly switches: number;
  /** Ports of each switch. */
  readonly ports: number;
  /** ACLs of each switch, in and out together. */
  readonly acls: number;
  /** Addresses in the address set of each switch. */
  readonly addresses: number;
  /** Virtual addresses of the load balancers of each switch. */
  readonly vips: number;
  readonly connections: number;
}

const ROUTER = 100;
/** Logical port of a switch that leads to the router. */
const TO_ROUTER = 0x7f;
const FLOOD = 0x8000;
const LAST_INGRESS = 30;
const ROUTER_MAC = '02:00:00:00:ff:01';

interface Vif {
  readonly port: number;
  /** Datapath and logical port. */
  readonly dp: number;
  readonly lport: number;
  readonly mac: string;
  readonly ip: string;
  readonly zone: number;
}

const macOf = (n: number): string => `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`;
const hexMac = (mac: string): string => `0x${mac.replaceAll(':', '')}`;
const hexIp = (ip: string): string =>
  `0x${ip
    .split('.')
    .map((b) => Number(b).toString(16).padStart(2, '0'))
    .join('')}`;

function vifsOf(size: OvnSize): Vif[] {
  return Array.from({ length: size.switches * size.ports }, (_, k) => {
    const dp = 1 + Math.floor(k / size.ports);
    const lport = 1 + (k % size.ports);
    return { port: k + 1, dp, lport, mac: macOf(k + 1), ip: `10.${dp}.0.${10 + lport}`, zone: 10 + k };
  });
}

const vipOf = (dp: number, k: number): string => `172.16.${dp}.${1 + k}`;
const friendOf = (dp: number, k: number): string => `10.${dp}.${100 + (k >> 7)}.${1 + ((k * 3) & 0x7f)}`;
const aclPort = (k: number): number => 1000 + 7 * k;

export function ovnFlows(size: OvnSize): string {
  const lines: string[] = [];
  const rule = (table: number, priority: number, match: string, actions: string) =>
    lines.push(`table=${table},priority=${priority},${match === '' ? '' : `${match},`}actions=${actions}`);
  const say = (text: string) => lines.push(`# ${text}`);
  const next = (table: number) => `resubmit(,${table + 1})`;
  const vifs = vifsOf(size);
  const switches = Array.from({ length: size.switches }, (_, k) => k + 1);

  say('physical to logical');
  for (const v of vifs) {
    rule(
      0,
      100,
      `in_port=${v.port}`,
      `load:${v.zone}->NXM_NX_REG13[],load:${500 + v.dp}->NXM_NX_REG11[],load:${600 + v.dp}->NXM_NX_REG12[],load:${v.dp}->OXM_OF_METADATA[],load:${v.lport}->NXM_NX_REG14[],resubmit(,8)`,
    );
  }

  for (const dp of switches) {
    const here = vifs.filter((v) => v.dp === dp);
    const on = `metadata=${dp}`;
    say(`switch ${dp}, ingress: port security, then what is to be tracked`);
    rule(8, 100, `${on},vlan_tci=0x1000/0x1000`, 'drop');
    rule(8, 100, `${on},dl_src=01:00:00:00:00:00/01:00:00:00:00:00`, 'drop');
    rule(8, 70, `${on},reg14=${TO_ROUTER}`, next(8));
    rule(
      8,
      50,
      on,
      'load:0->NXM_NX_REG10[12],resubmit(,73),move:NXM_NX_REG10[12]->NXM_NX_XXREG0[111],resubmit(,9)',
    );
    rule(9, 50, `reg0=0x8000/0x8000,${on}`, 'drop');
    rule(9, 0, on, next(9));
    for (const t of [10, 11]) rule(t, 0, on, next(t));
    rule(12, 110, `ip,reg14=${TO_ROUTER},${on}`, next(12));
    rule(12, 110, `${on},dl_dst=01:00:00:00:00:00/01:00:00:00:00:00`, next(12));
    rule(12, 100, `ip,${on}`, 'load:0x1->NXM_NX_XXREG0[96],resubmit(,13)');
    rule(12, 0, on, next(12));
    rule(13, 110, `ip,reg14=${TO_ROUTER},${on}`, next(13));
    if (size.vips > 0) rule(13, 100, `ip,${on}`, 'load:0x1->NXM_NX_XXREG0[98],resubmit(,14)');
    rule(13, 0, on, next(13));
    rule(14, 110, `ip,reg0=0x4/0x4,${on}`, 'ct(table=15,zone=NXM_NX_REG13[0..15],nat)');
    rule(14, 100, `ip,reg0=0x1/0x1,${on}`, 'ct(table=15,zone=NXM_NX_REG13[0..15])');
    rule(14, 0, on, next(14));
    hints(15, on);
    acls(16, dp, 'reg14', here);
    verdicts(17, on);
    for (const t of [18, 19]) rule(t, 0, on, next(t));
    say(`switch ${dp}: load balancers`);
    for (let k = 0; k < size.vips; k++) {
      const v = here[k % here.length];
      rule(
        20,
        120,
        `ct_state=+new+trk,tcp,${on},nw_dst=${vipOf(dp, k)},tp_dst=80`,
        `load:0x0->NXM_NX_XXREG0[97],ct(commit,table=21,zone=NXM_NX_REG13[0..15],nat(dst=${v.ip}:8080),exec(load:0x1->NXM_NX_CT_MARK[1]))`,
      );
    }
    rule(20, 0, on, next(20));
    rule(21, 0, on, next(21));
    rule(
      22,
      100,
      `ip,reg0=0x2/0x2,${on}`,
      'ct(commit,zone=NXM_NX_REG13[0..15],exec(load:0->NXM_NX_CT_MARK[0])),resubmit(,23)',
    );
    rule(22, 0, on, next(22));
    for (let t = 23; t <= 25; t++) rule(t, 0, on, next(t));
    say(`switch ${dp}: ARP replies, destinations`);
    const answer = (mac: string, ip: string, lport: number) => {
      if (lport !== TO_ROUTER) rule(26, 100, `arp,reg14=${lport},${on},arp_tpa=${ip},arp_op=1`, next(26));
      rule(
        26,
        50,
        `arp,${on},arp_tpa=${ip},arp_op=1`,
        `move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],mod_dl_src:${mac},load:0x2->NXM_OF_ARP_OP[],move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],load:${hexMac(mac)}->NXM_NX_ARP_SHA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],load:${hexIp(ip)}->NXM_OF_ARP_SPA[],move:NXM_NX_REG14[]->NXM_NX_REG15[],load:0x1->NXM_NX_REG10[0],resubmit(,37)`,
      );
    };
    for (const v of here) answer(v.mac, v.ip, v.lport);
    answer(ROUTER_MAC, `10.${dp}.0.1`, TO_ROUTER);
    rule(26, 0, on, next(26));
    for (let t = 27; t < LAST_INGRESS; t++) rule(t, 0, on, next(t));
    rule(
      LAST_INGRESS,
      70,
      `${on},dl_dst=01:00:00:00:00:00/01:00:00:00:00:00`,
      `load:${FLOOD}->NXM_NX_REG15[],resubmit(,37)`,
    );
    for (const v of here)
      rule(LAST_INGRESS, 50, `${on},dl_dst=${v.mac}`, `load:${v.lport}->NXM_NX_REG15[],resubmit(,37)`);
    rule(LAST_INGRESS, 50, `${on},dl_dst=${ROUTER_MAC}`, `load:${TO_ROUTER}->NXM_NX_REG15[],resubmit(,37)`);
    rule(LAST_INGRESS, 0, on, 'drop');

    say(`switch ${dp}: delivery`);
    for (const v of here)
      rule(
        39,
        100,
        `reg15=${v.lport},${on}`,
        `load:${v.zone}->NXM_NX_REG13[],load:${500 + dp}->NXM_NX_REG11[],load:${600 + dp}->NXM_NX_REG12[],resubmit(,40)`,
      );
    rule(39, 100, `reg15=${TO_ROUTER},${on}`, `load:${700 + dp}->NXM_NX_REG13[],resubmit(,40)`);
    rule(
      39,
      100,
      `reg15=${FLOOD},${on}`,
      here
        .map((v) => `load:${v.lport}->NXM_NX_REG15[],load:${v.zone}->NXM_NX_REG13[],resubmit(,40)`)
        .join(',') + `,load:${FLOOD}->NXM_NX_REG15[]`,
    );
    for (const lport of [...here.map((v) => v.lport), TO_ROUTER])
      rule(40, 100, `reg10=0/0x1,reg14=${lport},reg15=${lport},${on}`, 'drop');

    say(`switch ${dp}, egress`);
    rule(42, 110, `ip,reg15=${TO_ROUTER},${on}`, next(42));
    rule(42, 110, `${on},dl_dst=01:00:00:00:00:00/01:00:00:00:00:00`, next(42));
    rule(42, 100, `ip,${on}`, 'load:0x1->NXM_NX_XXREG0[96],resubmit(,43)');
    rule(42, 0, on, next(42));
    rule(43, 110, `ip,reg15=${TO_ROUTER},${on}`, next(43));
    if (size.vips > 0) rule(43, 100, `ip,${on}`, 'load:0x1->NXM_NX_XXREG0[98],resubmit(,44)');
    rule(43, 0, on, next(43));
    rule(44, 110, `ip,reg0=0x4/0x4,${on}`, 'ct(table=45,zone=NXM_NX_REG13[0..15],nat)');
    rule(44, 100, `ip,reg0=0x1/0x1,${on}`, 'ct(table=45,zone=NXM_NX_REG13[0..15])');
    rule(44, 0, on, next(44));
    hints(45, on);
    acls(46, dp, 'reg15', here);
    verdicts(47, on);
    for (const t of [48, 49]) rule(t, 0, on, next(t));
    rule(
      50,
      100,
      `ip,reg0=0x2/0x2,${on}`,
      'ct(commit,zone=NXM_NX_REG13[0..15],exec(load:0->NXM_NX_CT_MARK[0])),resubmit(,51)',
    );
    rule(50, 0, on, next(50));
    rule(51, 100, `${on},dl_dst=01:00:00:00:00:00/01:00:00:00:00:00`, next(51));
    rule(
      51,
      0,
      on,
      'load:0->NXM_NX_REG10[12],resubmit(,75),move:NXM_NX_REG10[12]->NXM_NX_XXREG0[111],resubmit(,52)',
    );
    rule(52, 50, `reg0=0x8000/0x8000,${on}`, 'drop');
    rule(52, 0, on, 'resubmit(,64)');

    say(`switch ${dp}: port security; logical to physical`);
    for (const v of here) {
      rule(73, 95, `arp,reg14=${v.lport},${on}`, 'resubmit(,74)');
      rule(73, 90, `ip,reg14=${v.lport},${on},dl_src=${v.mac},nw_src=${v.ip}`, 'load:0->NXM_NX_REG10[12]');
      rule(
        73,
        90,
        `udp,reg14=${v.lport},${on},dl_src=${v.mac},nw_src=0.0.0.0,nw_dst=255.255.255.255,tp_src=68,tp_dst=67`,
        'load:0->NXM_NX_REG10[12]',
      );
      rule(73, 80, `reg14=${v.lport},${on}`, 'load:0x1->NXM_NX_REG10[12]');
      rule(
        74,
        90,
        `arp,reg14=${v.lport},${on},dl_src=${v.mac},arp_spa=${v.ip},arp_sha=${v.mac}`,
        'load:0->NXM_NX_REG10[12]',
      );
      rule(74, 80, `arp,reg14=${v.lport},${on}`, 'load:0x1->NXM_NX_REG10[12]');
      rule(75, 95, `ip,reg15=${v.lport},${on},dl_dst=${v.mac},nw_dst=${v.ip}`, 'load:0->NXM_NX_REG10[12]');
      rule(75, 90, `ip,reg15=${v.lport},${on},dl_dst=${v.mac}`, 'load:0x1->NXM_NX_REG10[12]');
      rule(75, 85, `reg15=${v.lport},${on},dl_dst=${v.mac}`, 'load:0->NXM_NX_REG10[12]');
      rule(75, 80, `reg15=${v.lport},${on}`, 'load:0x1->NXM_NX_REG10[12]');
      rule(
        64,
        100,
        `reg10=0x1/0x1,reg15=${v.lport},${on}`,
        'push:NXM_OF_IN_PORT[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,65),pop:NXM_OF_IN_PORT[]',
      );
      rule(65, 100, `reg15=${v.lport},${on}`, `output:${v.port}`);
    }
    const clean = Array.from({ length: 10 }, (_, k) => `load:0->NXM_NX_REG${k}[]`).join(',');
    rule(
      65,
      100,
      `reg15=${TO_ROUTER},${on}`,
      `clone(ct_clear,load:0->NXM_NX_REG11[],load:0->NXM_NX_REG12[],load:0->NXM_NX_REG13[],load:${900}->NXM_NX_REG11[],load:${ROUTER}->OXM_OF_METADATA[],load:${dp}->NXM_NX_REG14[],load:0->NXM_NX_REG10[],load:0->NXM_NX_REG15[],${clean},load:0->NXM_OF_IN_PORT[],resubmit(,8))`,
    );
  }

  say('the router');
  const on = `metadata=${ROUTER}`;
  const last = 24;
  for (const dp of switches)
    rule(
      8,
      50,
      `reg14=${dp},${on},dl_dst=${ROUTER_MAC}`,
      `load:${hexMac(ROUTER_MAC)}->OXM_OF_PKT_REG0[0..47],resubmit(,9)`,
    );
  rule(8, 100, `${on},vlan_tci=0x1000/0x1000`, 'drop');
  for (const t of [9, 10]) rule(t, 0, on, next(t));
  for (const dp of switches) {
    rule(11, 100, `ip,reg14=${dp},${on},nw_src=10.${dp}.0.1`, 'drop');
    rule(
      11,
      90,
      `icmp,${on},nw_dst=10.${dp}.0.1,icmp_type=8,icmp_code=0`,
      'push:NXM_OF_IP_SRC[],push:NXM_OF_IP_DST[],pop:NXM_OF_IP_SRC[],pop:NXM_OF_IP_DST[],load:0xff->NXM_NX_IP_TTL[],load:0->NXM_OF_ICMP_TYPE[],load:0x1->NXM_NX_REG10[0],resubmit(,12)',
    );
    rule(11, 60, `ip,${on},nw_dst=10.${dp}.0.1`, 'drop');
  }
  for (const ttl of [0, 1]) rule(11, 50, `ip,${on},nw_ttl=${ttl}`, 'drop');
  rule(11, 0, on, next(11));
  for (let t = 12; t < 19; t++) rule(t, 0, on, next(t));
  for (const dp of switches) {
    rule(
      19,
      74,
      `ip,${on},nw_dst=10.${dp}.0.0/16`,
      `dec_ttl(),load:0->NXM_OF_IN_PORT[],move:NXM_OF_IP_DST[]->NXM_NX_XXREG0[96..127],load:${hexIp(`10.${dp}.0.1`)}->NXM_NX_XXREG0[64..95],mod_dl_src:${ROUTER_MAC},load:${dp}->NXM_NX_REG15[],load:0x1->NXM_NX_REG10[0],resubmit(,20)`,
    );
  }
  rule(19, 0, on, 'drop');
  for (let t = 20; t < 22; t++) rule(t, 0, on, next(t));
  for (const v of vifs)
    rule(22, 100, `reg15=${v.dp},${on},reg0=${hexIp(v.ip)}`, `mod_dl_dst:${v.mac},resubmit(,23)`);
  rule(22, 0, on, 'drop');
  rule(23, 0, on, next(23));
  rule(last, 0, on, 'resubmit(,37)');
  for (const dp of switches) {
    rule(39, 100, `reg15=${dp},${on}`, 'resubmit(,40)');
    rule(
      65,
      100,
      `reg15=${dp},${on}`,
      `clone(ct_clear,load:${700 + dp}->NXM_NX_REG13[],load:${500 + dp}->NXM_NX_REG11[],load:${600 + dp}->NXM_NX_REG12[],load:${dp}->OXM_OF_METADATA[],load:${TO_ROUTER}->NXM_NX_REG14[],load:0->NXM_NX_REG10[],load:0->NXM_NX_REG15[],${Array.from({ length: 10 }, (_, k) => `load:0->NXM_NX_REG${k}[]`).join(',')},load:0->NXM_OF_IN_PORT[],resubmit(,8))`,
    );
  }
  for (let t = 42; t < 48; t++) rule(t, 0, on, next(t));
  rule(48, 0, on, 'resubmit(,64)');

  say('delivery, for all');
  rule(37, 0, '', 'resubmit(,39)');
  rule(
    40,
    0,
    '',
    `${Array.from({ length: 10 }, (_, k) => `load:0->NXM_NX_REG${k}[]`).join(',')},resubmit(,42)`,
  );
  rule(64, 0, '', 'resubmit(,65)');
  return `${lines.join('\n')}\n`;

  /** What the state of the connection allows ACLs to do. */
  function hints(t: number, of: string): void {
    const bits = (...at: number[]) => at.map((b) => `load:0x1->NXM_NX_XXREG0[${b}],`).join('') + next(t);
    rule(t, 7, `ct_state=+new-est+trk,${of}`, bits(103, 105));
    rule(t, 6, `ct_state=-new+est-rpl+trk,ct_mark=0x1/0x1,${of}`, bits(103, 105));
    rule(t, 5, `ct_state=-trk,${of}`, bits(104, 105));
    rule(t, 4, `ct_state=-new+est-rpl+trk,ct_mark=0/0x1,${of}`, bits(104, 106));
    rule(t, 3, `ct_state=-est+trk,${of}`, bits(105));
    rule(t, 2, `ct_state=+est+trk,ct_mark=0x1/0x1,${of}`, bits(105));
    rule(t, 1, `ct_state=+est+trk,ct_mark=0/0x1,${of}`, bits(106));
    rule(t, 0, of, next(t));
  }

  /** allow-related and drop ACLs of a switch for packets from (reg14) or to (reg15) its ports. */
  function acls(t: number, dp: number, lport: 'reg14' | 'reg15', here: readonly Vif[]): void {
    const of = `metadata=${dp}`;
    say(`switch ${dp}: ACLs ${lport === 'reg14' ? 'from' : 'to'} ports`);
    const allow = 'load:0x1->NXM_NX_REG8[16],';
    rule(t, 65532, `ct_state=-new+est-rel+rpl-inv+trk,ct_mark=0/0x1,${of}`, allow + next(t));
    rule(t, 65532, `ct_state=-new-est+rel-inv+trk,ct_mark=0/0x1,${of}`, allow + next(t));
    rule(t, 65532, `ct_state=+inv+trk,${of}`, `load:0x1->NXM_NX_REG8[17],${next(t)}`);
    rule(t, 65532, `ct_state=+est+rpl+trk,ct_mark=0x1/0x1,${of}`, `load:0x1->NXM_NX_REG8[17],${next(t)}`);
    const related = (priority: number, match: string) => {
      rule(t, priority, `reg0=0x80/0x80,${match}`, `${allow}load:0x1->NXM_NX_XXREG0[97],${next(t)}`);
      rule(t, priority, `reg0=0x100/0x100,${match}`, allow + next(t));
    };
    const drop = (priority: number, match: string) => {
      rule(t, priority, `reg0=0x200/0x200,${match}`, `load:0x1->NXM_NX_REG8[17],${next(t)}`);
      rule(
        t,
        priority,
        `reg0=0x400/0x400,${match}`,
        `ct(commit,zone=NXM_NX_REG13[0..15],exec(load:0x1->NXM_NX_CT_MARK[0])),load:0x1->NXM_NX_REG8[17],${next(t)}`,
      );
    };
    const n = Math.floor(size.acls / 2);
    for (let k = 0; k < n; k++) {
      const v = here[k % here.length];
      const at = `${lport}=${v.lport},${of}`;
      if (k % 5 === 4) drop(2003, `tcp,${at},tp_dst=${aclPort(k) & ~3}/0xfffc`);
      else if (k % 5 === 3)
        related(2002, `udp,${at},${lport === 'reg14' ? 'nw_dst' : 'nw_src'}=10.${dp}.${k & 0xff}.0/24`);
      else related(2002, `tcp,${at},tp_dst=${aclPort(k)}`);
    }
    for (const p of [53, 80, 8080]) for (const l4 of ['tcp', 'udp']) related(2001, `${l4},${of},tp_dst=${p}`);
    related(2001, `icmp,${of},icmp_type=8`);
    say(`switch ${dp}: an address set and two ports, as a conjunction`);
    const id = 4 * dp + (lport === 'reg14' ? 0 : 2);
    for (const [k, hint] of ['0x80/0x80', '0x100/0x100'].entries()) {
      for (let a = 0; a < size.addresses; a++)
        rule(
          t,
          2000,
          `ip,reg0=${hint},${of},${lport === 'reg14' ? 'nw_dst' : 'nw_src'}=${friendOf(dp, a)}`,
          `conjunction(${id + k},1/2)`,
        );
      for (const p of [2222, 3333])
        rule(t, 2000, `tcp,reg0=${hint},${of},tp_dst=${p}`, `conjunction(${id + k},2/2)`);
      rule(
        t,
        2000,
        `conj_id=${id + k},ip,reg0=${hint},${of}`,
        (k === 0 ? `${allow}load:0x1->NXM_NX_XXREG0[97],` : allow) + next(t),
      );
    }
    if (lport === 'reg14') {
      // Everything may go out that no ACL forbids.
      rule(t, 1, `ip,ct_state=-est+trk,${of}`, `${allow}load:0x1->NXM_NX_XXREG0[97],${next(t)}`);
      rule(t, 0, of, allow + next(t));
    } else {
      drop(1999, `ip,${of}`);
      rule(t, 0, of, allow + next(t));
    }
  }

  function verdicts(t: number, of: string): void {
    const clear = 'load:0->NXM_NX_REG8[16],load:0->NXM_NX_REG8[17],';
    rule(t, 1000, `reg8=0x10000/0x10000,${of}`, clear + next(t));
    rule(t, 1000, `reg8=0x20000/0x20000,${of}`, 'drop');
    rule(t, 0, of, clear + next(t));
  }
}

function play(s: Script, size: OvnSize): void {
  const vifs = vifsOf(size);
  const r = random(size.ports);
  const to = (v: Vif, dmac: string): EthOptions & { port: number } => ({ port: v.port, smac: v.mac, dmac });
  const macTo = (v: Vif, w: Vif): string => (v.dp === w.dp ? w.mac : ROUTER_MAC);
  const between = (v: Vif, w: Vif, ap: number, bp: number): [Way, Way] => [
    { ...to(v, macTo(v, w)), ends: ends(v.ip, ap, w.ip, bp) },
    { ...to(w, macTo(w, v)), ends: ends(w.ip, bp, v.ip, ap) },
  ];
  for (const v of vifs.slice(0, 6)) {
    const other = vifs.find((w) => w.dp === v.dp && w !== v)!;
    s.pkt(v.port, arp(1, v.port, v.ip, 0, `10.${v.dp}.0.1`), 'ARP for the router')
      .pkt(v.port, arp(1, v.port, v.ip, 0, other.ip), 'ARP for a neighbour')
      .pkt(v.port, arp(1, v.port, v.ip, 0, `10.${v.dp}.9.9`), 'ARP for nobody: flooded')
      .pkt(v.port, arp(1, v.port, other.ip, 0, `10.${v.dp}.0.1`), 'ARP with the address of another')
      .pkt(v.port, echo(v.ip, `10.${v.dp}.0.1`, v.port, false, to(v, ROUTER_MAC)), 'ping of the router')
      .pkt(
        v.port,
        icmp(`fe80::${v.port}`, 'ff02::2', 133, u32(0), { smac: v.mac, dmac: '33:33:00:00:00:02', ttl: 255 }),
        'router solicitation',
      )
      .pkt(
        v.port,
        udp(ends('0.0.0.0', 68, '255.255.255.255', 67), { smac: v.mac, dmac: 'ff:ff:ff:ff:ff:ff' }),
        'DHCP request',
      );
  }
  for (let k = 0; k < size.connections; k++) {
    const v = vifs[r(vifs.length)];
    const near = vifs.filter((w) => w.dp === v.dp && w !== v);
    const far = vifs.filter((w) => w.dp !== v.dp);
    const w = k % 2 === 0 || far.length === 0 ? near[r(near.length)] : far[r(far.length)];
    const ap = 20000 + k;
    const allowed = vifs.filter((x) => x.dp === w.dp).indexOf(w);
    switch (k % 8) {
      case 0:
      case 1:
        new Talk(s, ...between(v, w, ap, 80)).open('to port 80').exchange().close();
        break;
      case 2: {
        const [up] = between(v, w, ap, 80);
        const vip = vipOf(v.dp, r(size.vips));
        const backend = vifs.filter((x) => x.dp === v.dp)[(Number(vip.split('.')[3]) - 1) % size.ports];
        const [, down] = between(v, backend, ap, 8080);
        new Talk(s, { ...up, dmac: backend.mac, ends: ends(v.ip, ap, vip, 80) }, down)
          .open('to a virtual address')
          .exchange();
        break;
      }
      case 3:
        new Talk(s, ...between(v, w, ap, aclPort(allowed)))
          .up(SYN, 'to a port that an ACL may allow')
          .up(SYN, 'again');
        break;
      case 4:
        new Talk(s, ...between(v, w, ap, 9))
          .up(SYN, 'to a port that nothing allows')
          .up(ACK, 'ACK of nothing');
        break;
      case 5:
        s.pkt(v.port, udp(ends(v.ip, ap, w.ip, 53), to(v, macTo(v, w))), 'DNS')
          .pkt(w.port, udp(ends(w.ip, 53, v.ip, ap), to(w, macTo(w, v))), 'its answer')
          .pkt(w.port, udp(ends(w.ip, 53, v.ip, ap + 1), to(w, macTo(w, v))), 'an answer to nothing')
          .pkt(
            w.port,
            icmpError(w.ip, v.ip, udp(ends(v.ip, ap, w.ip, 53)), to(w, macTo(w, v))),
            'an error about it',
          );
        break;
      case 6:
        s.pkt(v.port, echo(v.ip, w.ip, k, false, to(v, macTo(v, w))), 'ping')
          .pkt(w.port, echo(w.ip, v.ip, k, true, to(w, macTo(w, v))), 'pong')
          .pkt(w.port, echo(w.ip, v.ip, k + 1, true, to(w, macTo(w, v))), 'a pong to nothing');
        break;
      default:
        s.pkt(
          v.port,
          tcp(ends('10.9.9.9', ap, w.ip, 80), SYN, 1, 0, to(v, macTo(v, w))),
          'from an address that is not its own',
        )
          .pkt(
            v.port,
            tcp(ends(v.ip, ap, w.ip, 80), ACK | PSH, 1, 1, { ...to(v, macTo(v, w)), data: 4 }),
            'the middle of a connection',
          )
          .pkt(
            v.port,
            tcp(ends(v.ip, ap, friendOf(v.dp, 0), 2222), SYN, 1, 0, to(v, ROUTER_MAC)),
            'to the address set',
          );
    }
  }
  s.table();
}

export function ovn(name: string, size: OvnSize): Scenario {
  return {
    name,
    about: `OVN: ${size.switches} logical switches with ACLs and load balancers behind a router`,
    flows: ovnFlows(size),
    ports: size.switches * size.ports,
    play: (s) => play(s, size),
  };
}

export const OVN_SMALL: OvnSize = { switches: 2, ports: 2, acls: 6, addresses: 2, vips: 2, connections: 24 };
export const OVN_1K: OvnSize = { switches: 2, ports: 4, acls: 100, addresses: 40, vips: 20, connections: 64 };
export const OVN_10K: OvnSize = {
  switches: 4,
  ports: 6,
  acls: 800,
  addresses: 150,
  vips: 100,
  connections: 64,
};
