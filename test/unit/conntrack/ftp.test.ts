/** What an FTP control connection announces, spelling by spelling. That Open vSwitch reads it the same way is
 *  recorded in the fixtures ftp-commands and ftp6-commands. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  announcesData,
  FtpAnnouncement,
  ftpMessage,
  readAnnouncement4,
  readAnnouncement6,
} from '../../../src/conntrack/ftp.js';
import { formatIpv6, parseIpv4Strict, parseIpv6Strict } from '../../../src/wire/address.js';

const a = new FtpAnnouncement();

for (const [message, port, address] of [
  ['PORT 10,1,1,1,4,1\r', 1025, 0x0a010101],
  ['port 10,1,1,1,255,255', 65535, 0x0a010101],
  ['EPRT |1|192.168.0.200|6446|', 6446, 0xc0a800c8 | 0],
  ['227 Entering Passive Mode (10,1,1,2,0,21)', 21, 0x0a010102],
  ['229 Entering Extended Passive Mode (|||6446|)', 6446, null],
] as const) {
  test(`ftp: ${message.trim()}`, () => {
    assert.ok(announcesData(message, false));
    assert.ok(readAnnouncement4(message, a));
    assert.equal(a.port, port);
    assert.equal(a.hasAddress ? a.address[0] : null, address);
    if (a.hasAddress) {
      const text = message.slice(a.at, a.at + a.size).replaceAll(',', '.');
      assert.equal(parseIpv4Strict(text), address, 'where the address stands');
    }
  });
}

for (const message of [
  'PORT 10,1,1,1,4',
  'PORT 10,1,1,300,4,1',
  'PORT 10,1,1,1,4,256',
  'EPRT |1|10.1.1.1|70000|',
  '227 none',
]) {
  test(`ftp: ${message} announces nothing`, () => assert.equal(readAnnouncement4(message, a), false));
}

test('ftp: EPRT and EPSV over IPv6', () => {
  assert.ok(readAnnouncement6('EPRT |2|fc00::1|1025|', a));
  assert.deepEqual([a.port, a.active, a.at, a.size], [1025, true, 8, 7]);
  assert.deepEqual([...a.address], [0xfc000000 | 0, 0, 0, 1]);
  assert.ok(readAnnouncement6('229 Entering Extended Passive Mode (|||6446|)', a));
  assert.deepEqual([a.port, a.active, a.hasAddress], [6446, false, false]);
  assert.ok(!readAnnouncement6('EPRT |1|10.1.1.1|1025|', a));
  assert.ok(announcesData('229 entering extended passive mode', true));
  assert.ok(!announcesData('PORT 10,1,1,1,4,1', true));
});

test('ftp: a message ends before its last byte, at a zero byte, or after 127', () => {
  const view = (text: string) => new DataView(Uint8Array.from(Buffer.from(text, 'latin1')).buffer);
  assert.equal(ftpMessage(view('NOOP\r\n'), 0, 6), 'NOOP\r');
  assert.equal(ftpMessage(view('NO\0OP\r\n'), 0, 7), 'NO');
  assert.equal(ftpMessage(view('x'.repeat(300)), 0, 300).length, 127);
  assert.equal(ftpMessage(view(''), 0, 0), '');
});

test('ftp: whatever is sent, reading returns, and an announced address stands where it says (property)', () => {
  const piece = fc.constantFrom(
    'PORT',
    'EPRT',
    '227',
    '229',
    ' ',
    '|',
    ',',
    '.',
    '1',
    '2',
    '10',
    '255',
    '65535',
    '(',
    ':',
    'fc00',
    '\r',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 24 }), (pieces) => {
      const message = pieces.join('');
      for (const six of [false, true]) {
        if (!(six ? readAnnouncement6 : readAnnouncement4)(message, a)) continue;
        assert.ok(a.port >= 0 && a.port <= 0xffff);
        if (!a.hasAddress) continue;
        const text = message.slice(a.at, a.at + a.size);
        const words = new Int32Array(4);
        if (six) assert.ok(parseIpv6Strict(text, words));
        else assert.equal(parseIpv4Strict(text.replaceAll(',', '.')), a.address[0]);
      }
    }),
  );
});

test('addresses: an IPv6 address printed is read back (property)', () => {
  const words = new Int32Array(4);
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constant(0), fc.integer(), fc.constant(0xffff)), { minLength: 4, maxLength: 4 }),
      (given) => {
        assert.ok(parseIpv6Strict(formatIpv6(Int32Array.from(given), 0), words));
        assert.deepEqual([...words], given);
      },
    ),
  );
  for (const text of [
    '',
    ':',
    ':::',
    '1::2::3',
    'fc00::g',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '12345::',
    '::1.2.3',
    '1:2:3:4:5:6:7::8',
  ]) {
    assert.equal(parseIpv6Strict(text, words), false, text);
  }
});
