/** Flow tables: firewalls, zones, marks and labels, matching, tables, registers, rewriting, L2. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { ROOT } from '../fixture.js';
import {
  ACK,
  arp,
  cat,
  echo,
  ends,
  eth,
  FIN,
  icmp,
  icmpError,
  ip,
  PSH,
  RST,
  random,
  SYN,
  swap,
  tcp,
  text,
  u16,
  u32,
  udp,
} from '../packets.js';
import { C, C6, S, S6, type Scenario, type Script, SHOW, Tcp, WATCH } from './script.js';

const shipped = (name: string) => readFileSync(path.join(ROOT, 'fixtures', 'flows', name), 'utf8');

/** A bit of everything between an inside and an outside port. */
function mixed(s: Script, inside = 1, outside = 2): void {
  const up = [inside, outside] as const;
  const down = [outside, inside] as const;
  s.pkt(inside, arp(1, 1, C, 2, S), 'who has').pkt(outside, arp(2, 2, S, 1, C), 'is at');
  const t = new Tcp(s, ends(C, 40000, S, 80), 1000, 5000, up);
  t.up(SYN, 'SYN from inside')
    .down(SYN | ACK)
    .up(ACK)
    .send('GET /')
    .answer(500);
  const evil = new Tcp(s, ends(S, 40000, C, 22), 1, 2, down);
  evil.up(SYN, 'SYN from outside').up(ACK, 'ACK from outside');
  s.pkt(inside, udp(ends(C, 30000, S, 53)), 'DNS')
    .pkt(outside, udp(ends(S, 53, C, 30000)), 'its answer')
    .pkt(outside, udp(ends(S, 53, C, 30001)), 'an answer to nothing');
  s.pkt(inside, echo(C, S, 1), 'ping')
    .pkt(outside, echo(S, C, 1, true), 'pong')
    .pkt(outside, echo(S, C, 2), 'ping from outside');
  s.pkt(outside, icmpError('10.9.9.9', C, udp(ends(C, 30000, S, 53))), 'an error about the DNS query');
  t.up(PSH | ACK, 'bad checksum', { data: 5, badL4: true, still: true }).down(PSH | ACK, 'out of window', {
    data: 5,
    at: 5_000_000,
  });
  t.up(FIN | ACK, 'FIN')
    .down(FIN | ACK)
    .up(ACK);
  const six = new Tcp(s, ends(C6, 40000, S6, 443), 1000, 5000, up);
  six
    .open()
    .send(100)
    .down(RST | ACK);
  new Tcp(s, ends(S6, 1, C6, 22), 1, 2, down).up(SYN, 'IPv6 SYN from outside');
  s.pkt(inside, eth(0x88cc, text('lldp, more or less')), 'not IP').pkt(
    outside,
    eth(0x0806, text('short')),
    'ARP cut short',
  );
}

export const pipelineScenarios: readonly Scenario[] = [
  {
    name: 'firewall-shipped',
    about: 'fixtures/flows/firewall.txt over a bit of everything',
    flows: shipped('firewall.txt'),
    ports: 2,
    play: (s) => {
      mixed(s);
      s.table();
    },
  },
  {
    name: 'zones-shipped',
    about: 'fixtures/flows/zones.txt over a bit of everything',
    flows: shipped('zones.txt'),
    ports: 4,
    play: (s) => {
      mixed(s);
      mixed(s, 3, 4);
      s.table();
    },
  },
  {
    name: 'track-all-shipped',
    about: 'fixtures/flows/track-all.txt over a bit of everything',
    flows: shipped('track-all.txt'),
    ports: 2,
    play: (s) => {
      mixed(s);
      s.table();
    },
  },
  {
    name: 'firewall-tutorial',
    about: 'the tutorial of the OVS documentation: tcp only, one table, ct(table=0)',
    flows: `# As in "OVS Conntrack Tutorial": untracked packets go through ct() and come back to table 0.
table=0,priority=50,ct_state=-trk,tcp,in_port=1,actions=ct(table=0)
table=0,priority=50,ct_state=+trk+new,tcp,in_port=1,actions=ct(commit),2
table=0,priority=50,ct_state=-trk,tcp,in_port=2,actions=ct(table=0)
table=0,priority=50,ct_state=+trk+est,tcp,in_port=2,actions=1
table=0,priority=50,ct_state=+trk+est,tcp,in_port=1,actions=2
`,
    play: (s) => {
      mixed(s);
      s.table();
    },
  },
  {
    name: 'firewall-related-invalid',
    about: 'every class of ct_state goes to its own port, with numeric and masked spellings',
    flows: `table=0,priority=10,ip,ct_state=-trk,actions=ct(zone=9,table=1)
table=0,priority=10,ipv6,ct_state=-trk,actions=ct(zone=9,table=1)
table=0,priority=5,arp,actions=normal
table=0,priority=1,actions=drop
table=1,priority=60,ct_state=+inv+trk,actions=output:5
table=1,priority=55,in_port=1,ip,ct_state=0x21/0x21,actions=ct(commit,zone=9),output:2
table=1,priority=55,in_port=1,ipv6,ct_state=+trk+new,actions=ct(commit,zone=9),output:2
table=1,priority=50,ct_state=+trk+rel-rpl,actions=output:6
table=1,priority=50,ct_state=+trk+rel+rpl,actions=output:3
table=1,priority=45,ct_state=0x2a/0x2e,actions=output:1
table=1,priority=45,ct_state=+est-rpl+trk,actions=output:2
table=1,priority=40,ct_state=+new+trk,actions=output:4
`,
    ports: 6,
    play: (s) => {
      mixed(s);
      s.table();
    },
  },
  {
    name: 'firewall-three-legs',
    about: 'inside, outside and a DMZ: who may open what',
    flows: `# 1 inside, 2 outside, 3 DMZ. Inside opens anything, outside only web to the DMZ, the DMZ only DNS.
table=0,priority=20,arp,actions=normal
table=0,priority=10,ip,actions=ct(table=1,zone=1)
table=0,priority=0,actions=drop
table=1,priority=50,ip,ct_state=+trk+est,actions=resubmit(,2)
table=1,priority=50,ip,ct_state=+trk+rel,actions=resubmit(,2)
table=1,priority=40,ip,ct_state=+trk+new,in_port=1,actions=ct(commit,zone=1),goto_table:2
table=1,priority=40,tcp,ct_state=+trk+new,in_port=2,nw_dst=192.168.3.0/24,tp_dst=80,actions=ct(commit,zone=1),goto_table:2
table=1,priority=40,tcp,ct_state=+trk+new,in_port=2,nw_dst=192.168.3.0/24,tp_dst=8080/0xfff0,actions=ct(commit,zone=1),goto_table:2
table=1,priority=40,udp,ct_state=+trk+new,in_port=3,tp_dst=53,actions=ct(commit,zone=1),goto_table:2
table=1,priority=0,actions=drop
table=2,ip,nw_dst=10.0.0.0/8,actions=output:1
table=2,ip,nw_dst=192.168.3.0/255.255.255.0,actions=output:3
table=2,priority=1,ip,actions=output:2
`,
    play: (s) => {
      const out = '93.184.216.34';
      const dmz = '192.168.3.80';
      new Tcp(s, ends(C, 1000, out, 443), 1, 2, [1, 2]).open().send(10).answer(10);
      new Tcp(s, ends(C, 1001, dmz, 22), 1, 2, [1, 3]).open().send(10);
      for (const port of [80, 81, 8080, 8085, 8090, 8096, 22])
        new Tcp(s, ends(out, 2000 + port, dmz, port), 1, 2, [2, 3])
          .up(SYN, `from outside to port ${port}`)
          .down(SYN | ACK)
          .up(ACK);
      new Tcp(s, ends(out, 3000, C, 80), 1, 2, [2, 1]).up(SYN, 'from outside to inside');
      s.pkt(3, udp(ends(dmz, 5000, out, 53)), 'DNS of the DMZ')
        .pkt(2, udp(ends(out, 53, dmz, 5000)), 'its answer')
        .pkt(3, udp(ends(dmz, 5001, C, 53)), 'DNS to inside')
        .pkt(3, udp(ends(dmz, 5001, out, 123)), 'NTP');
      s.pkt(1, udp(ends(dmz, 7, out, 7)), 'spoofed source')
        .pkt(2, icmpError('1.2.3.4', dmz, udp(ends(dmz, 5000, out, 53))), 'an error for the DMZ')
        .table();
    },
  },
  {
    name: 'zones-chain',
    about: 'several ct() in a row, in-line and recirculated, with different zones and commits',
    flows: `# Zone 1 is looked up, zone 2 committed in-line, zone 3 both; the last one's state shows.
table=0,priority=10,in_port=1,ip,actions=ct(zone=1,table=1)
table=0,priority=10,in_port=2,ip,actions=ct(zone=3,table=4)
table=0,priority=10,in_port=3,ip,actions=ct(commit,zone=1),ct(commit,zone=2),ct(commit,zone=3,table=5)
table=1,ip,actions=ct(commit,zone=2),ct(commit,zone=3,table=2)
table=2,ip,ct_zone=3,actions=ct(zone=2,table=3)
table=3,actions=${SHOW},output:2
table=4,ip,ct_zone=3,actions=ct(zone=2,table=3)
table=5,priority=10,ct_zone=3,ip,actions=ct(zone=1,table=6),ct(zone=4,table=6)
table=6,actions=${SHOW},output:4
`,
    play: (s) => {
      const e = ends(C, 30000, S, 53);
      s.pkt(1, udp(e), 'first')
        .table()
        .pkt(2, udp(swap(e)), 'answer')
        .pkt(1, udp(e), 'again')
        .table();
      const t = new Tcp(s, ends(C, 40000, S, 80));
      t.open()
        .send(10)
        .answer(10)
        .up(FIN | ACK)
        .down(FIN | ACK)
        .up(ACK);
      s.table()
        .pkt(3, udp(ends(C, 30001, S, 53)), 'three commits')
        .pkt(3, udp(ends(S, 53, C, 30001)), 'answer')
        .table();
    },
  },
  {
    name: 'zones-from-field',
    about: 'zone=FIELD: a register, part of a register, the tag, the conjunction of in_port and load',
    flows: `table=0,priority=20,dl_vlan=7,ip,actions=move:NXM_OF_VLAN_TCI[0..11]->NXM_NX_REG3[0..11],ct(commit,zone=NXM_NX_REG3[0..15],table=1)
table=0,priority=10,in_port=1,ip,actions=load:0x2a->NXM_NX_REG0[],ct(commit,zone=NXM_NX_REG0[0..15],table=1)
table=0,priority=10,in_port=2,ip,actions=set_field:0x2a0000->reg1,ct(zone=NXM_NX_REG1[16..31],table=1)
table=0,priority=10,in_port=3,ip,actions=move:NXM_OF_IN_PORT[]->NXM_NX_REG2[4..19],ct(commit,zone=reg2[4..19],table=1)
table=0,priority=10,in_port=4,ip,actions=load:0xffff->NXM_NX_REG0[0..15],ct(commit,zone=NXM_NX_REG0[0..15],table=1)
table=1,priority=10,ct_zone=42,actions=${SHOW},output:5
table=1,priority=0,actions=${SHOW},output:6
`,
    ports: 6,
    play: (s) => {
      const e = ends(C, 30000, S, 53);
      for (const port of [1, 2, 3, 4])
        s.pkt(port, udp(e), `in_port ${port}`).pkt(port, udp(swap(e)), 'the answer');
      s.pkt(1, udp(e, { vlan: [7] }), 'VLAN 7')
        .pkt(2, udp(swap(e), { vlan: [7] }), 'its answer')
        .pkt(1, udp(e, { vlan: [8] }), 'VLAN 8')
        .table();
    },
  },
  {
    name: 'zones-same-tuple',
    about: 'one tuple in many zones: separate states and expiry',
    flows: `table=0,priority=10,in_port=1,ip,actions=ct(commit,zone=1,table=1)
table=0,priority=10,in_port=2,ip,actions=ct(commit,zone=2,table=1)
table=0,priority=10,in_port=3,ip,actions=ct(commit,zone=65535,table=1)
table=0,priority=10,in_port=4,ip,actions=ct(commit,table=1)
table=1,actions=${SHOW},output:5
`,
    ports: 5,
    play: (s) => {
      const t = [1, 2, 3, 4].map((p) => new Tcp(s, ends(C, 40000, S, 80), 1000, 5000, [p, p]));
      t[0].open().send(10);
      t[1].up(SYN).down(RST | ACK);
      t[2].up(ACK);
      t[3]
        .open()
        .up(FIN | ACK)
        .down(FIN | ACK)
        .up(ACK);
      s.table().wait(40);
      for (const x of t) x.up(PSH | ACK, '40 s later', { data: 5 });
      s.table();
    },
  },
  {
    name: 'ct-mark',
    about: 'set_field and load of ct_mark, with masks, again on later packets, matched with masks',
    flows: `table=0,priority=10,in_port=1,ip,actions=ct(commit,zone=1,exec(set_field:0x11->ct_mark),table=1)
table=0,priority=10,in_port=2,ip,actions=ct(zone=1,table=1)
table=0,priority=10,in_port=3,ip,actions=ct(commit,zone=1,exec(set_field:0xf000/0xff00->ct_mark),table=1)
table=0,priority=10,in_port=4,ip,actions=ct(commit,zone=1,exec(load:0x5->NXM_NX_CT_MARK[16..19]),table=1)
table=0,priority=10,in_port=5,ip,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],ct(commit,zone=1,exec(move:NXM_NX_REG0[0..7]->NXM_NX_CT_MARK[24..31]),table=1)
table=1,priority=30,ct_mark=0x11,actions=${SHOW},output:6
table=1,priority=20,ct_mark=0xf000/0xf000,actions=${SHOW},output:7
table=1,priority=10,ct_mark=0/0x1,actions=${SHOW},output:8
table=1,priority=0,actions=${SHOW},output:1,output:2
`,
    ports: 8,
    play: (s) => {
      for (const e of [ends(C, 1, S, 53), ends(C, 2, S, 53)]) {
        s.pkt(2, udp(swap(e)), 'unknown')
          .pkt(1, udp(e), 'marked')
          .pkt(2, udp(swap(e)), 'answer')
          .pkt(3, udp(e), 'second byte')
          .pkt(2, udp(swap(e)))
          .pkt(4, udp(e), 'a nibble')
          .pkt(2, udp(swap(e)))
          .table();
      }
      const e = ends(C, 3, S, 53);
      s.pkt(4, udp(e), 'nibble first')
        .pkt(3, udp(e))
        .pkt(3, udp(swap(e)), 'a mark from the reply side')
        .pkt(5, udp(e), 'from a register')
        .pkt(1, udp(e))
        .table();
      const t = new Tcp(s, ends(C, 40000, S, 80), 1, 2, [1, 2]);
      t.open()
        .down(PSH | ACK, 'out of window shows no mark', { data: 1, at: 9_000_000 })
        .send(1);
      s.table();
    },
  },
  {
    name: 'ct-label',
    about: 'set_field and load of ct_label, 128 bits, masks, matched in a later table',
    flows: `table=0,priority=10,in_port=1,ip,actions=ct(commit,zone=1,exec(set_field:0x0123456789abcdef0011223344556677->ct_label),table=1)
table=0,priority=10,in_port=2,ip,actions=ct(zone=1,table=1)
table=0,priority=10,in_port=3,ip,actions=ct(commit,zone=1,exec(set_field:0xff00000000000000000000000000ff/0xff00000000000000000000000000ff->ct_label),table=1)
table=0,priority=10,in_port=4,ip,actions=ct(commit,zone=1,exec(load:0xaa->NXM_NX_CT_LABEL[60..67],set_field:7->ct_mark),table=1)
table=1,priority=30,ct_label=0x0123456789abcdef0011223344556677,actions=${SHOW},output:5
table=1,priority=20,ct_label=0xff/0xff,actions=${SHOW},output:6
table=1,priority=15,ct_label=0xa0000000000000000/0xf0000000000000000,actions=${SHOW},output:7
table=1,priority=10,ct_label=0,actions=${SHOW},output:8
table=1,priority=0,actions=move:NXM_NX_CT_LABEL[80..127]->NXM_OF_ETH_DST[],move:NXM_NX_CT_LABEL[0..47]->NXM_OF_ETH_SRC[],output:1,output:2
`,
    ports: 8,
    play: (s) => {
      for (const [k, first] of [1, 3, 4].entries()) {
        const e = ends(C, 100 + k, S, 53);
        s.pkt(first, udp(e), `begun at port ${first}`).pkt(2, udp(swap(e)), 'answer');
        for (const p of [3, 4, 1]) s.pkt(p, udp(e), `then port ${p}`).pkt(2, udp(swap(e)));
        s.table();
      }
      s.pkt(2, udp(ends(C, 9, S, 9)), 'unknown: label 0');
    },
  },
  {
    name: 'ct-in-line',
    about:
      'ct() without table: the rest of the list goes on with the untracked original; with table: both go on',
    flows: `table=0,priority=10,in_port=1,ip,actions=ct(commit,zone=1),resubmit(,1)
table=0,priority=10,in_port=2,ip,actions=ct(zone=1,table=2),output:3,resubmit(,1)
table=0,priority=10,in_port=3,ip,actions=load:5->NXM_NX_REG0[],ct(commit,zone=1,table=3),load:6->NXM_NX_REG0[],set_field:10.77.77.77->ip_src,ct(commit,zone=1,table=3),output:4
table=1,priority=10,ct_state=+trk,actions=output:5
table=1,priority=10,ct_state=-trk,actions=${SHOW},output:6
table=2,actions=${SHOW},output:5
table=3,priority=10,reg0=5,actions=${SHOW},output:5
table=3,priority=10,reg0=6,actions=${SHOW},output:6
`,
    ports: 6,
    play: (s) => {
      const e = ends(C, 30000, S, 53);
      s.pkt(1, udp(e), 'commits in-line')
        .pkt(2, udp(swap(e)), 'answer')
        .pkt(2, udp(e))
        .pkt(3, udp(ends(C, 5, S, 5)), 'two copies')
        .pkt(3, udp(ends(S, 5, C, 5)), 'back')
        .pkt(1, echo(C, S, 3))
        .table();
    },
  },
  {
    name: 'ct-clear',
    about: 'ct_clear forgets state, zone, mark and label of the packet, not of the connection',
    flows: `table=0,priority=10,in_port=1,ip,actions=ct(commit,zone=4,exec(set_field:9->ct_mark),table=1)
table=0,priority=10,in_port=2,ip,actions=ct_clear,ct(zone=4,table=1)
table=1,actions=${SHOW},output:3,ct_clear,resubmit(,2)
table=2,priority=10,ct_state=-trk,ct_zone=0,ct_mark=0,actions=${SHOW},output:4
table=2,priority=0,actions=output:5
`,
    ports: 5,
    play: (s) => {
      const e = ends(C, 30000, S, 53);
      s.pkt(1, udp(e))
        .pkt(2, udp(swap(e)), 'answer')
        .pkt(1, udp(e))
        .pkt(1, udp(e, { badL4: true }), 'bad checksum')
        .table();
    },
  },
  {
    name: 'orig-tuple',
    about:
      'ct_nw_src, ct_tp_dst, ct_ipv6_src and the like: the tuple of the first packet, on replies and errors',
    flows: `table=0,priority=10,in_port=1,ip,actions=ct(commit,table=1)
table=0,priority=10,in_port=2,ip,actions=ct(table=1)
table=0,priority=10,in_port=1,ipv6,actions=ct(commit,table=1)
table=0,priority=10,in_port=2,ipv6,actions=ct(table=1)
table=1,priority=20,ct_state=+trk-inv,ip,ct_nw_src=10.1.1.0/24,ct_nw_proto=17,ct_tp_dst=53,actions=output:3
table=1,priority=20,ct_state=+trk-inv,ip,ct_nw_dst=10.1.1.2,ct_nw_proto=6,ct_tp_src=40000,actions=output:4
table=1,priority=20,ct_state=+trk-inv,ipv6,ct_ipv6_src=fc00::1,ct_nw_proto=17,ct_tp_src=30000,actions=output:5
table=1,priority=0,actions=output:6
`,
    ports: 6,
    play: (s) => {
      const u = ends(C, 30000, S, 53);
      const six = ends(C6, 30000, S6, 53);
      s.pkt(1, udp(u))
        .pkt(2, udp(swap(u)), 'answer')
        .pkt(2, icmpError('10.9.9.9', C, udp(u)), 'error about it')
        .pkt(1, udp(ends(C, 53, S, 30000)), 'ports the other way');
      new Tcp(s, ends(C, 40000, S, 80)).open();
      s.pkt(1, udp(six))
        .pkt(2, udp(swap(six)), 'answer')
        .pkt(2, icmpError('fc00::99', C6, udp(six)), 'error')
        .pkt(2, udp(ends(S, 1, C, 2)), 'new from outside')
        .pkt(1, udp(u, { badL4: true }), 'invalid')
        .table();
    },
  },
  {
    name: 'vlan-match',
    about: 'dl_vlan, dl_vlan_pcp, vlan_tci with masks, untagged, priority tags',
    flows: `table=0,priority=60,dl_vlan=10,dl_vlan_pcp=5,actions=output:2
table=0,priority=50,dl_vlan=10,actions=output:3
table=0,priority=40,vlan_tci=0x1010/0x1ff0,actions=output:4
table=0,priority=30,dl_vlan=0xffff,actions=output:5
table=0,priority=20,vlan_tci=0x1000/0x1000,udp,tp_dst=53,actions=output:6
table=0,priority=10,vlan_tci=0x1000/0x1000,actions=output:7
`,
    ports: 7,
    play: (s) => {
      const u = ends(C, 1, S, 53);
      const tags: (number | [number, number])[][] = [
        [],
        [10],
        [[0x8100, 0xa00a]],
        [[0x8100, 0xb00a]],
        [0],
        [[0x8100, 0x7000]],
        [16],
        [23],
        [31],
        [4095],
        [[0x88a8, 10]],
        [[0x88a8, 99]],
        [[0x9100, 10]],
        [10, 20],
        [20, 10],
        [[0x88a8, 16], 10],
      ];
      for (const vlan of tags)
        s.pkt(1, udp(u, { vlan }), `tags ${JSON.stringify(vlan)}`).pkt(
          1,
          arp(1, 1, C, 2, S, { vlan }),
          'ARP',
        );
      s.pkt(1, udp({ ...u, bp: 54 }, { vlan: [99] }))
        .pkt(1, udp(u).subarray(0, 14), 'header only')
        .pkt(1, cat(udp(u).subarray(0, 12), [0x81, 0, 0, 10]), 'a tag and nothing behind');
    },
  },
  {
    name: 'vlan-ct',
    about: 'tracked behind one and two tags; the tags do not separate connections, zones do',
    flows: `table=0,priority=20,dl_vlan=10,ip,actions=ct(commit,zone=10,table=1)
table=0,priority=20,dl_vlan=20,ip,actions=ct(commit,zone=20,table=1)
table=0,priority=10,ip,actions=ct(commit,zone=1,table=1)
table=0,priority=10,ipv6,actions=ct(commit,zone=1,table=1)
table=1,actions=${SHOW},output:3
`,
    play: (s) => {
      const e = ends(C, 30000, S, 53);
      for (const vlan of [[10], [20], [], [30], [[0x88a8, 10] as const, 20], [20, 10]])
        s.pkt(1, udp(e, { vlan }), `tags ${JSON.stringify(vlan)}`).pkt(2, udp(swap(e), { vlan }), 'answer');
      s.pkt(1, udp(ends(C6, 1, S6, 2), { vlan: [30] }), 'IPv6')
        .pkt(2, udp(ends(S6, 2, C6, 1)), 'answer without a tag')
        .table();
    },
  },
  {
    name: 'invalid-ip-header',
    about: 'version, header length, total length, checksum, TTL, options, broadcast: what ct() takes',
    flows: WATCH,
    play: (s) => {
      let p = 33000;
      const e = () => ends(C, p++, S, 53);
      s.pkt(1, udp(e(), { badIp: true }), 'bad header checksum')
        .pkt(1, udp(e(), { ttl: 0 }), 'TTL 0')
        .pkt(1, udp(e(), { tos: 0xff }), 'TOS 255')
        .pkt(1, udp(e(), { options: [148, 4, 0, 0] }), 'router alert');
      for (const version of [0, 5, 6, 15]) s.pkt(1, udp(e(), { version }), `version ${version}`);
      for (const ihl of [0, 4, 6, 8, 15]) s.pkt(1, udp(e(), { ihl }), `header length ${ihl}`);
      for (const length of [0, 19, 20, 27, 28, 31, 33, 60, 65535])
        s.pkt(1, udp(e(), { length }), `total length ${length} of 32`);
      for (const pad of [1, 14, 100]) s.pkt(1, udp(e(), { pad }), `${pad} bytes behind the packet`);
      s.pkt(1, udp({ ...e(), a: '255.255.255.255' }), 'from broadcast')
        .pkt(1, udp({ ...e(), a: '0.0.0.0', b: '0.0.0.0' }), 'all zero')
        .pkt(1, udp({ ...e(), a: '224.0.0.1' }), 'from multicast');
      s.pkt(1, udp(e(), { frag: 0x4000 }), "don't fragment")
        .pkt(1, udp(e(), { frag: 0x8000 }), 'the reserved bit')
        .pkt(1, udp(e(), { ident: 0xffff }));
      for (const [version, length] of [
        [4, undefined],
        [7, undefined],
        [undefined, 0],
        [undefined, 8],
        [undefined, 11],
        [undefined, 13],
        [undefined, 1000],
      ] as const) {
        s.pkt(
          1,
          udp(ends(C6, p++, S6, 53), { version, length }),
          `IPv6 version ${version}, length ${length}`,
        );
      }
      s.pkt(1, udp(ends('::', p++, 'ff02::1', 53)), 'IPv6 from unspecified')
        .pkt(1, udp(ends('::1', p++, '::1', 53)), 'IPv6 loopback')
        .pkt(1, udp(ends(C6, p++, S6, 53), { ttl: 0 }), 'hop limit 0')
        .table();
    },
  },
  {
    name: 'invalid-truncated',
    about: 'packets that end early, in every header, by one byte and by many',
    flows: WATCH,
    play: (s) => {
      for (const [a, b] of [
        [C, S],
        [C6, S6],
      ]) {
        const frames = {
          TCP: tcp(ends(a, 1000, b, 80), SYN, 1, 0, { opts: [2, 4, 5, 180], data: 10 }),
          UDP: udp(ends(a, 1001, b, 53)),
          echo: echo(a, b, 5),
          error: icmpError(b, a, udp(ends(a, 1001, b, 53))),
        };
        const l3 = a === C ? 20 : 40;
        for (const [what, f] of Object.entries(frames)) {
          for (const n of [
            14,
            15,
            14 + l3 - 1,
            14 + l3,
            14 + l3 + 1,
            14 + l3 + 7,
            14 + l3 + 8,
            14 + l3 + 19,
            14 + l3 + 20,
            f.length - 1,
          ]) {
            if (n < f.length) s.pkt(1, f.subarray(0, n), `${what} over ${a}, ${n} of ${f.length} bytes`);
          }
        }
      }
      s.pkt(1, udp(ends(C, 1, S, 2)).subarray(0, 13), '13 bytes')
        .pkt(1, new Uint8Array(1), 'one byte')
        .table();
    },
  },
  {
    name: 'invalid-ports',
    about: 'port 0 in TCP, UDP and SCTP-like positions, on either side',
    flows: WATCH,
    play: (s) => {
      for (const [a, b] of [
        [C, S],
        [C6, S6],
      ]) {
        for (const [ap, bp] of [
          [0, 80],
          [80, 0],
          [0, 0],
          [65535, 65535],
          [1, 1],
        ]) {
          s.pkt(1, tcp(ends(a, ap, b, bp), SYN, 1, 0), `TCP ${ap} > ${bp}`)
            .pkt(1, udp(ends(a, ap, b, bp)), `UDP ${ap} > ${bp}`)
            .pkt(2, udp(ends(b, bp, a, ap)), 'answer');
        }
      }
      s.table();
    },
  },
  {
    name: 'ipv6-extension-headers',
    about: 'hop-by-hop, routing, destination options, AH, atomic fragments, none, unknown, chains, cut',
    flows: WATCH,
    play: (s) => {
      const pad = [1, 4, 0, 0, 0, 0];
      let p = 34000;
      const chains: [string, (readonly [number, readonly number[]])[]][] = [
        ['hop-by-hop', [[0, pad]]],
        ['destination options', [[60, pad]]],
        ['routing, no segments left', [[43, [0, 0, 0, 0, 0, 0]]]],
        ['routing, segments left', [[43, [0, 1, 0, 0, 0, 0, ...new Array<number>(16).fill(1)]]]],
        ['AH', [[51, [0, 0, ...u32(1), ...u32(2), ...u32(3)]]]],
        ['atomic fragment', [[44, [0, 0, ...u32(77)]]]],
        [
          'three',
          [
            [0, pad],
            [43, [0, 0, 0, 0, 0, 0]],
            [60, [...pad, ...new Array<number>(8).fill(0)]],
          ],
        ],
        [
          'hop-by-hop twice',
          [
            [0, pad],
            [0, pad],
          ],
        ],
        [
          'hop-by-hop behind destination options',
          [
            [60, pad],
            [0, pad],
          ],
        ],
        ['mobility', [[135, pad]]],
        ['Shim6', [[140, pad]]],
        ['seven', new Array<[number, number[]]>(7).fill([60, pad])],
      ];
      for (const [what, ext] of chains) {
        const e = ends(C6, p++, S6, 53);
        s.pkt(1, udp(e, { ext }), what)
          .pkt(2, udp(swap(e)), 'answer without')
          .pkt(2, udp(swap(e), { ext }), 'answer with');
        s.pkt(1, echo(C6, S6, p, false, { ext }), 'echo').pkt(
          1,
          tcp(ends(C6, p, S6, 80), SYN, 1, 0, { ext }),
          'TCP',
        );
      }
      s.pkt(1, ip(C6, S6, 59, text('rest')), 'no next header').pkt(
        1,
        udp(ends(C6, p++, S6, 53), { ext: [[0, pad]], cut: 14 }),
        'cut in the extension header',
      );
      s.pkt(
        1,
        icmpError('fc00::99', S6, udp(ends(C6, 34000, S6, 53), { ext: [[0, pad]] })),
        'error about a packet with one',
      )
        .pkt(2, icmpError(S6, C6, udp(ends(C6, 34000, S6, 53), { ext: [[60, pad]] })), 'and back')
        .table();
    },
  },
  {
    name: 'match-l3-l4',
    about: 'addresses and ports with masks, nw_proto, tcp_flags, icmp_type, nw_tos, nw_ttl, priorities',
    flows: `table=0,priority=200,tcp,tcp_flags=+syn-ack,tp_dst=22,actions=output:2
table=0,priority=190,tcp,tcp_flags=0x012/0x012,actions=output:3
table=0,priority=180,tcp,tp_src=0x1000/0xf000,actions=output:4
table=0,priority=170,udp,tp_dst=53,nw_src=10.1.0.0/16,actions=output:5
table=0,priority=160,udp,udp_dst=0x50/0xfff0,actions=output:6
table=0,priority=150,icmp,icmp_type=8,icmp_code=0,actions=output:7
table=0,priority=140,icmp,icmp_type=3,actions=output:8
table=0,priority=130,icmp6,icmp_type=128,actions=output:2,output:3
table=0,priority=120,ipv6,ipv6_src=fc00::/16,ipv6_dst=fc00::2,actions=output:4,output:5
table=0,priority=110,ip,nw_proto=47,actions=output:6,output:7
table=0,priority=100,ip,nw_tos=0x20,actions=output:7,output:8
table=0,priority=90,ip,nw_ttl=1,actions=output:2,output:8
table=0,priority=80,ip,nw_dst=10.1.1.2/255.0.255.255,actions=output:3,output:8
table=0,priority=70,tcp6,tp_dst=443,actions=output:4,output:8
table=0,priority=60,dl_type=0x0800,nw_proto=17,nw_ecn=3,actions=output:5,output:8
table=0,priority=50,sctp,sctp_dst=6000,actions=output:6,output:8
table=0,priority=40,ip,actions=output:2,output:3,output:4
`,
    ports: 8,
    play: (s) => {
      const far = '172.16.0.9';
      s.pkt(1, tcp(ends(far, 1, far, 22), SYN, 1, 0), 'SYN to 22')
        .pkt(1, tcp(ends(far, 1, far, 22), SYN | ACK, 1, 1), 'SYN-ACK')
        .pkt(1, tcp(ends(far, 1, far, 22), ACK, 1, 1), 'ACK')
        .pkt(1, tcp(ends(far, 0x1234, far, 22), ACK, 1, 1), 'port mask');
      s.pkt(1, udp(ends(C, 1, far, 53)))
        .pkt(1, udp(ends(far, 1, far, 53)), 'other source')
        .pkt(1, udp(ends(far, 1, far, 0x5f)), 'masked port')
        .pkt(1, udp(ends(far, 1, far, 0x60)), 'outside the mask');
      s.pkt(1, echo(far, far, 1))
        .pkt(1, echo(far, far, 1, true), 'reply')
        .pkt(1, icmp(far, far, 3, u32(0), { code: 4 }))
        .pkt(1, echo(C6, S6, 1))
        .pkt(1, echo(C6, S6, 1, true))
        .pkt(1, icmp('fd00::1', S6, 128, u32(1)));
      s.pkt(1, udp(ends('fd00::1', 1, S6, 2)), 'no rule')
        .pkt(1, tcp(ends('fd00::1', 1, S6, 443), SYN, 1, 0))
        .pkt(1, ip(far, far, 47, text('gre')))
        .pkt(1, udp(ends(far, 1, far, 2), { tos: 0x23 }), 'TOS 0x23')
        .pkt(1, udp(ends(far, 1, far, 2), { tos: 3 }), 'ECN 3');
      s.pkt(1, udp(ends(far, 1, far, 2), { ttl: 1 }), 'TTL 1')
        .pkt(1, udp(ends(far, 1, '10.77.1.2', 2)), 'middle of the address')
        .pkt(1, udp(ends(far, 1, '10.77.1.3', 2)))
        .pkt(1, ip(far, far, 132, cat(u16(1), u16(6000), u32(0), u32(0))))
        .pkt(1, ip(far, far, 1, text('')), 'ICMP of no length');
      s.pkt(1, udp(ends(C, 1, far, 53), { frag: 0x2000 }), 'first fragment')
        .pkt(1, udp(ends(C, 1, far, 53), { frag: 0x0010 }), 'later fragment')
        .pkt(1, eth(0x1234, text('?')), 'not IP');
    },
  },
  {
    name: 'match-l2-arp',
    about: 'MACs with masks, eth_type, in_port, ARP fields, 802.3 frames',
    flows: `table=0,priority=100,arp,arp_op=1,arp_tpa=10.1.1.2,actions=output:2
table=0,priority=95,arp,arp_op=2,arp_sha=02:00:00:00:00:02,actions=output:3
table=0,priority=90,arp,arp_spa=10.1.0.0/16,actions=output:4
table=0,priority=85,arp,nw_dst=10.9.9.9,actions=output:5
table=0,priority=80,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=output:6
table=0,priority=70,dl_src=02:00:00:00:00:10/ff:ff:ff:ff:ff:f0,actions=output:7
table=0,priority=65,dl_type=0x05ff,actions=output:8
table=0,priority=60,dl_type=0x88cc,actions=output:2,output:3
table=0,priority=50,in_port=4,actions=output:1
table=0,priority=40,rarp,actions=output:5,output:6
`,
    ports: 8,
    play: (s) => {
      s.pkt(1, arp(1, 1, C, 2, S), 'who has')
        .pkt(1, arp(1, 1, C, 2, '10.1.1.3'))
        .pkt(1, arp(2, 2, S, 1, C), 'is at')
        .pkt(1, arp(2, 3, S, 1, C))
        .pkt(1, arp(1, 1, '1.2.3.4', 2, '10.9.9.9'))
        .pkt(1, arp(1, 1, '1.2.3.4', 2, '1.2.3.5'));
      s.pkt(1, udp(ends(C, 1, S, 2), { dmac: '01:00:5e:00:00:01' }), 'multicast')
        .pkt(1, udp(ends(C, 1, S, 2), { smac: 0x17 }), 'MAC in the range')
        .pkt(1, udp(ends(C, 1, S, 2), { smac: 0x20 }))
        .pkt(1, eth(0x88cc, text('lldp')));
      s.pkt(1, eth(0x0003, cat([0x42, 0x42, 3], new Uint8Array(43))), '802.3, LLC').pkt(
        1,
        eth(0x0026, cat([0xaa, 0xaa, 3, 0, 0, 0, 8, 0], udp(ends(C, 1, S, 2)).subarray(14))),
        '802.3, SNAP with IPv4',
      );
      s.pkt(4, eth(0x4321, text('x')), 'port 4')
        .pkt(1, eth(0x8035, arp(3, 1, C, 2, S).subarray(14)))
        .pkt(1, arp(1, 1, C, 2, S).subarray(0, 30), 'ARP cut short')
        .pkt(1, arp(0, 1, C, 2, S), 'ARP op 0')
        .pkt(1, arp(300, 1, C, 2, S), 'ARP op 300');
    },
  },
  {
    name: 'pipeline-tables',
    about: 'resubmit with port and table, goto_table, misses, same table twice, actions around them',
    flows: `table=0,priority=20,in_port=1,udp,tp_dst=1,actions=resubmit(,1),output:5
table=0,priority=20,in_port=1,udp,tp_dst=2,actions=output:5,resubmit(2,3),output:6
table=0,priority=20,in_port=1,udp,tp_dst=3,actions=resubmit(,1),resubmit(,1),resubmit(,200)
table=0,priority=20,in_port=1,udp,tp_dst=4,actions=set_field:10.5.5.5->ip_dst,output:5,goto_table:4
table=0,priority=20,in_port=1,udp,tp_dst=5,actions=goto_table:5
table=0,priority=20,in_port=1,udp,tp_dst=6,actions=resubmit:3
table=0,priority=20,in_port=3,udp,tp_dst=6,actions=output:6
table=0,priority=20,in_port=1,udp,tp_dst=7,actions=resubmit(,6),output:5
table=0,priority=20,in_port=1,udp,tp_dst=8,actions=load:1->NXM_NX_REG0[],resubmit(,7),output:5
table=1,udp,actions=output:6
table=3,priority=10,in_port=2,actions=output:4
table=3,priority=0,actions=output:7
table=4,udp,nw_dst=10.5.5.5,actions=set_field:99->udp_dst,output:6
table=5,actions=drop
table=6,udp,actions=set_field:11:22:33:44:55:66->eth_dst
table=7,reg0=1,actions=load:2->NXM_NX_REG0[],output:6,resubmit(,7)
table=7,reg0=2,actions=output:7,in_port
`,
    ports: 7,
    play: (s) => {
      for (let k = 1; k < 10; k++) s.pkt(1, udp(ends(C, 1000, S, k)), `port ${k}`);
    },
  },
  {
    name: 'registers',
    about: 'load, move and set_field between registers, metadata and header fields; kept across ct()',
    flows: `table=0,priority=10,udp,actions=load:0xabcd->NXM_NX_REG1[8..23],set_field:0x77->reg2,set_field:0x1200/0xff00->reg2,move:NXM_OF_UDP_DST[]->NXM_NX_REG3[0..15],set_field:0x123456789->metadata,move:NXM_OF_IP_SRC[0..7]->NXM_NX_REG4[24..31],resubmit(,1)
table=0,priority=10,tcp,actions=load:0x42->NXM_NX_REG5[],move:NXM_OF_IP_DST[]->NXM_NX_REG6[],ct(commit,zone=1,table=2)
table=1,priority=10,reg1=0xabcd00,reg2=0x1277,reg3=0x35,metadata=0x123456789,actions=move:NXM_NX_REG1[0..31]->NXM_OF_ETH_SRC[0..31],move:NXM_NX_REG4[]->NXM_OF_ETH_DST[0..31],output:2
table=1,priority=5,udp,reg3=0x30/0xf0,actions=move:NXM_NX_REG3[0..15]->NXM_OF_UDP_SRC[],output:3
table=1,priority=4,actions=move:OXM_OF_METADATA[0..47]->NXM_OF_ETH_DST[],output:4
table=2,priority=10,reg5=0x42,reg6=0x0a010102,actions=move:NXM_NX_REG5[0..15]->NXM_OF_ETH_DST[16..31],output:5
table=2,priority=1,actions=output:6
`,
    ports: 6,
    play: (s) => {
      s.pkt(1, udp(ends(C, 1, S, 53)))
        .pkt(1, udp(ends(C, 1, S, 0x36)))
        .pkt(1, udp(ends(C, 1, S, 0x46)))
        .pkt(1, udp(ends(C, 1, S, 0x36), { noSum: true }), 'no checksum');
      new Tcp(s, ends(C, 40000, S, 80), 1, 2, [1, 1]).open();
      new Tcp(s, ends(C, 40000, '10.1.1.9', 80), 1, 2, [1, 1]).up(SYN);
    },
  },
  {
    name: 'set-field-l2-l3',
    about:
      'MACs, addresses, TOS, TTL: checksums of IP, TCP, UDP and ICMP stay right (or as wrong as they were)',
    flows: `table=0,in_port=1,ip,actions=set_field:10.200.3.4->ip_src,output:5,set_field:10.200.3.5->ip_dst,output:6,mod_nw_tos:32,output:7
table=0,in_port=1,ipv6,actions=set_field:fd00::aaaa->ipv6_src,output:5,set_field:fd00::bbbb->ipv6_dst,output:6,set_field:9->nw_ttl,output:7
table=0,in_port=2,ip,actions=mod_nw_src:1.2.3.4,mod_nw_dst:5.6.7.8,set_field:1->nw_ttl,set_field:3->nw_ecn,output:5
table=0,in_port=3,actions=set_field:02:aa:bb:cc:dd:ee->eth_src,output:5,mod_dl_dst:0e:00:00:00:00:01,output:6,set_field:00:00:00:00:00:07/00:00:00:00:00:ff->eth_src,output:7
table=0,in_port=4,arp,actions=set_field:2->arp_op,set_field:9.9.9.9->arp_spa,set_field:02:00:00:00:00:99->arp_sha,output:5
table=0,in_port=4,ip,actions=set_field:10.0.0.0/255.0.0.0->ip_src,load:0x7->NXM_OF_IP_DST[0..7],output:5
`,
    ports: 7,
    play: (s) => {
      for (const [a, b] of [
        [C, S],
        [C6, S6],
      ]) {
        for (const port of a === C ? [1, 2, 3, 4] : [1, 3]) {
          s.pkt(
            port,
            tcp(ends(a, 1000, b, 80), SYN, 1, 0, { opts: [2, 4, 5, 180] }),
            `TCP over ${a} on port ${port}`,
          )
            .pkt(port, udp(ends(a, 1000, b, 53)), 'UDP')
            .pkt(port, udp(ends(a, 1000, b, 53), { noSum: true }), 'UDP without checksum');
          s.pkt(port, udp(ends(a, 1000, b, 53), { badL4: true }), 'bad UDP checksum')
            .pkt(port, udp(ends(a, 1000, b, 53), { badIp: true }), 'bad IP checksum')
            .pkt(port, tcp(ends(a, 1000, b, 80), ACK, 1, 1, { badL4: true, data: 3 }), 'bad TCP checksum');
          s.pkt(port, echo(a, b, 3), 'echo')
            .pkt(port, icmpError(b, a, udp(ends(a, 1, b, 2))), 'error')
            .pkt(port, ip(a, b, 47, text('gre')), 'GRE')
            .pkt(port, udp(ends(a, 1, b, 2), { vlan: [5] }), 'tagged')
            .pkt(port, tcp(ends(a, 1, b, 2), SYN, 1, 0, { pad: 6 }), 'padded');
        }
      }
      s.pkt(1, udp(ends(C, 1, S, 2), { frag: 0x0010 }), 'later fragment')
        .pkt(1, udp(ends(C, 1, S, 2), { frag: 0x2000 }), 'first fragment')
        .pkt(1, udp(ends(C, 1, S, 2), { options: [148, 4, 0, 0] }), 'IP options')
        .pkt(4, arp(1, 1, C, 2, S), 'ARP')
        .pkt(3, arp(1, 1, C, 2, S));
      for (const r = random(5), n = { k: 0 }; n.k < 12; n.k++)
        s.pkt(
          1,
          udp(
            ends(
              `10.${r(256)}.${r(256)}.${r(256)}`,
              1 + r(65535),
              `192.168.${r(256)}.${r(256)}`,
              1 + r(65535),
            ),
            { data: r(60), ident: r(65536) },
          ),
          'drawn at random',
        );
    },
  },
  {
    name: 'set-field-l4',
    about:
      'ports of TCP and UDP: checksums stay right, absent UDP checksums stay absent, zero is written as ffff',
    flows: `table=0,in_port=1,tcp,actions=set_field:4444->tcp_src,output:5,set_field:5555->tcp_dst,output:6
table=0,in_port=1,udp,actions=set_field:4444->udp_src,output:5,set_field:5555->udp_dst,output:6
table=0,in_port=1,tcp6,actions=set_field:4444->tcp_src,output:5,set_field:5555->tcp_dst,output:6
table=0,in_port=1,udp6,actions=set_field:4444->udp_src,output:5,set_field:5555->udp_dst,output:6
table=0,in_port=2,udp,actions=mod_tp_src:0,mod_tp_dst:65535,output:5
table=0,in_port=3,udp,actions=load:0x12->NXM_OF_UDP_DST[0..7],output:5
table=0,in_port=4,udp,actions=set_field:7->udp_src,ct(commit,zone=1,table=1)
table=1,udp,actions=${SHOW},output:5
`,
    ports: 6,
    play: (s) => {
      for (const [a, b] of [
        [C, S],
        [C6, S6],
      ]) {
        s.pkt(1, tcp(ends(a, 1000, b, 80), PSH | ACK, 1, 2, { data: 33 }), 'TCP')
          .pkt(1, udp(ends(a, 1000, b, 53), { data: 7 }), 'UDP')
          .pkt(1, udp(ends(a, 1000, b, 53), { noSum: true }), 'no checksum')
          .pkt(1, udp(ends(a, 1000, b, 53), { badL4: true }), 'bad checksum');
        s.pkt(1, tcp(ends(a, 4444, b, 5555), SYN, 1, 0), 'nothing changes');
      }
      for (const port of [2, 3])
        s.pkt(port, udp(ends(C, 1000, S, 53))).pkt(port, udp(ends(C, 1000, S, 53), { noSum: true }));
      // A payload that makes the new checksum zero: the old one plus what changes.
      for (let k = 0; k < 40; k++) s.pkt(3, udp(ends(C, 1000, S, 0x100), { data: 2 + k }));
      s.pkt(4, udp(ends(C, 1000, S, 53)), 'tracked with the new port')
        .pkt(4, udp(ends(C, 2000, S, 53)), 'the same connection now')
        .table();
    },
  },
  {
    name: 'set-vlan',
    about: 'set_field of vlan_vid and vlan_pcp, mod_vlan_vid: on tagged frames and on plain ones',
    flows: `table=0,in_port=1,vlan_tci=0x1000/0x1000,actions=set_field:4106->vlan_vid,output:4,set_field:3->vlan_pcp,output:5
table=0,in_port=2,vlan_tci=0x1000/0x1000,actions=mod_vlan_vid:77,output:4,mod_vlan_pcp:6,output:5
table=0,in_port=2,vlan_tci=0,actions=mod_vlan_vid:77,output:4,mod_vlan_pcp:6,output:5
table=0,in_port=3,actions=load:0x5->NXM_OF_VLAN_TCI[0..3],output:4
`,
    ports: 5,
    play: (s) => {
      for (const vlan of [[], [20], [[0x8100, 0xe014] as const], [[0x88a8, 20] as const, 30], [20, 30]]) {
        for (const port of [1, 2])
          s.pkt(port, udp(ends(C, 1, S, 2), { vlan }), `tags ${JSON.stringify(vlan)} on port ${port}`);
      }
      s.pkt(3, udp(ends(C, 1, S, 2), { vlan: [0x20] })).pkt(2, arp(1, 1, C, 2, S), 'ARP');
    },
  },
  {
    name: 'l2-normal',
    about: 'learning switch: flooding, learned, moved, multicast, broadcast, same port, reserved addresses',
    flows: shipped('l2-switch.txt'),
    ports: 4,
    play: (s) => {
      const f = (smac: number, dmac: number | string, o: object = {}) =>
        udp(ends(`10.0.0.${smac}`, 1, '10.0.0.99', 2), { smac, dmac, ...o });
      s.pkt(1, f(1, 2), 'unknown: flooded')
        .pkt(2, f(2, 1), 'learned')
        .pkt(1, f(1, 2), 'learned')
        .pkt(3, f(3, 1))
        .pkt(3, f(3, 9), 'unknown')
        .pkt(1, f(4, 1), 'to a host on the same port');
      s.pkt(4, f(1, 2), 'host 1 has moved to port 4')
        .pkt(2, f(2, 1), 'follows')
        .pkt(1, f(1, 2), 'and back')
        .pkt(2, f(2, 1))
        .pkt(1, f(1, 'ff:ff:ff:ff:ff:ff'), 'broadcast')
        .pkt(2, f(2, '01:00:5e:01:02:03'), 'multicast');
      s.pkt(1, f(5, '01:80:c2:00:00:00'), 'STP')
        .pkt(1, f(5, '01:80:c2:00:00:0e'), 'LLDP')
        .pkt(1, f(5, '01:80:c2:00:00:10'), 'just above')
        .pkt(2, udp(ends(C, 1, S, 2), { smac: '03:00:00:00:00:01', dmac: 1 }), 'multicast source')
        .pkt(3, f(6, '03:00:00:00:00:01'), 'to it');
      s.pkt(1, arp(1, 7, '10.0.0.7', 8, '10.0.0.8'), 'ARP')
        .pkt(2, arp(2, 8, '10.0.0.8', 7, '10.0.0.7'))
        .pkt(1, arp(1, 7, '10.0.0.7', 7, '10.0.0.7'), 'gratuitous ARP')
        .pkt(
          3,
          arp(2, 8, '10.0.0.8', 8, '10.0.0.8', { dmac: 'ff:ff:ff:ff:ff:ff' }),
          'gratuitous ARP of a moved host',
        )
        .pkt(1, f(7, 8));
      s.pkt(1, f(20, 21, { vlan: [10] }), 'VLAN 10: unknown there')
        .pkt(2, f(21, 20, { vlan: [10] }), 'learned')
        .pkt(2, f(21, 20, { vlan: [11] }), 'VLAN 11: unknown there')
        .pkt(2, f(21, 20), 'no tag: unknown there')
        .pkt(3, f(22, 21, { vlan: [0] }), 'priority tag');
      s.pkt(1, udp(ends(C, 1, S, 2), { smac: 1, dmac: 'aa:55:aa:55:00:00' }), 'to the bridge itself')
        .pkt(2, eth(0x1234, text('any type'), { smac: 2, dmac: 1 }))
        .wait(100)
        .pkt(2, f(2, 1), 'still known after 100 s');
      s.wait(310).pkt(2, f(2, 1), 'forgotten after 310 s more');
    },
  },
  {
    name: 'l2-outputs',
    about:
      'flood, all, in_port, output to the own port, LOCAL, output to a port that is not there, the same port twice',
    flows: `table=0,priority=10,udp,tp_dst=1,actions=flood
table=0,priority=10,udp,tp_dst=2,actions=ALL
table=0,priority=10,udp,tp_dst=3,actions=in_port
table=0,priority=10,udp,tp_dst=4,actions=output:1,output:2
table=0,priority=10,udp,tp_dst=5,actions=LOCAL,output:2
table=0,priority=10,udp,tp_dst=6,actions=output:99,output:3
table=0,priority=10,udp,tp_dst=7,actions=2,2,set_field:10.9.9.9->ip_src,2
table=0,priority=10,udp,tp_dst=8,actions=IN_PORT,output:IN_PORT,flood
table=0,priority=10,udp,tp_dst=9,actions=output:99
table=0,priority=10,udp,tp_dst=10,actions=load:3->NXM_NX_REG0[0..15],output:NXM_NX_REG0[0..15]
table=0,priority=10,udp,tp_dst=11,actions=load:1->NXM_NX_REG0[0..15],output:NXM_NX_REG0[0..15],output:2
table=0,priority=10,udp,tp_dst=12,actions=normal,output:3
`,
    play: (s) => {
      for (let k = 1; k < 14; k++)
        for (const port of [1, 2]) s.pkt(port, udp(ends(C, 1000, S, k)), `port ${k}, from ${port}`);
    },
  },
  ...[1, 2, 3].map(
    (seed): Scenario => ({
      name: `random-mixed-${seed}`,
      about: `drawn at random (seed ${seed}): all protocols between a few hosts through the firewall, with pauses`,
      flows: `table=0,priority=20,arp,actions=normal
table=0,priority=10,ip,ct_state=-trk,actions=ct(zone=5,table=1)
table=0,priority=10,ipv6,ct_state=-trk,actions=ct(zone=5,table=1)
table=1,priority=30,ct_state=+inv+trk,actions=${SHOW},output:3
table=1,priority=20,in_port=1,ip,ct_state=+new+trk,actions=ct(commit,zone=5,exec(set_field:0x5/0xff->ct_mark)),${SHOW},output:2
table=1,priority=20,in_port=1,ipv6,ct_state=+new+trk,actions=ct(commit,zone=5,exec(set_field:0x6/0xff->ct_mark)),${SHOW},output:2
table=1,priority=10,in_port=1,actions=${SHOW},output:2
table=1,priority=15,in_port=2,ct_state=+new+trk,actions=${SHOW},output:4
table=1,priority=10,in_port=2,actions=${SHOW},output:1
`,
      play: (s) => {
        const r = random(100 + seed);
        const pick = <T>(l: readonly T[]): T => l[r(l.length)];
        const [cs, ss] =
          seed === 2
            ? [
                ['fc00::1', 'fc00::3'],
                ['fc00::2', 'fc00::4'],
              ]
            : [
                ['10.1.1.1', '10.1.1.3'],
                ['10.1.1.2', '10.1.1.4'],
              ];
        const live: Tcp[] = [];
        for (let n = 0; n < 150; n++) {
          const up = r(2) === 0;
          const e = ends(pick(cs), 1000 + r(3), pick(ss), 53 + r(2));
          const [port, dir] = up ? [1, e] : [2, swap(e)];
          const kind = r(9);
          if (kind < 2) s.pkt(port, udp(dir, { data: r(30), badL4: !r(12), pad: r(3) }));
          else if (kind === 2) s.pkt(port, echo(dir.a, dir.b, r(3), r(2) === 0, { code: r(8) ? 0 : 1 }));
          else if (kind === 3)
            s.pkt(
              port,
              icmpError(pick([dir.a, ...ss]), dir.b, udp(swap(dir)), { keep: pick([28, 48, 60, 20]) }),
            );
          else if (kind === 4) s.pkt(port, ip(dir.a, dir.b, pick([47, 50, 89]), text('other')));
          else if (kind === 5 && live.length < 5) {
            const t = new Tcp(s, { ...e, ap: 40_000 + live.length, bp: 80 }, r(2 ** 31), r(2 ** 31));
            live.push(t);
            t.up(SYN);
          } else if (live.length) {
            const t = pick(live);
            const f = pick([SYN | ACK, ACK, ACK, PSH | ACK, PSH | ACK, FIN | ACK, RST | ACK]);
            const o = { data: f & PSH ? r(200) + 1 : 0, at: r(10) ? 0 : pick([-1, 1, 70_000]) };
            if (r(2)) t.up(f, undefined, o);
            else t.down(f, undefined, o);
          }
          if (!r(30)) s.wait(pick([5, 29, 31, 59, 61]));
          if (!r(50)) s.table();
        }
        s.table();
      },
    }),
  ),
];
