/** Property: what formatRule prints parses to the same rule. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatRule } from '../../../src/openflow/format.js';
import { parseFlows } from '../../../src/openflow/parser.js';
import { FlowSyntaxError } from '../../../src/openflow/types.js';

const number = (max: number) => fc.integer({ min: 0, max });
const hex = (bits: number) =>
  fc.bigInt({ min: 0n, max: (1n << BigInt(bits)) - 1n }).map((v) => '0x' + v.toString(16));
const masked = (bits: number) =>
  fc.oneof(
    hex(bits),
    fc.tuple(hex(bits), hex(bits)).map(([v, m]) => `${v}/${m}`),
  );
const mac = fc
  .array(number(255), { minLength: 6, maxLength: 6 })
  .map((b) => b.map((x) => x.toString(16)).join(':'));
const ipv4 = fc.ipV4();
const ipv4Masked = fc.oneof(
  ipv4,
  fc.tuple(ipv4, number(32)).map(([a, n]) => `${a}/${n}`),
  fc.tuple(ipv4, ipv4).map(([a, m]) => `${a}/${m}`),
);
const ipv6Masked = fc.oneof(
  fc.ipV6(),
  fc.tuple(fc.ipV6(), number(128)).map(([a, n]) => `${a}/${n}`),
  fc.tuple(fc.ipV6(), fc.ipV6()).map(([a, m]) => `${a}/${m}`),
);
const pair = (name: string, value: fc.Arbitrary<string | number>) => value.map((v) => `${name}=${v}`);
const flags = (names: string[]) =>
  fc
    .uniqueArray(fc.tuple(fc.constantFrom('+', '-'), fc.constantFrom(...names)), {
      minLength: 1,
      selector: ([, name]) => name,
    })
    .map((list) => list.map((f) => f.join('')).join(''));
const ctFlags = flags(['new', 'est', 'rel', 'rpl', 'inv', 'trk', 'snat', 'dnat']);

const anyKey = fc.oneof(
  pair('in_port', number(65279)),
  pair('metadata', masked(64)),
  pair('reg3', masked(32)),
  pair('xreg4', masked(64)),
  pair('xxreg1', masked(128)),
  pair('reg5[3..17]', number(32767)),
  pair('ct_state', fc.oneof(ctFlags, number(255))),
  pair('ct_zone', number(65535)),
  pair('ct_mark', masked(32)),
  pair('ct_label', masked(128)),
  pair('eth_src', mac),
  pair(
    'eth_dst',
    fc.tuple(mac, mac).map((p) => p.join('/')),
  ),
  pair('vlan_tci', masked(16)),
  pair('dl_vlan', number(4095)),
  pair('dl_vlan_pcp', number(7)),
  pair('vlan_vid', number(8191)),
);
const ipKey = fc.oneof(
  pair(
    'nw_tos',
    number(63).map((v) => v * 4),
  ),
  pair('nw_ecn', number(3)),
  pair('nw_ttl', number(255)),
  pair('nw_frag', fc.constantFrom('no', 'yes', 'first', 'later', 'not_later')),
  pair('ip_frag[0]', number(1)),
);
const ip4Key = fc.oneof(pair('nw_src', ipv4Masked), pair('ip_dst', ipv4Masked));
const ip6Key = fc.oneof(
  pair('ipv6_src', ipv6Masked),
  pair('ipv6_dst', ipv6Masked),
  pair('ipv6_label', masked(20)),
);
const portKey = fc.oneof(pair('tp_src', masked(16)), pair('tp_dst', masked(16)));
const tcpFlags = pair('tcp_flags', fc.oneof(flags(['fin', 'syn', 'ack', 'ns', '[800]']), masked(12)));
const arpKey = fc.oneof(pair('arp_op', number(255)), pair('arp_spa', ipv4Masked), pair('arp_tha', mac));

/** A protocol and keys that it has. */
const header = fc.oneof(
  fc.constant(['']),
  fc.tuple(fc.constantFrom('tcp', 'udp', 'sctp', 'icmp'), ipKey, ip4Key, portKey),
  fc.tuple(fc.constantFrom('tcp6', 'udp6', 'icmp6'), ipKey, ip6Key, portKey),
  fc.tuple(fc.constantFrom('tcp', 'tcp6'), tcpFlags),
  fc.tuple(fc.constantFrom('arp', 'rarp'), arpKey, arpKey),
  fc.tuple(fc.constant('ip'), ip4Key, pair('nw_proto', number(255))),
  fc.constant(['icmp6,icmpv6_type=135,icmpv6_code=0,nd_target=fc00::1,nd_sll=1:2:3:4:5:6']),
  fc.tuple(fc.constant('dl_type=0x88cc')),
);

const exec = fc.oneof(
  masked(32).map((v) => `set_field:${v}->ct_mark`),
  masked(128).map((v) => `set_field:${v}->ct_label`),
  number(255).map((v) => `load:${v}->NXM_NX_CT_LABEL[60..67]`),
  fc.constant('move:NXM_NX_REG3[]->NXM_NX_CT_MARK[]'),
);
const ct = fc
  .tuple(fc.boolean(), fc.option(number(65535)), fc.option(number(254)), fc.array(exec, { maxLength: 3 }))
  .map(([force, zone, table, list]) =>
    ['commit', force ? 'force' : '', zone === null ? 'zone=reg0[4..19]' : `zone=${zone}`]
      .concat(table === null ? [] : [`table=${table}`], list.length > 0 ? [`exec(${list.join()})`] : [])
      .filter((arg) => arg !== '')
      .join(','),
  )
  .map((args) => `ct(${args})`);
const anyAction = fc.oneof(
  number(65279).map((port) => `output:${port}`),
  fc.constantFrom(
    'LOCAL',
    'IN_PORT',
    'NORMAL',
    'FLOOD',
    'ALL',
    'ct_clear',
    'pop_vlan',
    'strip_vlan',
    'dec_ttl',
  ),
  fc.constantFrom('output:reg0[0..15]', 'resubmit:5', 'resubmit(,7)', 'resubmit(LOCAL,7)', 'mod_nw_ttl:3'),
  number(4095).map((vid) => `mod_vlan_vid:${vid}`),
  number(7).map((pcp) => `set_vlan_pcp:${pcp}`),
  mac.map((m) => `mod_dl_src:${m}`),
  ipv4.map((a) => `mod_nw_dst:${a}`),
  number(65535).map((port) => `mod_tp_src:${port}`),
  fc.tuple(mac, mac).map(([v, m]) => `set_field:${v}/${m}->eth_dst`),
  masked(64).map((v) => `set_field:${v}->metadata`),
  masked(128).map((v) => `set_field:${v}->xxreg2`),
  number(15).map((v) => `load:${v}->NXM_NX_REG9[7..10]`),
  fc.constantFrom('move:NXM_NX_CT_STATE[]->NXM_OF_ETH_SRC[0..31]', 'move:reg1[3]->reg2[31]'),
);

const rule = fc
  .tuple(
    number(200),
    number(65535),
    hex(64),
    number(65535),
    fc.array(anyKey, { maxLength: 5 }),
    header,
    fc.array(anyAction, { maxLength: 6 }),
    fc.array(ct, { maxLength: 2 }),
    fc.boolean(),
  )
  .map(([table, priority, cookie, idle, keys, head, actions, cts, goto]) => {
    const isIp = /^(ip|tcp|udp|sctp|icmp)/.test(head[0]);
    // Commits of invalid packets are refused.
    const match = [
      ...keys.map((k) => k.replace('+inv', '-inv')).filter((k) => !/^ct_state=\d/.test(k)),
      ...head,
    ];
    const all = [...actions, ...(isIp ? cts : []), ...(goto ? [`goto_table:${table + 1}`] : [])];
    return `table=${table},priority=${priority},cookie=${cookie},idle_timeout=${idle},${match.join(',')},actions=${all.join(',')}`;
  });

test('property: a printed rule parses to itself', () => {
  fc.assert(
    fc.property(rule, (text) => {
      const [first] = parseFlows(text, 'first');
      const printed = formatRule(first);
      const [again] = parseFlows(printed, 'again');
      for (const key of ['table', 'priority', 'cookie', 'idleTimeout', 'match', 'actions'] as const) {
        assert.deepEqual(again[key], first[key], `${text}\n${printed}`);
      }
    }),
    { numRuns: 2000 },
  );
});

test('property: a damaged flow parses or is refused with positions inside it, and the parser returns', () => {
  const damage = fc.tuple(
    rule,
    fc.array(fc.tuple(fc.nat(), fc.nat(3), fc.string({ maxLength: 2 })), { maxLength: 4 }),
  );
  fc.assert(
    fc.property(damage, ([text, edits]) => {
      let flow = text;
      for (const [at, drop, insert] of edits) {
        const i = at % (flow.length + 1);
        flow = flow.slice(0, i) + insert.replace('\n', ',') + flow.slice(i + drop);
      }
      try {
        parseFlows(flow, 'damaged');
      } catch (error) {
        assert.ok(error instanceof FlowSyntaxError, `${flow}\n${error}`);
        for (const { pos } of error.problems) {
          assert.ok(pos.column >= 1 && pos.length >= 1 && pos.column + pos.length <= flow.length + 2, flow);
        }
      }
    }),
    { numRuns: 2000 },
  );
});
