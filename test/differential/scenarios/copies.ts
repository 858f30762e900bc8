/** Copies of a packet: groups of all types, clone(), check_pkt_larger, action sets; and what only the outer
 *  headers show: MPLS. The choices of select groups are those of an Open vSwitch built without SSE 4.2. */
import { ACK, type Bytes, cat, echo, ends, eth, FIN, ip, SYN, tcp, u32, udp } from '../packets.js';
import { C, C6, S, S6, type Scenario, type Script } from './script.js';

/** Some of everything, from all ports. */
function mixed(s: Script, tags: readonly number[] = []): void {
  for (let i = 0; i < 12; i++) {
    const port = 1 + (i % 4);
    const e = ends(C, 1000 + i, S, i % 2 ? 80 : 443);
    s.pkt(port, tcp(e, i % 3 ? ACK : SYN, 1, i % 3 ? 1 : 0, { data: i * 20, ttl: i === 5 ? 1 : 64 }));
    s.pkt(port, udp(ends(C, 2000 + i, S, 53), { data: i * 15 }));
    s.pkt(port, udp(ends(C6, 3000 + i, S6, 53), { data: 4 }));
  }
  s.pkt(1, echo(C, S, 1));
  for (const vlan of tags) s.pkt(1, udp(ends(C, 2000, S, 53), { data: 4, vlan: [vlan] }), `vlan ${vlan}`);
}

const entry = (label: number, bos: 0 | 1, ttl: number) => u32((label << 12) | (bos << 8) | ttl);
const mpls = (inside: Bytes, ...stack: number[][]) => eth(0x8847, cat(...stack, inside));

export const copyScenarios: readonly Scenario[] = [
  {
    name: 'group-types',
    about:
      'all, indirect and fast failover groups, in and behind each other; what a bucket writes does not last',
    groups: `group_id=1,type=all,bucket=actions=set_field:02:00:00:00:00:07->eth_dst,output:2,bucket=actions=push_vlan:0x8100,set_field:4103->vlan_vid,output:3,bucket=actions=drop
group_id=2,type=indirect,bucket=actions=set_field:02:00:00:00:00:08->eth_src,resubmit(,1)
group_id=3,type=ff,bucket=watch_port:9,actions=output:1,bucket=watch_port:4,actions=dec_ttl,output:4
group_id=4,type=ff,bucket=watch_group:3,actions=group:1,bucket=watch_port:2,actions=output:2
group_id=5,type=all,bucket=actions=group:2,bucket=actions=in_port
`,
    flows: `in_port=1,actions=group:1,output:4
in_port=2,tcp,actions=group:4,group:5,output:1
in_port=2,udp,actions=set_field:10.9.9.9->ip_dst,group:5,output:3
in_port=3,ip,actions=set_field:02:00:00:00:00:09->eth_dst,write_actions(group:3,output:2)
in_port=4,actions=group:2,group:2
table=1,tcp,actions=output:1,exit,output:2
table=1,priority=1,actions=output:3
`,
    play: (s) => mixed(s, [5]),
  },
  {
    name: 'group-select',
    about:
      'select groups by the hash of the switch, by dp_hash with either algorithm, by fields; dead buckets',
    groups: `group_id=1,type=select,bucket=bucket_id=1,weight=1,actions=output:2,bucket=bucket_id=2,weight=2,actions=output:3,bucket=bucket_id=3,weight=0,actions=output:4
group_id=2,type=select,selection_method=dp_hash,bucket=bucket_id=1,actions=output:2,bucket=bucket_id=2,actions=output:3,bucket=bucket_id=3,watch_port:9,actions=output:4
group_id=3,type=select,selection_method=dp_hash,selection_method_param=4294967303,bucket=bucket_id=5,actions=set_field:10.9.9.5->ip_dst,output:1,bucket=bucket_id=9,weight=3,actions=set_field:10.9.9.9->ip_dst,resubmit(,1)
group_id=4,type=select,selection_method=hash,selection_method_param=7,fields(ip_src,ipv6_dst,tcp_src,udp_src,eth_src),bucket=bucket_id=1,actions=output:1,bucket=bucket_id=2,actions=output:2,bucket=bucket_id=3,weight=200,actions=output:3
`,
    flows: `in_port=1,actions=group:1,output:4
in_port=2,actions=group:2
in_port=3,ip,actions=group:3,group:1
in_port=4,actions=clone(set_field:02:00:00:00:00:09->eth_dst,group:4),group:4,output:3
table=1,actions=group:4
`,
    play: (s) => mixed(s, [5]),
  },
  {
    name: 'copies',
    about: 'clone(), check_pkt_larger, output(max_len), the stack, multipath and bundle, action sets, exit',
    flows: `in_port=1,tcp,actions=push:NXM_OF_ETH_SRC[],clone(set_field:10.9.9.9->ip_dst,push_vlan:0x8100,output:2),clone(pop:NXM_OF_ETH_DST[],output:3),pop:NXM_OF_ETH_DST[],output:4
in_port=1,udp,actions=check_pkt_larger(100)->NXM_NX_REG0[0],resubmit(,1),output:4
in_port=2,ip,actions=output(port=1,max_len=50),output(port=3,max_len=64),output:4
in_port=2,ipv6,actions=resubmit(,3),output:1
in_port=3,ip,actions=multipath(symmetric_l4,1024,hash_threshold,3,0,NXM_NX_REG0[0..15]),multipath(nw_src,0,hrw,4,0,NXM_NX_REG1[0..15]),move:NXM_NX_REG0[0..15]->NXM_OF_ETH_DST[0..15],move:NXM_NX_REG1[0..15]->NXM_OF_ETH_DST[16..31],bundle(symmetric_l3l4,7,hrw,ofport,members:1,2,4)
in_port=3,ipv6,actions=bundle(eth_src,0,active_backup,ofport,members:9,4,1)
in_port=4,ip,actions=write_actions(set_field:02:00:00:00:00:05->eth_src,push_vlan:0x8100,dec_ttl,output:1),write_metadata:5,goto_table:4
table=1,reg0=1,actions=set_field:02:00:00:00:00:0b->eth_dst,output:2
table=1,reg0=0,actions=output:3,exit,output:1
table=3,actions=clone(exit),output:2
table=4,tcp,actions=dec_ttl,output:2
table=4,udp,actions=write_actions(set_field:02:00:00:00:00:06->eth_src,output:3),goto_table:5
table=5,metadata=5,actset_output=3,actions=output:2
`,
    play: (s) => {
      mixed(s, [5]);
      s.pkt(4, tcp(ends(C, 9, S, 9), FIN | ACK, 1, 1, { ttl: 1 }), 'expired');
    },
  },
  {
    name: 'mpls',
    about: 'labels pushed, popped, rewritten and matched; what is inside is parsed once the labels are gone',
    groups: 'group_id=1,type=all,bucket=actions=pop_mpls:0x8847,output:2,bucket=actions=resubmit(,2)\n',
    flows: `in_port=1,ip,actions=push_mpls:0x8847,set_field:17->mpls_label,output:2,push_mpls:0x8847,set_field:18->mpls_label,output:3
in_port=1,ipv6,actions=push_vlan:0x8100,set_field:4102->vlan_vid,push_mpls:0x8848,output:4
in_port=2,mpls,mpls_bos=1,actions=pop_mpls:0x0800,output:1,resubmit(,1)
in_port=2,mpls,mpls_bos=0,actions=dec_mpls_ttl,output:3,pop_mpls:0x8847,output:4,set_field:5->mpls_tc,output:1
in_port=3,mpls,actions=group:1,output:4
in_port=4,mpls,mpls_label=16,actions=clone(pop_mpls:0x0800,set_field:10.9.9.9->ip_dst,output:1),output:2
table=1,udp,tp_dst=53,actions=dec_ttl,set_field:10.9.9.8->ip_src,output:3
table=1,priority=1,actions=output:4
table=2,mpls,actions=push_mpls:0x8847,output:1
`,
    play: (s) => {
      mixed(s, [5]);
      const inside = udp(ends(C, 1000, S, 53), { data: 20 }).subarray(14);
      const other = ip(C, S, 47, new Uint8Array(9)).subarray(14);
      for (const port of [2, 3, 4]) {
        s.pkt(port, mpls(inside, entry(16, 1, 64)), 'one label')
          .pkt(port, mpls(other, entry(16, 1, 1)), 'GRE, TTL 1')
          .pkt(port, mpls(inside, entry(16, 0, 64), entry(17, 1, 9)), 'two labels')
          .pkt(port, mpls(inside, entry(16, 0, 1), entry(17, 1, 9)), 'two labels, TTL 1')
          .pkt(port, mpls(inside, entry(16, 0, 64), entry(17, 0, 9), entry(18, 1, 8)), 'three labels')
          .pkt(
            port,
            mpls(inside, entry(16, 0, 64), entry(17, 0, 9), entry(18, 0, 8), entry(19, 1, 8)),
            'four',
          );
      }
    },
  },
];
