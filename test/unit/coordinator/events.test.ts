/** Events files: times to the nanosecond, commands, and mistakes with their line. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { appctlUsage } from '../../../src/coordinator/appctl.js';
import { EventError, outcomeJson, parseEvents as parse } from '../../../src/coordinator/events.js';
import { ofctlUsage } from '../../../src/coordinator/ofctl.js';
import { vsctlUsage } from '../../../src/coordinator/vsctl.js';

const parseEvents = (text: string, file: string) => parse(text, file, { ports: [1, 2, 3] });
const FLUSH = '"appctl": ["dpctl/flush-conntrack"]';

test('events: nanoseconds of today survive', () => {
  const [e] = parseEvents(`{"t": 1426168788.123456789, ${FLUSH}}`, 'e');
  assert.deepEqual([e.sec, e.nsec], [1426168788, 123456789]);
});

test('events: whole seconds, short fractions, text, exponents and times before 1970', () => {
  const times: [string, number, number][] = [
    ['5', 5, 0],
    ['0', 0, 0],
    ['12.5', 12, 500_000_000],
    ['"12.000000001"', 12, 1],
    ['1e3', 1000, 0],
    ['-1', -1, 0],
    ['-0.25', -1, 750_000_000],
  ];
  for (const [t, sec, nsec] of times) {
    const [e] = parseEvents(`{"t": ${t}, ${FLUSH}}`, 'e');
    assert.deepEqual([e.sec, e.nsec], [sec, nsec], t);
  }
});

test('events: come in order of time, ties in file order; blank lines and comments count as lines', () => {
  const events = parseEvents(
    `# first\n\n{"t": 9, ${FLUSH}}\n{"t": 3, ${FLUSH}}\n  # another\n{"t": 9, ${FLUSH}}\n{"t": 3.000000001, ${FLUSH}}\n`,
    'ev.ndjson',
  );
  assert.deepEqual(
    events.map((e) => e.place),
    ['ev.ndjson:4', 'ev.ndjson:7', 'ev.ndjson:3', 'ev.ndjson:6'],
  );
});

test('events: every kind, with a note', () => {
  for (const event of [
    { appctl: ['dpctl/flush-conntrack'] },
    { appctl: ['dpctl/flush-conntrack', 'zone=5'], note: 'the night shift' },
    { appctl: ['dpctl/flush-conntrack', 'netdev@ovs-netdev', 'zone=65535'] },
    { vsctl: ['add-zone-tp', 'netdev', 'zone=5', 'udp_single=7'] },
    { port: [3, 'down'] },
    { port: ['LOCAL', 'up'] },
  ]) {
    assert.equal(parseEvents(JSON.stringify({ t: 1, ...event }), 'e').length, 1);
  }
});

test('events: a line of the log has the time with all its digits, the command, and what came of it', () => {
  const lines: [string, string][] = [
    ['1426168788.123456789', '1426168788.123456789'],
    ['12.500', '12.5'],
    ['12', '12'],
    ['-0.25', '-0.25'],
    ['-1.5', '-1.5'],
  ];
  for (const [t, logged] of lines) {
    const [event] = parseEvents(`{"t": ${t}, ${FLUSH}}`, 'e');
    assert.equal(
      outcomeJson({ event, result: '', error: null }),
      `{"t":${logged},"appctl":["dpctl/flush-conntrack"],"result":""}`,
    );
  }
  const [event] = parseEvents('{"t": 1, "port": [3, "down"]}', 'e');
  assert.equal(outcomeJson({ event, result: null, error: 'no' }), '{"t":1,"port":[3,"down"],"error":"no"}');
});

test('events: all mistakes of a file are told at once', () => {
  const text = `{"t": 0, ${FLUSH}}\n{"t": 1}\n[]\n{"t": 2, "port": [9, "up"]}\n`;
  assert.throws(
    () => parseEvents(text, 'ev.ndjson'),
    (error: Error) => {
      assert.ok(error instanceof EventError);
      assert.deepEqual(
        error.problems.map((p) => p.split(': ')[0]),
        ['ev.ndjson:2', 'ev.ndjson:3', 'ev.ndjson:4'],
      );
      return true;
    },
  );
});

test('events: the table must have room for the largest maxconns', () => {
  const events = parseEvents(
    '{"t": 1, "appctl": ["dpctl/ct-set-maxconns", "500"]}\n{"t": 2, "appctl": ["dpctl/ct-get-maxconns"]}',
    'e',
  );
  assert.deepEqual(
    events.map((e) => e.capacity),
    [500, 0],
  );
});

test('events: docs/events.md has every command, and its examples are right', () => {
  const text = fs.readFileSync(fileURLToPath(new URL('../../../../docs/events.md', import.meta.url)), 'utf8');
  const examples = text.match(/^ {4}\{"t": .*$/gm) ?? [];
  assert.ok(examples.length > 10);
  assert.equal(parseEvents(examples.join('\n'), 'docs/events.md').length, examples.length);
  for (const usage of [...appctlUsage(), ...ofctlUsage(), ...vsctlUsage()]) {
    const name = usage.split(' ').find((word) => /^[a-z]/.test(word)) as string;
    assert.match(text, new RegExp(`\\b${name}\\b`), `${name} is not in docs/events.md`);
  }
});

const MISTAKES: [string, string, RegExp][] = [
  ['not JSON', '{"t": 1', /not JSON .*; expected one object a line/],
  ['not an object', '[1, 2]', /expected an object such as/],
  ['null', 'null', /expected an object such as/],
  ['no time', `{${FLUSH}}`, /"t" is missing; expected seconds/],
  [
    'a time beyond all captures',
    `{"t": 21474836481700000589.5, ${FLUSH}}`,
    /expected at most 1000000000000 seconds/,
  ],
  ['a time that is none', `{"t": "noon", ${FLUSH}}`, /"t" is "noon"; expected seconds/],
  ['an unknown key', `{"t": 1, "appctrl": []}`, /"appctrl" is not known; expected "t" and one of "appctl"/],
  ['no command', '{"t": 1}', /nothing to do; expected one of "appctl"/],
  ['two commands', `{"t": 1, ${FLUSH}, "port": [1, "up"]}`, /2 things to do at once; expected one of/],
  ['an empty command', '{"t": 1, "appctl": []}', /"appctl" is \[\]; expected a list of strings/],
  ['a command of numbers', '{"t": 1, "vsctl": [1]}', /"vsctl" is \[1\]; expected a list of strings/],
  ['a port that is none', '{"t": 1, "port": ["eth0", "up"]}', /expected a port and "up" or "down"/],
  ['a port that is not there', '{"t": 1, "port": [7, "up"]}', /no port 7, only 1, 2, 3, LOCAL; .* --ports 7/],
  ['a port that is sideways', '{"t": 1, "port": [1, "left"]}', /port 1 can't be "left"; expected "up"/],
  ...[
    ['an unknown command', ['dpctl/explode'], /"dpctl\/explode" is not a valid command; expected one of/],
    ['an unknown option', ['dpctl/dump-conntrack', '-x'], /Unrecognized option -x; expected -m or -s/],
    ['a zone out of range', ['dpctl/flush-conntrack', 'zone=65536'], /expected zone=0 to zone=65535/],
    [
      'mark behind labels',
      ['dpctl/flush-conntrack', 'labels=1', 'mark=1'],
      /invalid conntrack tuple field: mark/,
    ],
    [
      'a mark of letters',
      ['dpctl/flush-conntrack', 'mark=red'],
      /failed to parse mark: "red"; expected mark=VALUE/,
    ],
    ['three tuples', ['dpctl/flush-conntrack', '', '', 'ct_nw_src=1.1.1.1'], /invalid arguments/],
    [
      'a tuple of two families',
      ['dpctl/flush-conntrack', 'ct_nw_src=1.1.1.1,ct_ipv6_dst=::1'],
      /L3 protocol does not match/,
    ],
    [
      'an address twice',
      ['dpctl/flush-conntrack', 'ct_nw_src=1.1.1.1,ct_nw_src=1.1.1.1'],
      /set multiple times/,
    ],
    [
      'an address that is none',
      ['dpctl/flush-conntrack', 'ct_nw_src=1.1.1'],
      /failed to parse field ct_nw_src/,
    ],
    ['ports without protocol', ['dpctl/flush-conntrack', 'ct_tp_src=1'], /port is set without protocol/],
    ['an ICMP id for UDP', ['dpctl/flush-conntrack', 'ct_nw_proto=17,icmp_id=1'], /invalid L4 fields/],
    ['a field without value', ['dpctl/flush-conntrack', 'ct_nw_src='], /field ct_nw_src missing value/],
    ['too few arguments', ['dpctl/ct-set-limits'], /too few arguments; expected dpctl\/ct-set-limits \[dp\]/],
    ['too many arguments', ['dpctl/ct-get-nconns', '1'], /"1" is an argument too many/],
    [
      'half a limit',
      ['dpctl/ct-set-limits', 'zone=1'],
      /failed to parse zone limit: "zone=1"; expected zone=N,limit=L/,
    ],
    [
      'a default behind a zone',
      ['dpctl/ct-set-limits', 'zone=1,limit=1', 'default=3'],
      /invalid zone limit field: default; expected default=LIMIT in front/,
    ],
    ['a limit of letters', ['dpctl/ct-set-limits', 'default=many'], /invalid default limit/],
    ['zones without zone=', ['dpctl/ct-get-limits', '1,2'], /invalid argument 1,2; expected zone=N1/],
    ['maxconns of letters', ['dpctl/ct-set-maxconns', 'many'], /maxconns missing or malformed/],
    [
      'maxconns beyond all bounds',
      ['dpctl/ct-set-maxconns', '20000001'],
      /more than Shardtrack can hold; expected 20000000 at most/,
    ],
    ['no sweeping', ['dpctl/ct-set-sweep-interval', '0'], /invalid sweep value/],
  ].map(([name, appctl, says]) => [name, JSON.stringify({ t: 1, appctl }), says] as [string, string, RegExp]),
  ...[
    ['vsctl: an unknown command', ['add-br', 'br0'], /unknown command 'add-br'; expected one of add-zone-tp/],
    [
      'vsctl: an unknown option',
      ['--if-exists', 'add-zone-tp', 'netdev', 'zone=1', 'udp_single=1'],
      /no '--if-exists' option/,
    ],
    [
      'vsctl: too few arguments',
      ['add-zone-tp', 'netdev', 'zone=1'],
      /has 2 arguments; expected add-zone-tp DATAPATH/,
    ],
    ['vsctl: another datapath', ['list-zone-tp', 'br0'], /datapath br0 does not exist; expected netdev/],
    [
      'vsctl: a zone without zone=',
      ['del-zone-tp', 'netdev', '5'],
      /invalid zone argument, 5; expected zone=N/,
    ],
    [
      'vsctl: an unknown timeout',
      ['add-zone-tp', 'netdev', 'zone=5', 'udp=1'],
      /"udp" is no timeout; expected one of tcp_syn_sent/,
    ],
    [
      'vsctl: a timeout without a number',
      ['add-zone-tp', 'netdev', 'zone=5', 'udp_single'],
      /expected udp_single=SECONDS/,
    ],
    ['vsctl: a limit of letters', ['set-zone-limit', 'netdev', '5', 'x'], /invalid limit, x/],
    ['vsctl: a zone of letters', ['del-zone-limit', 'netdev', 'x'], /invalid zone id, x/],
  ].map(([name, vsctl, says]) => [name, JSON.stringify({ t: 1, vsctl }), says] as [string, string, RegExp]),
];
for (const [name, line, says] of MISTAKES) {
  test(`events: ${name}: the message names file and line`, () => {
    assert.throws(
      () => parseEvents(`{"t": 0, ${FLUSH}}\n\n${line}\n`, 'ev.ndjson'),
      (error: Error) => {
        assert.ok(error instanceof EventError);
        assert.ok(error.message.startsWith('ev.ndjson:3: '), error.message);
        assert.match(error.message, says);
        return true;
      },
    );
  });
}
