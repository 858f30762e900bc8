/** Events files: times to the nanosecond, commands, and mistakes with their line. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventError, parseEvents } from '../../../src/coordinator/events.js';

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

test('events: every command of the datapath that there is', () => {
  for (const appctl of [
    ['dpctl/flush-conntrack'],
    ['dpctl/flush-conntrack', 'zone=5'],
    ['dpctl/flush-conntrack', 'netdev@ovs-netdev', 'zone=65535'],
    ['dpctl/ct-enable-tcp-seq-chk'],
    ['dpctl/ct-disable-tcp-seq-chk'],
  ]) {
    assert.equal(parseEvents(JSON.stringify({ t: 1, appctl }), 'e').length, 1);
  }
});

const MISTAKES: [string, string, RegExp][] = [
  ['not JSON', '{"t": 1', /not JSON .*; expected one object a line/],
  ['not an object', '[1, 2]', /expected an object such as/],
  ['null', 'null', /expected an object such as/],
  ['no time', `{${FLUSH}}`, /"t" is missing; expected seconds/],
  ['a time that is none', `{"t": "noon", ${FLUSH}}`, /"t" is "noon"; expected seconds/],
  ['a key of a later version', `{"t": 1, "ofctl": ["del-flows"]}`, /"ofctl" is not supported yet/],
  ['no command', '{"t": 1}', /expected "appctl" with a list of strings/],
  ['an empty command', '{"t": 1, "appctl": []}', /expected "appctl" with a list of strings/],
  ['a command of numbers', '{"t": 1, "appctl": [1]}', /expected "appctl" with a list of strings/],
  [
    'an unknown command',
    '{"t": 1, "appctl": ["dpctl/explode"]}',
    /"dpctl\/explode" is not supported yet; expected one of/,
  ],
  [
    'a zone out of range',
    '{"t": 1, "appctl": ["dpctl/flush-conntrack", "zone=65536"]}',
    /zone=0 to zone=65535/,
  ],
  [
    'a flush by tuple',
    '{"t": 1, "appctl": ["dpctl/flush-conntrack", "ct_nw_src=10.0.0.1"]}',
    /flushing is by zone/,
  ],
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
