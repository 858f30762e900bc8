/** Filters beside libpcap: what tcpdump finds in the shipped captures is recorded in fixtures/filters, and compared
 *  by filters.test.ts. `node dist/test/differential/filters.js` records it anew; it needs tcpdump. */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SegmentArena } from '../../src/pcap/arena.js';
import { compileFilter } from '../../src/pcap/filter.js';
import { openCapture } from '../../src/pcap/open.js';
import { ReadResult } from '../../src/pcap/types.js';
import { newPacketRecord } from '../../src/pcap/window.js';
import { Random } from '../support/packets.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures', import.meta.url));
export const CAPTURES = path.join(FIXTURES, 'captures');
export const RECORDED = path.join(FIXTURES, 'filters/tcpdump.json');

/** Captures, and of each filter how many packets of each of them pass; null: libpcap refuses the filter. */
export interface Recorded {
  libpcap: string;
  captures: string[];
  filters: Record<string, number[] | null>;
}

/** All Ethernet, and such that tcpdump reads. */
const NAMES = [
  'web-client.pcap',
  'icmp-nbns.pcap',
  'icmp6-errors-ospf.pcap',
  'fragments-ipv4.pcap',
  'fragments-ipv6.pcap',
  'tcp-handshakes.pcap',
  'sctp.pcap',
  'scan-arp.pcap',
  'udp-mdns.pcap',
  'vlan-overlap.pcap',
  'qinq.pcapng',
  'malformed-fuzzed.pcap',
  'malformed-truncated-tcp.pcapng',
  'ping6-in-ipv4.pcap',
];

const WRITTEN = `ip
ip6
arp
rarp
tcp
udp
sctp
icmp
icmp6
igmp
pim
esp
not ip
!tcp
tcp or udp
tcp and not udp
not tcp and udp or icmp
tcp || icmp && udp
(tcp or icmp) and not (udp or sctp)
port 80
port 80 or 443
port (80 or 443)
tcp port http or https
not port 53 and not port 137
src port 53
dst port domain
src or dst port 443
src and dst port 137
udp src port 5353
tcp portrange 1-1023
portrange 1023-1
ip port 137
ip6 port 5353
sctp port 3868
host 192.168.100.206
src 192.168.100.206
dst host 192.168.100.206
src and dst host 10.0.0.1
not host 192.168.100.206 and 10.0.0.1
host 10.0.0.1 or 10.0.0.2 and not port 80
ip host 10.0.0.1
arp host 10.0.0.1
ip6 host fe80::1
host (10.0.0.1 or 10.0.0.2)
host ff02::fb
net 10
net 192.168
net 192.168.100.0/24
net 192.168.0.0 mask 255.255.0.0
src net 10.0.0.0/8
dst net fe80::/10
net ff00::/8 or net 224.0.0.0/4
net 0.0.0.0/0
ip proto 17
ip proto \\tcp
ip6 proto 58
ip6 proto 44
proto 6
proto \\udp
ether proto 0x0800
ether proto \\arp
ether proto \\ip6
ether host ff:ff:ff:ff:ff:ff
ether dst 33:33:0:0:0:fb
ether src 00:00:00:00:00:01
ether broadcast
broadcast
multicast
ether multicast
ip multicast
ip6 multicast
less 60
greater 1000
len > 100
len <= 60 or len = 1514
vlan
vlan 10
vlan and ip
vlan and vlan
vlan and vlan and tcp
vlan 10 or vlan 20
not vlan
tcp[tcpflags] & (tcp-syn|tcp-fin) != 0
tcp[tcpflags] == tcp-syn
tcp[13] & 18 = 18
tcp[0:2] > 1024
tcp[4:4] & 1 = 1
tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420
tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)
ip[0] & 0xf != 5
ip[6:2] & 0x1fff != 0
ip[8] < 64
ip[100] = 0 or arp
not ip[1000] = 0
ip6[6] = 58
ip6[40] = 128
icmp[icmptype] = icmp-echo
icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply
icmp6[icmp6type] = icmp6-neighborsolicit
icmp6[0] > 127
arp[6:2] = 1
ether[0] & 1 = 0 and ip[16] >= 224
ether[12:2] = 2048
udp[4:2] > 100
udp[8:4] != 0
sctp[12] = 1
1 + 2 * 3 = 7
7 - 2 - 1 = 4
8 | 1 & 0 = 8
6 ^ 3 | 2 = 5
4 & 2 ^ 1 = 0
1 << 2 + 1 = 8
len - 14 = ip[2:2]
len / 2 * 2 = len
len % 2 = 1
7 % 4 + 1 = 2
(ip[2:2] - ((ip[0]&0xf)<<2) - ((tcp[12]&0xf0)>>2)) != 0
ip[2:2] > ((ip[0]&0xf)<<2) + ((tcp[12]&0xf0)>>2)
udp[4:2] - tcp[0:2] & 0xff > 9
len - udp[4:2] = 34
-tcp[4:4] > 5
12 / 7 % 4 = 4
-1 > len
ip and len & 0xff ^ 3 > 9
0x10 = 020
host
port 70000
tcp host 10.0.0.1
net 10.1.2.3/8
(tcp
tcp udp
ip[0:3] = 1
foo[0] = 1
len / 0 = 1
`;

/** Filters put together at random from those above that stand alone. */
function drawn(n: number): string[] {
  const r = new Random(11);
  const parts = WRITTEN.trimEnd().split('\n').slice(0, -11);
  const one = (depth: number): string => {
    if (depth === 0 || r.once(3)) {
      const part = parts[r.int(parts.length)];
      return r.once(4) ? `not (${part})` : `(${part})`;
    }
    const joined = `${one(depth - 1)} ${r.once(2) ? 'and' : 'or'} ${one(depth - 1)}`;
    return r.once(3) ? `not (${joined})` : joined;
  };
  return Array.from({ length: n }, () => one(3));
}

/** How many packets of a capture pass; null if the filter is refused. */
export async function countPassing(capture: string, filters: readonly string[]): Promise<(number | null)[]> {
  const compiled = filters.map((filter) => {
    try {
      return compileFilter(filter);
    } catch {
      return null;
    }
  });
  const counts = compiled.map((f) => (f === null ? null : 0));
  const arena = new SegmentArena(4, 1 << 20);
  const view = new DataView(arena.sab);
  const reader = await openCapture(capture, arena);
  const p = newPacketRecord();
  try {
    for (;;) {
      const state = reader.next(p);
      if (state === ReadResult.END) break;
      if (state !== ReadResult.PACKET) {
        await reader.readable();
        continue;
      }
      compiled.forEach((filter, i) => {
        if (filter?.(view, p.off, p.capLen, p.wireLen)) counts[i]!++;
      });
      arena.release(p.segment);
    }
  } finally {
    reader.close();
  }
  return counts;
}

/** The same of tcpdump, whose optimizer is off: it leaves out loads that would have ended a filter. */
function tcpdumpCount(capture: string, filter: string): number | null {
  const got = spawnSync('tcpdump', ['-O', '-r', capture, '-w', '-', '--', filter], { maxBuffer: 1 << 28 });
  const { stdout, stderr } = got;
  if (stderr.includes('rejects all packets')) return 0;
  // One of the captures is cut off: that is not the filter's fault.
  if (got.status !== 0 && !stderr.includes('truncated')) return null;
  let n = 0;
  for (let at = 24; at + 16 <= stdout.length; n++) at += 16 + stdout.readUInt32LE(at + 8);
  return n;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const version = execFileSync('tcpdump', ['--version'], { encoding: 'utf8' });
  const filters: Recorded['filters'] = {};
  for (const filter of [...WRITTEN.trimEnd().split('\n'), ...drawn(120)]) {
    const counts = NAMES.map((name) => tcpdumpCount(path.join(CAPTURES, name), filter));
    filters[filter] = counts.includes(null) ? null : (counts as number[]);
  }
  const libpcap = /libpcap version (\S+)/.exec(version)?.[1] ?? '';
  const recorded: Recorded = { libpcap, captures: NAMES, filters };
  const lines = Object.entries(filters).map(([f, n]) => `    ${JSON.stringify(f)}: ${JSON.stringify(n)}`);
  fs.mkdirSync(path.dirname(RECORDED), { recursive: true });
  fs.writeFileSync(
    RECORDED,
    `{\n  "libpcap": ${JSON.stringify(recorded.libpcap)},\n  "captures": ${JSON.stringify(NAMES)},\n  "filters": {\n${lines.join(',\n')}\n  }\n}\n`,
  );
}
