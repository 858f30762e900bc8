/** Megaflows and programs as text; the expected lines are in the form of OVS's dpctl/dump-flows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW, KEY_WORDS } from '../../../src/classifier/flow-key.js';
import { formatDpFlow, formatMegaflow, formatProgram } from '../../../src/openflow/format-dp.js';
import { parseFlows } from '../../../src/openflow/parser.js';
import { Pipeline } from '../../../src/openflow/tables.js';
import { Translator } from '../../../src/openflow/translate.js';

type Words = Partial<Record<keyof typeof FLOW, number>>;

const words = (w: Words): Int32Array => {
  const out = new Int32Array(KEY_WORDS);
  for (const [name, value] of Object.entries(w)) out[FLOW[name as keyof typeof FLOW]] = value;
  return out;
};

const ALWAYS: Words = { RECIRC_ID: -1, IN_PORT: -1, ETH_TYPE: -1 };

const TCP: Words = {
  IN_PORT: 1,
  ETH_TYPE: 0x0800,
  NW_SRC: 0x0a000001,
  NW_DST: 0x0a010203,
  NW: (64 << 8) | 6,
  TP: (40000 << 16) | 80,
  TCP_FLAGS: 0x12,
};

test('format-dp: prefixes, ports, flags, fragments', () => {
  const mask = words({ ...ALWAYS, NW_DST: 0xff000000 | 0, NW: 0xff0000ff | 0, TP: 0xffff, TCP_FLAGS: 0x16 });
  assert.equal(
    formatMegaflow(words(TCP), mask),
    'recirc_id(0),in_port(1),eth_type(0x0800),ipv4(dst=10.1.2.3/8,proto=6,frag=no),tcp(dst=80),tcp_flags(+syn-rst+ack)',
  );
});

test('format-dp: conntrack, odd masks, tags', () => {
  const key = words({
    ...TCP,
    RECIRC_ID: 7,
    CT_STATE: 0x22,
    CT_ZONE: 5,
    CT_MARK: 1,
    CT_LABEL_3: 1,
    CT_NW_SRC: 0x0a000001,
    CT_TP: 80,
    VLAN_0: (0x8100 << 16) | 0x6005 | 0x1000,
  });
  const mask = words({
    ...ALWAYS,
    CT_STATE: 0x2a,
    CT_ZONE: 0xffff,
    CT_MARK: 1,
    CT_LABEL_3: 1,
    CT_NW_SRC: 0x00ff00ff,
    CT_TP: 0xffff,
    VLAN_0: 0xffff,
    TP: 0xf0,
  });
  assert.equal(
    formatMegaflow(key, mask),
    'ct_state(+est-rpl+trk),ct_zone(0x5),ct_mark(0x1/0x1),ct_label(0x1/0x1),' +
      'ct_tuple4(src=10.0.0.1/0.255.0.255,tp_dst=80),recirc_id(0x7),in_port(1),' +
      'eth_type(0x8100),vlan(vid=5,pcp=3),encap(eth_type(0x0800),tcp(dst=0x50/0xf0))',
  );
});

test('format-dp: ARP, neighbour discovery, MPLS, frames without a type', () => {
  const arp = {
    IN_PORT: 2,
    ETH_TYPE: 0x0806,
    NW: 1,
    NW_DST: 0x0a000002,
    ARP_SHA_HI: 0x02000000,
    ARP_SHA_LO_THA_HI: 0x00070000,
  };
  assert.equal(
    formatMegaflow(
      words(arp),
      words({
        ...ALWAYS,
        NW: 0xff,
        NW_DST: -1,
        ARP_SHA_HI: -1,
        ARP_SHA_LO_THA_HI: 0xffff0000 | 0,
        ETH_DST_HI: 0x01000000,
      }),
    ),
    'recirc_id(0),in_port(2),eth(dst=00:00:00:00:00:00/01:00:00:00:00:00),eth_type(0x0806),arp(tip=10.0.0.2,op=1,sha=02:00:00:00:00:07)',
  );
  const nd = {
    ETH_TYPE: 0x86dd,
    NW: 58,
    TP: 135 << 16,
    ND_TARGET_0: 0xfd000000 | 0,
    ND_TARGET_3: 9,
    IPV6_SRC_0: 0xfd000000 | 0,
  };
  assert.equal(
    formatMegaflow(
      words(nd),
      words({
        ...ALWAYS,
        NW: 0xff,
        TP: -1,
        ND_TARGET_0: -1,
        ND_TARGET_1: -1,
        ND_TARGET_2: -1,
        ND_TARGET_3: -1,
        IPV6_SRC_0: 0xffff0000 | 0,
      }),
    ),
    'recirc_id(0),in_port(0),eth_type(0x86dd),ipv6(src=fd00::/16,proto=58),icmpv6(type=135,code=0),nd(target=fd00::9)',
  );
  const mpls = { ETH_TYPE: 0x8847, MPLS_0: (100 << 12) | (1 << 8) | 64 };
  assert.equal(
    formatMegaflow(words(mpls), words({ ...ALWAYS, MPLS_0: 0xfffff100 | 0 })),
    'recirc_id(0),in_port(0),eth_type(0x8847),mpls(label=100,bos=1)',
  );
  assert.equal(
    formatMegaflow(words({ IN_PORT: 0xfffe, ETH_TYPE: 0x05ff }), words(ALWAYS)),
    'recirc_id(0),in_port(LOCAL),eth_type(0/0xffff)',
  );
});

/** What the first packet of a TCP connection is translated to. */
function translated(flows: string): { key: Int32Array; program: Int32Array; mask: Int32Array } {
  const pipeline = new Pipeline({ rules: parseFlows(flows, 'flows'), ports: [1, 2, 3] });
  const key = words(TCP);
  return { key, ...new Translator(pipeline).translate(key) };
}

function actions(text: string): string {
  const { key, program } = translated(`tcp,actions=${text}`);
  return formatProgram(program, key);
}

test('format-dp: programs', () => {
  assert.equal(actions('drop'), 'drop');
  assert.equal(actions('output:2,output:3'), '2,3');
  assert.equal(actions('ct(table=1)'), 'ct,recirc(0x1)');
  assert.equal(
    actions('ct(commit,zone=5,exec(set_field:1->ct_mark,set_field:0x3/0x3->ct_label),alg=ftp),output:2'),
    'ct(commit,zone=5,mark=0x1/0xffffffff,label=0x3/0x3,helper=ftp),2',
  );
  assert.equal(
    actions('ct(commit,force,nat(src=10.0.0.5-10.0.0.9:80-90,random)),output:2'),
    'ct(force_commit,nat(src=10.0.0.5-10.0.0.9:80-90,random)),2',
  );
  assert.equal(actions('ct(nat,table=1)'), 'ct(nat),recirc(0x1)');
  assert.equal(
    actions('mod_dl_dst:02:00:00:00:00:07,mod_nw_src:1.2.3.4,mod_tp_dst:81,dec_ttl,output:2'),
    'set(eth(dst=02:00:00:00:00:07)),set(ipv4(src=1.2.3.4,ttl=63)),set(tcp(dst=81)),2',
  );
  assert.equal(actions('mod_vlan_vid:5,output:2,strip_vlan,output:3'), 'push_vlan(vid=5,pcp=0),2,pop_vlan,3');
  assert.equal(actions('clone(mod_nw_ttl:9,output:2),output:3'), 'clone(set(ipv4(ttl=9)),2),3');
  assert.equal(actions('output(port=2,max_len=64)'), 'trunc(64),2');
});

test('format-dp: a line of dump-flows', () => {
  const { key, program, mask } = translated(
    'priority=5,ip,nw_dst=10.0.0.0/8,actions=2\npriority=1,actions=drop',
  );
  assert.equal(
    formatDpFlow({ key: key.map((w, i) => w & mask[i]), mask, program, packets: 5, bytes: 500 }, 1200),
    'recirc_id(0),in_port(1),eth_type(0x0800),ipv4(dst=10.0.0.0/8,frag=no), packets:5, bytes:500, used:1.200s, actions:2',
  );
  assert.match(formatDpFlow({ key, mask, program, packets: 0, bytes: 0 }, -1), /used:never/);
});
