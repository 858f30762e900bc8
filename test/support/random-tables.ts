/** Draws valid flow tables over what Shardtrack supports: several tables, tracking with zones, marks and
 *  labels, registers, VLANs, header changes, the L2 switch. A rule that the parser refuses is drawn anew. */
import { parseFlows } from '../../src/openflow/parser.js';
import { FlowSyntaxError } from '../../src/openflow/types.js';
import type { Random } from './packets.js';

export interface TableOptions {
  /** Rules that change addresses or ports: with tracking, they make everything run in lockstep. */
  rewriteTuples?: boolean;
  /** How many rules to draw besides the skeleton. */
  rules?: number;
  /** Rules that use GROUPS. */
  groups?: boolean;
}

/** Groups of all types, of which some use others, and tables behind them. */
export const GROUPS = `group_id=1,type=all,bucket=actions=output:2,bucket=actions=set_field:02:00:00:00:00:07->eth_dst,output:3
group_id=2,type=indirect,bucket=actions=strip_vlan,resubmit(,3)
group_id=3,type=ff,bucket=watch_port:9,actions=output:1,bucket=watch_port:4,actions=output:4
group_id=4,type=select,bucket=bucket_id=1,weight=2,actions=output:2,bucket=bucket_id=2,weight=1,actions=push_vlan:0x8100,output:3,bucket=bucket_id=3,weight=1,actions=group:1
group_id=5,type=select,selection_method=hash,fields(ip_src,ipv6_src,tcp_src,vlan_vid),bucket=bucket_id=1,actions=output:4,bucket=bucket_id=2,actions=load:1->NXM_NX_REG0[],resubmit(,3)
group_id=6,type=select,selection_method=dp_hash,selection_method_param=7,bucket=bucket_id=1,actions=output:1,bucket=bucket_id=2,actions=group:3,bucket=bucket_id=3,weight=0,actions=output:4
`;

const TABLES = 4;
const PRIORITIES = [0, 1, 10, 10, 50, 100, 100, 200];
const ZONES = [0, 0, 0, 1, 2, 5, 65535];
const CT_STATES = [
  '+trk',
  '-trk',
  '+trk+new',
  '+trk+est',
  '+trk+rel',
  '+trk+inv',
  '+trk-inv',
  '+trk+est+rpl',
  '+trk+est-rpl',
  '+trk-new',
  '0x21/0x31',
  '-new+trk-inv',
];

export function valid(rule: string): boolean {
  try {
    parseFlows(rule, 'drawn');
    return true;
  } catch (error) {
    if (error instanceof FlowSyntaxError) return false;
    throw error;
  }
}

/** A flow table as text. */
export function randomTable(r: Random, o: TableOptions = {}): string {
  const lines = skeleton(r);
  const rules = o.rules ?? 2 + r.int(12);
  for (let i = 0; i < rules; i++) {
    for (let tries = 0; tries < 20; tries++) {
      const line = randomRule(r, o);
      if (!valid(line)) continue;
      lines.push(line);
      break;
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Rules that let something happen in most tables. */
function skeleton(r: Random): string[] {
  const other = () =>
    [...`1234`].map(
      (p) =>
        `table=${TABLES - 1},priority=1,in_port=${p},actions=output:${r.pick(['2', '1', '4', '3', 'flood'])}`,
    );
  switch (r.int(6)) {
    case 0: // the firewall of the documentation
      return [
        'table=0,priority=90,ip,ct_state=-trk,actions=ct(table=1)',
        'table=0,priority=90,ipv6,ct_state=-trk,actions=ct(table=1)',
        'table=0,priority=5,arp,actions=normal',
        'table=1,priority=90,in_port=1,ip,ct_state=+trk+new,actions=ct(commit),output:2',
        'table=1,priority=90,in_port=1,ipv6,ct_state=+trk+new,actions=ct(commit),output:2',
        'table=1,priority=80,ct_state=+trk+est,actions=normal',
        'table=1,priority=80,ct_state=+trk+rel,actions=output:1,output:2',
      ];
    case 1: // track and commit everything at once
      return [
        'table=0,priority=60,ip,actions=ct(commit,table=3)',
        'table=0,priority=60,ipv6,actions=ct(commit,table=3)',
        'table=0,priority=0,actions=normal',
        ...other(),
      ];
    case 2: // zones from a register
      return [
        'table=0,priority=60,in_port=1,ip,actions=load:10->NXM_NX_REG0[0..15],resubmit(,1)',
        'table=0,priority=60,in_port=2,ip,actions=load:10->NXM_NX_REG0[0..15],resubmit(,1)',
        'table=0,priority=50,ip,actions=load:20->NXM_NX_REG0[0..15],resubmit(,1)',
        'table=1,priority=0,ip,actions=ct(zone=NXM_NX_REG0[0..15],table=2)',
        'table=2,priority=60,ip,ct_state=+trk+new,actions=ct(commit,zone=NXM_NX_REG0[0..15],exec(move:NXM_OF_IN_PORT[]->NXM_NX_CT_MARK[0..15])),normal',
        'table=2,priority=50,ip,ct_state=+trk+est,ct_mark=1,actions=output:2',
        'table=2,priority=40,ip,ct_state=+trk+est,actions=output:1',
      ];
    case 3: // two zones in a row, a mark that changes with the state
      return [
        'table=0,priority=60,ip,actions=ct(zone=1,table=1)',
        'table=1,priority=60,ip,ct_state=+trk+new,actions=ct(commit,zone=1,exec(set_field:0x1->ct_mark)),ct(commit,zone=2,exec(set_field:0x5/0xf->ct_label)),ct(zone=2,table=3)',
        'table=1,priority=50,ip,ct_state=+trk+est,ct_mark=1,actions=ct(commit,zone=1,exec(set_field:0x2->ct_mark)),ct(zone=2,table=3)',
        'table=1,priority=40,ip,ct_state=+trk,actions=ct(zone=2,table=3)',
        ...other(),
      ];
    case 4: // a switch
      return ['table=0,priority=1,actions=normal'];
    default:
      return other();
  }
}

/** A rule that the parser takes; the empty table's if none comes up. */
export function randomFlow(r: Random): string {
  for (let tries = 0; tries < 20; tries++) {
    const line = randomRule(r, {});
    if (valid(line)) return line;
  }
  return 'table=0,priority=1,actions=drop';
}

function randomRule(r: Random, o: TableOptions): string {
  const table = r.int(TABLES);
  const proto = r.pick([
    '',
    '',
    'ip',
    'ip',
    'ip',
    'ipv6',
    'tcp',
    'tcp',
    'udp',
    'icmp',
    'icmp6',
    'tcp6',
    'udp6',
    'sctp',
    'arp',
  ]);
  const match = [`table=${table}`, `priority=${r.pick(PRIORITIES)}`];
  if (proto !== '') match.push(proto);
  for (let n = r.int(4); n > 0; n--) match.push(randomMatch(r, proto));
  return `${match.filter((m) => m !== '').join(',')},actions=${randomActions(r, table, proto, o)}`;
}

function randomMatch(r: Random, proto: string): string {
  const v4 = ['ip', 'tcp', 'udp', 'icmp', 'sctp'].includes(proto);
  const v6 = ['ipv6', 'tcp6', 'udp6', 'icmp6'].includes(proto);
  switch (r.int(12)) {
    case 0:
      return `in_port=${1 + r.int(4)}`;
    case 1:
    case 2:
      return `ct_state=${r.pick(CT_STATES)}`;
    case 3:
      return r.pick([
        `ct_zone=${r.pick(ZONES)}`,
        `ct_mark=${r.int(4)}`,
        `ct_mark=0x1/0x3`,
        'ct_label=0x5/0xf',
      ]);
    case 4:
      return r.pick([`dl_vlan=${r.int(3)}`, 'vlan_tci=0x1000/0x1000', 'vlan_tci=0', 'dl_vlan_pcp=3']);
    case 5:
      return r.pick([`reg0=${r.int(3)}`, 'reg1=0x1/0x1', 'metadata=7']);
    case 6:
      return r.pick([
        'dl_src=02:00:00:00:00:01',
        'dl_dst=ff:ff:ff:ff:ff:ff',
        'dl_dst=01:00:00:00:00:00/01:00:00:00:00:00',
      ]);
    case 7:
    case 8:
      if (v4)
        return r.pick([
          `nw_src=10.0.0.${1 + r.int(6)}`,
          'nw_src=10.0.0.0/30',
          'nw_dst=10.0.0.4/30',
          'nw_dst=10.0.0.1/255.0.255.1',
        ]);
      if (v6) return r.pick([`ipv6_src=fd00::${1 + r.int(4)}`, 'ipv6_dst=fd00::/126', 'ipv6_label=5']);
      return '';
    case 9:
    case 10:
      if (/^(tcp|udp|sctp)/.test(proto)) {
        return r.pick([
          'tp_dst=80',
          'tp_src=40000/0xfffe',
          'tp_dst=53',
          'tp_dst=0x50/0xf0',
          proto.startsWith('tcp') ? 'tcp_flags=+syn-ack' : 'tp_src=5000',
        ]);
      }
      if (proto.startsWith('icmp'))
        return r.pick(['icmp_type=8', 'icmp_type=3', 'icmp_type=128', 'icmp_code=0']);
      return '';
    default:
      return v4 || v6
        ? r.pick(['nw_ttl=64', 'nw_frag=no', 'nw_frag=yes', 'nw_frag=later', 'nw_tos=0', 'nw_ecn=0'])
        : '';
  }
}

function randomActions(r: Random, table: number, proto: string, o: TableOptions): string {
  if (r.once(12)) return 'drop';
  const actions: string[] = [];
  for (let n = 1 + r.int(4); n > 0; n--) actions.push(randomAction(r, proto, o));
  if (r.once(8)) {
    const set = ['output:3', 'output:2,set_field:02:00:00:00:00:05->eth_src', 'push_vlan:0x8100,output:4'];
    if (o.groups) set.push('group:4', 'group:1', 'output:2,group:3');
    actions.push(`write_actions(${r.pick(set)})`);
  }
  if (r.once(4) && table < TABLES - 1) actions.push(`goto_table:${table + 1 + r.int(TABLES - 1 - table)}`);
  return actions.join(',');
}

function randomAction(r: Random, proto: string, o: TableOptions, depth = 0): string {
  if (o.rewriteTuples && r.once(4)) {
    return r.pick([
      'set_field:10.0.0.9->ip_dst',
      'set_field:10.0.0.1->ip_src',
      'set_field:fd00::9->ipv6_dst',
      'set_field:8080->tcp_dst',
      'set_field:53->udp_src',
      'mod_nw_src:10.0.0.5',
      'mod_tp_dst:80',
      'move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[]',
    ]);
  }
  if (o.groups && r.once(6)) return `group:${1 + r.int(6)}`;
  if (depth < 2 && r.once(12)) {
    const list = [randomAction(r, proto, o, depth + 1), randomAction(r, proto, o, depth + 1)];
    return `clone(${list.join(',')})`;
  }
  switch (r.int(22)) {
    case 14:
      return r.pick([
        'push:NXM_NX_REG0[]',
        'push:NXM_OF_ETH_SRC[]',
        'pop:NXM_NX_REG1[]',
        'pop:NXM_OF_ETH_DST[]',
      ]);
    case 15:
      return r.pick([
        'check_pkt_larger(80)->NXM_NX_REG0[0]',
        'output(port=2,max_len=60)',
        'controller',
        'controller(max_len=30)',
        'exit',
      ]);
    case 16:
      return r.pick([
        'multipath(symmetric_l4,0,hash_threshold,3,0,NXM_NX_REG0[0..7])',
        'multipath(nw_src,5,iter_hash,3,0,NXM_NX_REG1[0..7])',
        'bundle(eth_src,0,hrw,ofport,members:2,3,4)',
        'bundle_load(nw_dst,1,active_backup,ofport,NXM_NX_REG0[0..15],members:9,3)',
      ]);
    case 17:
      return proto === 'mpls' ? r.pick(['pop_mpls:0x0800', 'dec_mpls_ttl']) : 'push_mpls:0x8847';
    case 0:
    case 1:
    case 2:
    case 21:
      return `output:${1 + r.int(5)}`;
    case 3:
      return r.pick(['normal', 'flood', 'in_port', 'all', 'LOCAL']);
    case 4:
    case 5:
      return `resubmit(,${r.int(TABLES)})`;
    case 6:
    case 7:
    case 8:
    case 9:
    case 18:
    case 19:
    case 20:
      return randomCt(r);
    case 10:
      return r.pick([
        `load:${r.int(3)}->NXM_NX_REG0[]`,
        'set_field:1->reg1',
        'move:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]',
        'move:NXM_NX_CT_MARK[]->NXM_NX_REG1[]',
        'move:NXM_NX_REG0[0..2]->NXM_OF_VLAN_TCI[13..15]',
        'set_field:7->metadata',
      ]);
    case 11:
      return r.pick([
        'mod_vlan_vid:2',
        'strip_vlan',
        'push_vlan:0x8100',
        'push_vlan:0x88a8',
        'mod_vlan_pcp:3',
        'pop_vlan',
      ]);
    case 12:
      return r.pick([
        'set_field:02:00:00:00:00:07->eth_dst',
        'set_field:02:00:00:00:00:00/ff:ff:00:00:00:00->eth_src',
        'move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]',
        'dec_ttl',
        'mod_nw_tos:8',
        'mod_nw_ttl:9',
        proto === 'arp' ? 'set_field:2->arp_op' : 'set_field:1->nw_ecn',
      ]);
    default:
      return 'ct_clear';
  }
}

function randomCt(r: Random): string {
  const parts: string[] = [];
  const commit = r.once(2);
  if (commit) parts.push('commit');
  if (commit && r.once(6)) parts.push('force');
  if (r.once(2)) parts.push(`zone=${r.once(8) ? 'NXM_NX_REG0[0..15]' : r.pick(ZONES)}`);
  if (r.once(2)) parts.push(`table=${r.int(TABLES)}`);
  if (commit && r.once(2)) {
    parts.push(
      `exec(${r.pick([
        'set_field:1->ct_mark',
        'set_field:0x2/0x2->ct_mark',
        'load:3->NXM_NX_CT_MARK[]',
        'set_field:0x5/0xff->ct_label',
        'set_field:0x123456789abcdef00112233445566778->ct_label',
        'move:NXM_NX_REG0[]->NXM_NX_CT_MARK[]',
        'load:1->NXM_NX_CT_LABEL[127]',
      ])})`,
    );
  }
  return `ct(${parts.join(',')})`;
}
