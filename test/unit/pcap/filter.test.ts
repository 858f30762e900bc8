import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileFilter, FilterSyntaxError } from '../../../src/pcap/filter.js';
import { ACK, arp, data, ethernet, ipv4, ipv6, SYN, tcp, udp } from '../../support/packets.js';

/** What of tcpdump's language the recorded counts (test/differential/filters.test.ts) do not say. */

const passes = (filter: string, frame: Uint8Array, wireLen = frame.length): boolean => {
  // Other bytes around it: nothing outside may be looked at.
  const room = new Uint8Array(frame.length + 128).fill(0xff);
  room.set(frame, 64);
  return compileFilter(filter)(new DataView(room.buffer), 64, frame.length, wireLen);
};
const WEB = ethernet(
  {},
  ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, tcp({ sport: 40000, dport: 80, flags: SYN | ACK })),
);
const DNS6 = ethernet(
  {},
  ipv6({ src: '2001:db8::1', dst: '2001:db8::2' }, udp({ sport: 5000, dport: 53, data: data(9) })),
);

test('filter: an address alone is a host, names of protocols need no backslash', () => {
  assert.ok(passes('10.0.0.1', WEB));
  assert.ok(!passes('10.0.0.3', WEB));
  assert.ok(passes('2001:db8::2', DNS6));
  assert.ok(passes('ip proto tcp and ether proto ip', WEB));
  assert.ok(passes('', WEB));
});

test('filter: a cut frame fails where the filter looks behind its end; lengths are those on the wire', () => {
  assert.ok(!passes('tcp port 80', WEB.subarray(0, 36)));
  assert.ok(!passes('not tcp port 80', WEB.subarray(0, 36)));
  assert.ok(passes('tcp and greater 1000', WEB.subarray(0, 36), 1000));
  assert.ok(!passes('ip', WEB.subarray(0, 13)));
  assert.ok(!passes('arp or less 10', new Uint8Array(0)));
});

test('filter: IPv6, ARP and tags', () => {
  assert.ok(passes('udp dst port domain and net 2001:db8::/32', DNS6));
  assert.ok(!passes('src port 53', DNS6));
  const request = ethernet({}, arp({ op: 1, spa: '10.0.0.1', tpa: '10.0.0.9' }));
  assert.ok(passes('arp dst host 10.0.0.9 and host 10.0.0.1', request));
  const tagged = ethernet({ tags: [{ vid: 7 }] }, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({})));
  assert.ok(passes('vlan 7 and ip host 10.0.0.2', tagged));
  assert.ok(!passes('ip or vlan 8', tagged));
});

test('filter: as many conditions as one likes; what is nested without end is refused, and no stack overflows', () => {
  const many = (n: number, condition: string, joint: string) => Array(n).fill(condition).join(joint);
  assert.ok(passes(`${many(20_000, 'host 10.9.9.9', ' or ')} or host 10.0.0.1`, WEB));
  assert.ok(!passes(`tcp and (${many(20_000, 'port 80', ' and ')}) and udp`, WEB));
  assert.ok(passes(`port (${many(20_000, '81', ' or ')} or 80)`, WEB));
  assert.ok(passes(`ip or ip6 and udp or tcp and ip`, WEB), 'from left to right');
  assert.ok(!passes(`ip or ip6 and udp or udp and ip`, WEB));
  assert.ok(passes(`${'('.repeat(50)}ip${')'.repeat(50)}`, WEB));
  for (const [open, inner, close] of [
    ['(', 'ip', ')'],
    ['not ', 'ip', ''],
    ['len = -', '1', ''],
    ['port (', '80', ')'],
    ['len = ip[', '0', ']'],
    ['len = len ^ ', 'len', ''],
    ['len = len % ', 'len', ''],
    ['len = len + ', 'len', ''],
  ]) {
    const [head, again] = open.startsWith('len = ') ? ['len = ', open.slice(6)] : ['', open];
    const text = `${head}${again.repeat(20_000)}${inner}${close.repeat(20_000)}`;
    assert.throws(() => compileFilter(text), FilterSyntaxError, open);
  }
});

test('filter: mistakes are named with their place', () => {
  for (const [filter, column, message] of [
    ['tcp and', 8, /ends where a condition/],
    ['tcp port', 9, /expected an address, a number or a name/],
    ['(tcp or udp', 12, /expected "\)"/],
    ['tcp)', 4, /expected "and", "or" or the end/],
    ['host www.example.org', 9, /is not of the language/],
    ['host example', 6, /names of hosts are not looked up/],
    ['tcp udp', 5, /"tcp" has no addresses/],
    ['host and', 6, /expected an address/],
    ['ip6 host 10.0.0.1', 10, /needs an address of IPv6/],
    ['net 10.0.0.1/8', 5, /bits that are not of its network/],
    ['net 10.0.0.0/33', 14, /at most 32 bits/],
    ['tcp port 65536', 10, /end at 65535/],
    ['vlan 4096', 6, /below 4096/],
    ['tcp[13:3] = 0', 8, /the size is 1, 2 or 4/],
    ['tcp[13] 5', 9, /expected a comparison/],
    ['mpls 3', 1, /"mpls" is not supported/],
    ['ether proto 5', 13, /EtherTypes begin at 1501/],
    ['len = 4294967296', 7, /does not fit into 32 bits/],
    ['len / 0 = 1', 5, /division by zero/],
    ['tcp ? udp', 5, /"\?" is not of the language/],
  ] as const) {
    assert.throws(
      () => compileFilter(filter),
      (error: unknown) => {
        assert.ok(error instanceof FilterSyntaxError, filter);
        assert.match(error.message, message);
        assert.equal(error.column, column, error.message);
        assert.equal(error.message.split('\n')[2], `  ${' '.repeat(column - 1)}^`);
        return true;
      },
    );
  }
});
