/** Options of the command line: what they accept, and what they say otherwise. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { timeLeft } from '../../../src/cli/analyze.js';
import {
  collectIn,
  collectOut,
  parseInside,
  parsePort,
  parsePortList,
  parseRssKey,
  parseWorkers,
  wholeNumber,
} from '../../../src/cli/options.js';

test('ports: 1 to 65279 and LOCAL, by name or number', () => {
  assert.equal(parsePort('1'), 1);
  assert.equal(parsePort('65279'), 65279);
  assert.equal(parsePort('LOCAL'), 65534);
  assert.equal(parsePort('local'), 65534);
  assert.equal(parsePort('65534'), 65534);
  for (const text of ['0', '65280', '65535', '-1', '1.5', '', ' 1', '0x1', 'eth0', '1e2']) {
    assert.throws(() => parsePort(text), /is not a port; expected 1 to 65279 or LOCAL/, text);
  }
});

test('port lists: commas, blanks allowed', () => {
  assert.deepEqual(parsePortList('3, 4,LOCAL'), [3, 4, 65534]);
  assert.throws(() => parsePortList('3,,4'), /not a port/);
});

test('--in: PORT=FILE, collected; the file may have an equals sign', () => {
  const one = collectIn('1=a.pcap', []);
  assert.deepEqual(collectIn('2=dir/b=c.pcap', one), [
    { port: 1, path: 'a.pcap' },
    { port: 2, path: 'dir/b=c.pcap' },
  ]);
  assert.throws(() => collectIn('a.pcap', []), /expected PORT=FILE/);
  assert.throws(() => collectIn('=a.pcap', []), /expected PORT=FILE/);
  assert.throws(() => collectIn('x=a.pcap', []), /"x" is not a port/);
});

test('--out: PORT=FILE, FILE.pcapng, or -', () => {
  assert.deepEqual(collectOut('2=x.pcap', []), [{ port: 2, path: 'x.pcap' }]);
  assert.deepEqual(collectOut('all.pcapng', []), [{ port: null, path: 'all.pcapng' }]);
  assert.deepEqual(collectOut('a=b.PCAPNG', []), [{ port: null, path: 'a=b.PCAPNG' }]);
  assert.deepEqual(collectOut('-', []), [{ port: null, path: '-' }]);
  assert.deepEqual(collectOut('local=-', []), [{ port: 65534, path: '-' }]);
  assert.throws(() => collectOut('x.pcap', []), /expected PORT=FILE for one port, or FILE.pcapng for all/);
  assert.throws(() => collectOut('0=x.pcap', []), /not a port/);
});

test('--workers: 0 to 128 or auto', () => {
  assert.equal(parseWorkers('0'), 0);
  assert.equal(parseWorkers('128'), 128);
  assert.equal(parseWorkers('auto'), 'auto');
  for (const text of ['129', '-1', '2.5', 'many', ''])
    assert.throws(() => parseWorkers(text), /0 to 128, or auto/, text);
});

test('whole numbers keep to their range', () => {
  const parse = wholeNumber(1, 10);
  assert.equal(parse('10'), 10);
  for (const text of ['0', '11', '1.0', '1e1', '', '-1', ' 3'])
    assert.throws(() => parse(text), /from 1 to 10/, text);
});

test('--rss-key: 40 bytes, colons allowed', () => {
  const key = parseRssKey('6d5a'.repeat(20));
  assert.equal(key.length, 40);
  assert.deepEqual([...key.subarray(0, 4)], [0x6d, 0x5a, 0x6d, 0x5a]);
  assert.deepEqual(parseRssKey(new Array(40).fill('AB').join(':')), new Uint8Array(40).fill(0xab));
  for (const text of ['', '6d5a', `${'6d5a'.repeat(20)}00`, 'zz'.repeat(40)]) {
    assert.throws(() => parseRssKey(text), /40 bytes in hexadecimal/);
  }
});

test('--inside: says what is wrong with a prefix', () => {
  assert.throws(() => parseInside('10.0.0.0/99'), /at most 32 bits/);
});

test('analyze: how much time is left', () => {
  assert.equal(timeLeft(0.1, 0.5), '?');
  assert.equal(timeLeft(10, 0), '?');
  assert.equal(timeLeft(10, Number.NaN), '?');
  assert.equal(timeLeft(10, 0.25), '30 s');
  assert.equal(timeLeft(100, 0.4), '2 min 30 s');
  assert.equal(timeLeft(600, 0.1), '1 h 30 min');
  assert.equal(timeLeft(10, 1.01), '0 s');
});
