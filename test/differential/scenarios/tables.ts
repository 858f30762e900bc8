/** What a controller does while packets flow (Open vSwitch looks for ended flows after the packet that comes with
 *  a jump of time, so a question goes before it): flow-mods, group-mods, meters, ports; what learn() adds; when
 *  flows end; and what the switch says it has. */
import { ACK, ends, FIN, RST, SYN, tcp, udp } from '../packets.js';
import { C, S, type Scenario, type Script } from './script.js';

const flow = (n: number) => udp(ends(C, 100 + n, S, 53));
/** A packet on each of ports 1 and 2. */
const both = (s: Script, n = 0) => s.pkt(1, flow(n)).pkt(2, flow(n));
const dump = (s: Script, ...match: string[]) => s.ofctl('dump-flows', ...match);

const TWO = `table=0,priority=10,in_port=1,actions=output:3
table=0,priority=10,in_port=2,cookie=0x22,actions=output:4
`;

export const tableScenarios: readonly Scenario[] = [
  {
    name: 'tables-add-flow',
    about:
      'flows added, added again with other actions, with reset_counts, with check_overlap, with a cookie',
    flows: TWO,
    play: (s) => {
      both(s);
      s.ofctl('add-flow', 'priority=20,udp,in_port=1,cookie=0x5,actions=output:4');
      both(s);
      dump(s);
      s.ofctl('add-flow', 'priority=10,in_port=2,actions=output:3,output:4');
      both(s);
      s.ofctl('add-flow', 'priority=20,udp,in_port=1,reset_counts,importance=3,send_flow_rem,actions=drop');
      both(s);
      dump(s);
      s.ofctl('add-flow', 'check_overlap,priority=10,udp,actions=output:1');
      s.ofctl('add-flow', 'check_overlap,priority=11,udp,actions=output:1');
      s.ofctl('add-flow', 'check_overlap,priority=10,in_port=1,actions=output:1');
      s.ofctl('add-flow', 'table=3,actions=group:7');
      s.ofctl('add-flow', 'table=3,actions=meter:7,output:1');
      both(s);
      dump(s).ofctl('dump-aggregate').ofctl('dump-aggregate', 'in_port=1');
    },
  },
  {
    name: 'tables-mod-flows',
    about: 'flows modified and deleted: loose and strict, by cookie, table, port; counters stay',
    flows: `${TWO}table=0,priority=30,udp,tp_dst=54,cookie=0x122,actions=output:3
table=1,priority=10,in_port=1,cookie=0x22,actions=output:4
table=2,priority=10,ip,actions=group:1
`,
    groups: 'group_id=1,type=all,bucket=output:3,bucket=output:4\n',
    play: (s) => {
      both(s);
      s.ofctl('mod-flows', 'in_port=1,actions=output:4,output:3');
      both(s);
      dump(s);
      s.ofctl('mod-flows', 'cookie=0x22/0xff,actions=output:2');
      s.ofctl('--strict', 'mod-flows', 'priority=10,in_port=1,actions=in_port');
      s.ofctl('--strict', 'mod-flows', 'priority=11,in_port=1,actions=drop');
      s.ofctl('mod-flows', 'in_port=3,actions=drop');
      both(s);
      dump(s);
      s.ofctl('mod-flows', 'reset_counts,in_port=1,actions=output:3');
      both(s);
      dump(s, 'table=0').ofctl('dump-flows', 'cookie=0x22/-1').ofctl('dump-flows', 'out_port=3');
      s.ofctl('del-flows', 'cookie=0x100/0x100').ofctl('dump-aggregate');
      s.ofctl('--strict', 'del-flows', 'table=0,priority=9,in_port=1').ofctl('dump-aggregate');
      s.ofctl('del-flows', 'out_port=3');
      dump(s);
      s.ofctl('del-flows', 'out_group=1').ofctl('dump-aggregate');
      s.ofctl('del-flows', 'in_port=1');
      both(s);
      s.ofctl('del-flows');
      both(s);
      dump(s);
    },
  },
  {
    name: 'tables-groups',
    about: 'groups added, modified, deleted; buckets put in and taken out; counters of groups and buckets',
    flows: 'in_port=1,actions=group:1\nin_port=2,actions=group:2\n',
    groups: 'group_id=1,type=all,bucket=output:3,bucket=output:4\ngroup_id=2,type=indirect,bucket=output:3\n',
    play: (s) => {
      both(s);
      s.ofctl('dump-groups').ofctl('dump-group-stats');
      s.ofctl('insert-buckets', 'group_id=1,command_bucket_id=first,bucket=bucket_id:7,actions=output:2');
      s.ofctl('insert-buckets', 'group_id=1,command_bucket_id=0,bucket=bucket_id:8,actions=output:3');
      s.ofctl('insert-buckets', 'group_id=1,command_bucket_id=last,bucket=bucket_id:8,actions=output:3');
      s.ofctl('insert-buckets', 'group_id=1,command_bucket_id=99,bucket=bucket_id:9,actions=output:3');
      both(s);
      s.ofctl('dump-groups', '1').ofctl('dump-group-stats', 'group_id=1');
      s.ofctl('remove-buckets', 'group_id=1,command_bucket_id=7');
      s.ofctl('remove-buckets', 'group_id=1,command_bucket_id=7');
      s.ofctl('remove-buckets', 'group_id=1,command_bucket_id=last');
      both(s);
      s.ofctl('dump-groups', '1').ofctl('dump-group-stats');
      s.ofctl('add-group', 'group_id=1,type=all,bucket=output:2');
      s.ofctl('mod-group', 'group_id=9,type=all,bucket=output:2');
      s.ofctl('--may-create', 'mod-group', 'group_id=9,type=all,bucket=output:2');
      s.ofctl(
        'mod-group',
        'group_id=2,type=all,bucket=output:4,bucket=set_field:02:00:00:00:00:77->eth_dst,output:3',
      );
      both(s);
      s.ofctl('dump-groups').ofctl('dump-group-stats');
      s.ofctl('del-groups', 'group_id=2').ofctl('del-groups', 'group_id=2');
      both(s);
      dump(s).ofctl('dump-groups');
      s.ofctl('del-groups');
      both(s);
      dump(s).ofctl('dump-groups').ofctl('dump-group-stats');
    },
  },
  {
    name: 'tables-failover',
    about: 'fast failover groups follow ports that go down and come up, and groups that have no live bucket',
    flows: 'in_port=1,actions=group:1\nin_port=2,actions=group:2\n',
    groups: `group_id=1,type=ff,bucket=watch_port:3,output:3,bucket=watch_port:4,output:4
group_id=2,type=ff,bucket=watch_group:1,output:3,bucket=watch_port:1,output:4
`,
    play: (s) => {
      both(s);
      s.ofctl('mod-port', '3', 'down');
      both(s);
      s.ofctl('mod-port', '4', 'down');
      both(s);
      s.ofctl('mod-port', '3', 'up');
      both(s);
      s.ofctl('dump-group-stats');
    },
  },
  {
    name: 'tables-timeouts',
    about: 'idle and hard timeouts; what a packet, a change and the same flow again do to them',
    flows: `priority=1,actions=output:4
priority=10,in_port=1,idle_timeout=10,actions=output:3
priority=10,in_port=2,hard_timeout=20,cookie=0x7,actions=output:3
`,
    play: (s) => {
      s.pkt(1, flow(0)).wait(6);
      both(s).wait(6);
      dump(s);
      both(s).wait(6.5); // 18.5: one used at 12, the other made at 0
      dump(s);
      s.ofctl('mod-flows', 'in_port=2,actions=output:1').wait(5);
      dump(s);
      both(s).wait(17.5); // 41
      dump(s);
      both(s);
      s.ofctl('add-flow', 'priority=10,in_port=1,idle_timeout=4,hard_timeout=9,actions=output:3').wait(3);
      both(s).wait(3);
      both(s).wait(2.5);
      dump(s);
      both(s).wait(3);
      dump(s);
      both(s);
      dump(s);
    },
  },
  {
    name: 'tables-learn',
    about: 'learned flows: seen from the next pass on, with timeouts, limit, result and delete_learned',
    flows:
      `table=0,priority=10,in_port=1,udp,actions=learn(table=1,idle_timeout=10,hard_timeout=30,cookie=0x9,priority=5,eth_type=0x800,nw_proto=17,udp_src=udp_dst,udp_dst=udp_src,NXM_OF_IP_DST[]=NXM_OF_IP_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[]),resubmit(,1),output:3
table=0,priority=10,in_port=2,actions=resubmit(,1)
table=0,priority=20,in_port=3,ip,actions=learn(table=2,limit=2,result_dst=reg1[0],cookie=0x33,delete_learned,NXM_OF_IP_SRC[]),resubmit(,3)
table=0,priority=10,in_port=4,ip,actions=learn(table=4,eth_type=0x800,NXM_OF_IP_SRC[],output:NXM_OF_IN_PORT[]),ct(table=4)
table=1,priority=0,actions=output:4
table=3,priority=5,reg1=1,actions=output:1
table=3,priority=0,actions=output:2
table=4,priority=0,actions=output:2
`
        .replaceAll(
          'udp_src=udp_dst,udp_dst=udp_src',
          'NXM_OF_UDP_SRC[]=NXM_OF_UDP_DST[],NXM_OF_UDP_DST[]=NXM_OF_UDP_SRC[]',
        )
        .replace('cookie=0x33,delete_learned,NXM', 'cookie=0x33,delete_learned,eth_type=0x800,NXM'),
    play: (s) => {
      const back = (n: number) => udp(ends(S, 53, C, 100 + n));
      s.pkt(2, back(0), 'not learned').pkt(1, flow(0), 'learns').pkt(2, back(0), 'learned');
      s.pkt(1, flow(0)).pkt(1, flow(1)).pkt(2, back(1)).pkt(2, back(2));
      dump(s).wait(6);
      s.pkt(1, flow(0), 'refreshes').pkt(2, back(1)).wait(6.5);
      dump(s, 'table=1');
      s.pkt(2, back(0)).pkt(2, back(1));
      dump(s, 'table=1').wait(5.5);
      s.pkt(2, back(1)).wait(6.5); // 24.5
      dump(s, 'table=1');
      s.pkt(2, back(1)).wait(8);
      dump(s, 'table=1').wait(12);
      dump(s, 'table=1');
      const from = (n: number) => udp(ends(`10.1.2.${n}`, 5, S, 53));
      s.pkt(3, from(1)).pkt(3, from(2)).pkt(3, from(3)).pkt(3, from(1));
      dump(s, 'table=2');
      s.pkt(4, from(4)).pkt(4, from(4));
      s.ofctl('del-flows', 'in_port=3');
      dump(s, 'table=2').ofctl('dump-flows', 'table=4');
    },
  },
  {
    name: 'tables-fin-timeout',
    about: 'fin_timeout shortens the timeouts of the flow that a FIN or RST hits',
    flows: `priority=1,actions=output:4
priority=10,tcp,tp_src=5,idle_timeout=100,actions=fin_timeout(idle_timeout=5,hard_timeout=20),output:3
priority=10,tcp,tp_src=6,idle_timeout=100,actions=fin_timeout(idle_timeout=5),output:3
priority=10,tcp,tp_src=7,actions=fin_timeout(hard_timeout=8),output:3
`,
    play: (s) => {
      const at = (port: number, flags: number) =>
        s.pkt(1, tcp(ends(C, port, S, 80), flags, 1, flags & ACK ? 1 : 0));
      for (const port of [5, 6, 7]) at(port, SYN);
      dump(s);
      at(5, FIN | ACK);
      dump(s).wait(3);
      at(5, ACK);
      at(6, ACK);
      at(7, RST);
      dump(s).wait(6.5);
      dump(s);
      for (const port of [5, 6, 7]) at(port, ACK);
      dump(s).wait(4.5);
      dump(s);
      for (const port of [5, 6, 7]) at(port, ACK);
      dump(s);
    },
  },
  {
    name: 'tables-meters',
    about: 'meters by packets and by bits, with bursts and two bands; their counters; what goes with them',
    flows: 'priority=1,actions=output:4\n',
    play: (s) => {
      s.ofctl('add-meter', 'meter=1,pktps,burst,stats,band=type=drop,rate=2,burst_size=3');
      s.ofctl('add-meter', 'meter=2,kbps,band=type=drop,rate=1');
      s.ofctl('add-meter', 'meter=2,kbps,band=type=drop,rate=1');
      s.ofctl('mod-meter', 'meter=3,kbps,band=type=drop,rate=1');
      s.ofctl('add-meter', 'meter=4,pktps,bands=type=drop,rate=4,type=drop,rate=2');
      s.ofctl('add-flow', 'priority=10,in_port=1,actions=meter:1,output:3');
      s.ofctl('add-flow', 'priority=10,in_port=2,actions=meter:2,output:3');
      s.ofctl('add-flow', 'priority=10,in_port=3,actions=meter:4,output:1');
      for (let i = 0; i < 6; i++) both(s, i).pkt(3, flow(i));
      s.wait(0.8);
      for (let i = 0; i < 4; i++) both(s, i).pkt(3, flow(i));
      s.wait(7);
      for (let i = 0; i < 6; i++) both(s, i).pkt(3, flow(i));
      s.ofctl('dump-meters').ofctl('meter-stats').ofctl('meter-stats', 'meter=4');
      s.ofctl('mod-meter', 'meter=1,pktps,burst,band=type=drop,rate=10,burst_size=1');
      for (let i = 0; i < 4; i++) both(s, i);
      s.ofctl('meter-stats', 'meter=1').ofctl('del-meters', 'meter=2');
      both(s);
      dump(s).ofctl('dump-meters');
      s.ofctl('del-meters');
      both(s);
      dump(s);
    },
  },
];
