/** Property: what formatRule prints parses to the same rule. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatFlows } from '../../../src/cli/flows.js';
import { formatRule } from '../../../src/openflow/format.js';
import { formatGroup, parseGroups } from '../../../src/openflow/groups.js';
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
  pair('pkt_mark', masked(32)),
  pair('tun_id', masked(64)),
  pair('tun_src', ipv4Masked),
  pair('tun_dst', ipv4Masked),
  fc.constant('recirc_id=0'),
  pair('conj_id', hex(32)),
  pair('actset_output', fc.constantFrom('1', '65279', 'LOCAL', 'UNSET')),
  pair('reg27', masked(32)),
  pair('xreg13', masked(64)),
  pair('xxreg7', masked(128)),
  fc.constantFrom('in_port_oxm=3', 'packet_type=(0,0)', 'eth'),
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
  fc.constant(['icmp6,icmpv6_type=136,icmpv6_code=0,nd_reserved=0x40000000,nd_options_type=2']),
  fc.tuple(fc.constantFrom('mpls', 'mplsm'), pair('mpls_label', number(0xfffff)), pair('mpls_tc', number(7))),
  fc.tuple(fc.constantFrom('mpls', 'mplsm'), pair('mpls_bos', number(1)), pair('mpls_ttl', number(255))),
  fc.tuple(fc.constant('dl_type=0x88cc')),
);

const exec = fc.oneof(
  masked(32).map((v) => `set_field:${v}->ct_mark`),
  masked(128).map((v) => `set_field:${v}->ct_label`),
  number(255).map((v) => `load:${v}->NXM_NX_CT_LABEL[60..67]`),
  fc.constant('move:NXM_NX_REG3[]->NXM_NX_CT_MARK[]'),
);
const portRange = fc
  .tuple(fc.integer({ min: 1, max: 65535 }), number(100))
  .map(([from, n]) => `:${from}-${Math.min(65535, from + n)}`);
const ipv4Range = fc
  .tuple(number(255), number(255))
  .map(([a, b]) => `=10.0.0.${Math.min(a, b)}-10.0.0.${Math.max(a, b)}`);
const nat = fc
  .tuple(
    fc.constantFrom('src', 'dst'),
    fc.option(fc.tuple(ipv4Range, fc.option(portRange))),
    fc.uniqueArray(fc.constantFrom('random', 'persistent')),
  )
  .map(([type, range, flags]) => `nat(${[type + (range?.join('') ?? ''), ...flags].join()})`);
const ct = fc
  .tuple(
    fc.boolean(),
    fc.option(number(65535)),
    fc.option(number(254)),
    fc.array(exec, { maxLength: 3 }),
    fc.option(fc.oneof(fc.constantFrom('nat', 'nat(src)'), nat)),
  )
  .map(([force, zone, table, list, nat]) =>
    ['commit', force ? 'force' : '', zone === null ? 'zone=reg0[4..19]' : `zone=${zone}`, nat ?? '']
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

const fields = fc.constantFrom('eth_src', 'symmetric_l4', 'symmetric_l3l4+udp', 'nw_dst', 'symmetric_l3');
const bytes = fc.uint8Array({ maxLength: 20 }).map((b) => Buffer.from(b).toString('hex'));
const spec = fc.oneof(
  fc.constantFrom(
    'in_port',
    'NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]',
    'NXM_OF_VLAN_TCI[0..11]',
    'reg1[0..15]=reg2[4..19]',
  ),
  fc.constantFrom(
    'load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]',
    'output:NXM_OF_IN_PORT[]',
    'output:reg4[0..15]',
  ),
  hex(32).map((v) => `reg3=${v}`),
  number(255).map((v) => `NXM_NX_REG3[8..15]=${v}`),
  mac.map((v) => `eth_src=${v}`),
  fc.tuple(ipv4, number(65535)).map(([a, port]) => `eth_type=0x800,nw_proto=17,ip_dst=${a},udp_dst=${port}`),
  hex(64).map((v) => `load:${v}->NXM_NX_TUN_ID[]`),
);
const learn = fc
  .tuple(number(253), number(65535), number(65535), hex(64), fc.array(spec, { maxLength: 5 }), fc.boolean())
  .map(([table, idle, priority, cookie, specs, odd]) =>
    [
      `table=${table}`,
      `idle_timeout=${idle}`,
      `fin_hard_timeout=${idle}`,
      `priority=${priority}`,
      `cookie=${cookie}`,
    ]
      .concat(odd ? ['send_flow_rem', 'delete_learned', 'limit=7', 'result_dst=reg0[3]'] : [], specs)
      .join(),
  )
  .map((args) => `learn(${args})`);
/** Actions of later versions and of Open vSwitch alone. */
const oddAction = fc.oneof(
  learn,
  fc.constantFrom(
    'group:7',
    'push:NXM_NX_REG0[3..9]',
    'pop:reg31',
    'exit',
    'pop_queue',
    'TABLE',
    'dec_ttl(1,2)',
  ),
  fc
    .tuple(number(65279), fc.integer({ min: 14, max: 0xffffffff }))
    .map(([p, n]) => `output(port=${p},max_len=${n})`),
  fc
    .tuple(number(65535), number(65535))
    .map(([n, id]) => `controller(max_len=${n},id=${id},reason=action_set,pause)`),
  fc.tuple(bytes, number(9)).map(([hex, meter]) => `controller(userdata=${hex},meter_id=${meter})`),
  number(65535).map((n) => `controller:${n}`),
  fc.tuple(number(65279), number(0xffffffff)).map(([p, q]) => `enqueue:${p}:${q}`),
  number(0xffffffff).map((q) => `set_queue:${q}`),
  hex(64).map((id) => `set_tunnel64:${id}`),
  bytes.map((b) => `note:${b}`),
  fc
    .tuple(fields, number(65535), number(65535))
    .map(([f, b, n]) => `multipath(${f},${b},hrw,${n + 1},5,reg2[0..15])`),
  fc
    .tuple(fields, fc.array(number(65279)))
    .map(([f, ports]) => `bundle(${f},3,active_backup,ofport,members:${ports})`),
  fc
    .tuple(fields, fc.array(number(65279)))
    .map(([f, ports]) => `bundle_load(${f},3,hrw,ofport,reg5[],members:${ports})`),
  number(65535).map((n) => `check_pkt_larger(${n})->NXM_NX_REG1[9]`),
  fc.tuple(number(65535), number(65535)).map(([a, b]) => `fin_timeout(idle_timeout=${a},hard_timeout=${b})`),
  fc.constantFrom('push_mpls:0x8847,set_field:77->mpls_label,dec_mpls_ttl', 'set_mpls_tc(3),pop_mpls:0x8847'),
);
const nested = fc.array(fc.oneof(anyAction, oddAction), { maxLength: 4 });
const clone = nested.map((list) => `clone(${list.join()})`);
const actionSet = fc
  .array(anyAction, { maxLength: 4 })
  .map((list) => list.filter((action) => !/^output:reg/.test(action)));
/** What may follow the actions, in their order. */
const instructions = fc
  .tuple(fc.boolean(), fc.option(actionSet), fc.option(masked(64)))
  .map(([clear, write, metadata]) =>
    (clear ? ['clear_actions'] : []).concat(
      write === null ? [] : [`write_actions(${write.join()})`],
      metadata === null ? [] : [`write_metadata:${metadata}`],
    ),
  );
const ruleFlags = fc.uniqueArray(fc.constantFrom('send_flow_rem', 'check_overlap', 'importance=3'));

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
    fc.array(fc.oneof(oddAction, clone), { maxLength: 3 }),
    instructions,
    ruleFlags,
  )
  .map(([table, priority, cookie, idle, keys, head, actions, cts, goto, odd, after, flags]) => {
    const isIp = /^(ip|tcp|udp|sctp|icmp)(,|$)/.test(head[0]);
    // Commits of invalid packets are refused.
    const match = [
      ...keys.map((k) => k.replace('+inv', '-inv')).filter((k) => !/^ct_state=\d/.test(k)),
      ...head,
    ];
    const all = [
      ...actions,
      ...(isIp ? cts : []),
      ...odd,
      ...after,
      ...(goto ? [`goto_table:${table + 1}`] : []),
    ];
    return `table=${table},priority=${priority},cookie=${cookie},idle_timeout=${idle},${[...flags, ...match].join(',')},actions=${all.join(',')}`;
  });

test('property: a printed rule parses to itself', () => {
  fc.assert(
    fc.property(rule, (text) => {
      const [first] = parseFlows(text, 'first');
      const printed = formatRule(first);
      const [again] = parseFlows(printed, 'again');
      for (const key of [
        'table',
        'priority',
        'cookie',
        'idleTimeout',
        'importance',
        'flags',
        'match',
        'actions',
      ] as const) {
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

test('property: a printed group parses to itself', () => {
  const bucket = fc
    .tuple(number(65535), fc.option(number(65279)), fc.option(number(0xffffff00)), nested)
    .map(([weight, port, group, actions]) =>
      [`weight:${weight}`]
        .concat(port === null ? [] : [`watch_port:${port}`], group === null ? [] : [`watch_group:${group}`])
        .concat(`actions=${actions.filter((a) => !a.startsWith('check_pkt')).join() || 'drop'}`),
    )
    .map((parts) => `bucket=${parts.join()}`);
  const method = fc.constantFrom(
    '',
    'selection_method=dp_hash,selection_method_param=7',
    'selection_method=hash',
    'selection_method=hash,fields=ip_dst=255.255.0.255',
    'selection_method=hash,fields(tcp_src,eth_src=ff:00:00:00:00:00,reg3=0xff)',
  );
  fc.assert(
    fc.property(number(0xffffff00), method, fc.array(bucket, { maxLength: 5 }), (id, how, buckets) => {
      const text = `group_id=${id},type=select,${how},${buckets.join()}`;
      const [first] = parseGroups(text, 'first');
      const printed = formatGroup(first);
      const [again] = parseGroups(printed, 'again');
      assert.deepEqual({ ...again, pos: 0, text: '' }, { ...first, pos: 0, text: '' }, `${text}\n${printed}`);
      assert.equal(formatGroup(again), printed);
    }),
    { numRuns: 500 },
  );
});

test('property: formatting a file is idempotent and keeps its rules and comments', () => {
  const line = fc.oneof(
    rule,
    fc.constantFrom('', '# a comment', '  # another  '),
    rule.map((r) => `add ${r} # why`),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
      const text = lines.join('\n');
      const once = formatFlows(text, 'once');
      assert.equal(formatFlows(once, 'twice'), once);
      const plain = (file: string) => parseFlows(file, 'file').map((r) => ({ ...r, pos: 0, text: '' }));
      assert.deepEqual(plain(once), plain(text));
      assert.equal(once.split('#').length, text.split('#').length);
    }),
    { numRuns: 200 },
  );
});
