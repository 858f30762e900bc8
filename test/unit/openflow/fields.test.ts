/** Field registry: names, places in the flow key, the VLAN rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW, FLOW_WORDS } from '../../../src/classifier/flow-key.js';
import {
  FIELDS,
  type Field,
  fieldByName,
  getField,
  getSubfield,
  MOD_TP_SRC,
  setField,
  setSubfield,
} from '../../../src/openflow/fields.js';

const flow = (): Int32Array => new Int32Array(FLOW_WORDS);
const named = (name: string): Field => {
  const f = fieldByName(name);
  assert.ok(f !== undefined, name);
  return f;
};

test('fields: every name and alias finds its field, case counts, _W is the masked wire name', () => {
  for (const f of FIELDS) {
    for (const name of [f.name, ...f.aliases]) assert.equal(fieldByName(name), f);
  }
  assert.equal(fieldByName('NXM_NX_REG0_W'), fieldByName('reg0'));
  assert.equal(fieldByName('reg0_W'), undefined);
  assert.equal(fieldByName('nxm_nx_reg0'), undefined);
  assert.equal(fieldByName('nw_src'), fieldByName('ip_src'));
  assert.equal(fieldByName('nw_frag'), fieldByName('ip_frag'));
  assert.equal(fieldByName('tp_src'), fieldByName('tcp_src'));
});

test('fields: segments have the width of the field, in words of the flow key', () => {
  for (const f of [...FIELDS, MOD_TP_SRC]) {
    const width = f.segments.reduce((sum, s) => sum + s.bits, 0);
    if (f.name === 'vlan_vid') assert.equal(width, 13);
    else if (f.name === 'arp_op') assert.equal(width, 8);
    else assert.equal(width, f.bits, f.name);
    for (const s of f.segments) {
      assert.ok(s.word >= 0 && s.word < FLOW_WORDS && s.shift >= 0 && s.shift + s.bits <= 32, f.name);
    }
  }
});

test('fields: a value written is read back and nothing else changes', () => {
  for (const f of FIELDS) {
    for (const fill of [0, -1]) {
      const words = flow().fill(fill);
      const value = f.valid & 0xa5a5a5a5_5a5a5a5a_12345678_9abcdef0n;
      setField(words, f, value);
      assert.equal(getField(words, f), value, f.name);
      const own = new Set(f.segments.map((s) => s.word));
      words.forEach((w, i) => {
        if (!own.has(i)) assert.equal(w, fill, f.name);
      });
      setField(words, f, f.valid);
      assert.equal(getField(words, f), f.valid, f.name);
    }
  }
});

test('fields: addresses lie across words as the flow key says', () => {
  const words = flow();
  setField(words, named('eth_dst'), 0x010203040506n);
  setField(words, named('eth_src'), 0x0a0b0c0d0e0fn);
  assert.equal(words[FLOW.ETH_DST_HI], 0x01020304);
  assert.equal(words[FLOW.ETH_DST_LO_SRC_HI], 0x05060a0b);
  assert.equal(words[FLOW.ETH_SRC_LO], 0x0c0d0e0f);
  setField(words, named('arp_sha'), 0x010203040506n);
  setField(words, named('nd_tll'), 0x0a0b0c0d0e0fn);
  assert.equal(words[FLOW.ARP_SHA_LO_THA_HI], 0x05060a0b);
  setField(words, named('nw_tos'), 0xfcn);
  setField(words, named('nw_ecn'), 1n);
  setField(words, named('nw_ttl'), 64n);
  assert.equal(words[FLOW.NW], 0x00fd4000);
  assert.equal(getField(words, named('nw_tos')), 0xfcn);
  assert.equal(getField(words, named('ip_dscp')), 0x3fn);
  setField(words, named('xxreg1'), 0x1_00000002_00000003_00000004n);
  assert.deepEqual([...words.slice(FLOW.REG4, FLOW.REG8)], [1, 2, 3, 4]);
  assert.equal(getField(words, named('xreg3')), 0x3_00000004n);
});

test('fields: a tag appears with TPID 0x8100 and goes with dl_vlan 0xffff', () => {
  const words = flow();
  setField(words, named('dl_vlan_pcp'), 3n);
  assert.equal(words[FLOW.VLAN_0] >>> 0, 0x81007000);
  setField(words, named('dl_vlan'), 5n);
  assert.equal(words[FLOW.VLAN_0] >>> 0, 0x81007005);
  setField(words, named('dl_vlan'), 0xffffn);
  assert.equal(words[FLOW.VLAN_0] & 0xffff, 0);
  words[FLOW.VLAN_0] = (0x88a8 << 16) | 0x1001;
  setField(words, named('vlan_vid'), 0x1007n);
  assert.equal(words[FLOW.VLAN_0] >>> 0, 0x88a81007);
});

test('fields: a run of bits of a field', () => {
  const words = flow();
  const s = { field: named('ct_label'), ofs: 60, bits: 32 };
  setSubfield(words, s, 0xdeadbeefn);
  assert.equal(getSubfield(words, s), 0xdeadbeefn);
  assert.equal(getField(words, named('ct_label')), 0xdeadbeefn << 60n);
  setSubfield(words, { field: named('reg0'), ofs: 4, bits: 8 }, 0xfffn);
  assert.equal(words[FLOW.REG0], 0xff0);
});
