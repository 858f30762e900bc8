/** More announced connections than are kept: which ones are forgotten does not depend on the number of workers. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { MOST_EXPECTED } from '../../src/conntrack/expectations.js';
import { ACK, ethernet, ipv4, type Packet, PSH, packet, Random, RST, SYN, tcp } from '../support/packets.js';
import { difference, run } from '../support/run.js';

const FLOWS = fs.readFileSync(new URL('../../../bench/flood/ftp.txt', import.meta.url), 'utf8');
const SESSIONS = 60;
const SERVER = '192.168.0.1';
const PROBES = 1500;

/** FTP sessions that announce so many ports, each another one. Those of every third end in the middle; then data
 *  connections are tried that were announced early, late, by those that have ended, or never. */
function sessions(r: Random, announced: number): Packet[] {
  const packets: Packet[] = [];
  let t = 1;
  const add = (port: number, src: string, dst: string, o: Parameters<typeof tcp>[0]): void => {
    packets.push(packet(t, port, ethernet({}, ipv4({ src, dst }, tcp(o)))));
    t += 0.0001;
  };
  const client = (n: number) => `10.0.0.${1 + n}`;
  const there = { sport: 40000, dport: 21 };
  const back = { sport: 21, dport: 40000 };
  for (let n = 0; n < SESSIONS; n++) {
    add(1, client(n), SERVER, { ...there, seq: 0, flags: SYN });
    add(2, SERVER, client(n), { ...back, seq: 0, ack: 1, flags: SYN | ACK });
    add(1, client(n), SERVER, { ...there, seq: 1, ack: 1 });
  }
  let probed = 0;
  const probe = (n: number, port: number): void => {
    add(2, SERVER, client(n), { sport: 20, dport: port, seq: probed++, flags: SYN });
  };
  const portOf = (i: number) => 2000 + Math.floor(i / SESSIONS);
  for (let i = 0; i < announced; i++) {
    const n = i % SESSIONS;
    if (i === announced >> 1) {
      for (let k = 0; k < SESSIONS; k += 3)
        add(1, client(k), SERVER, { ...there, seq: 1, ack: 1, flags: RST | ACK });
      // They are gone when this is over.
      t += 30;
    }
    if (n % 3 === 0 && i >= announced >> 1) continue;
    const text = `PORT ${client(n).replaceAll('.', ',')},${portOf(i) >> 8},${portOf(i) & 255}\r\n`;
    const data = new TextEncoder().encode(text.padEnd(32));
    add(1, client(n), SERVER, { ...there, seq: 1, ack: 1, flags: PSH | ACK, data });
    if (r.once(1000)) probe(r.int(SESSIONS), portOf(r.int(announced)));
  }
  for (let i = 0; i < PROBES; i++) probe(r.int(SESSIONS), portOf(r.int(Math.floor(announced * 1.02))));
  return packets;
}

test('expectations: what is forgotten where there are too many is the same with 0, 1, 2 and 4 workers', async () => {
  // Every third session ends half way: of its second half nothing is announced.
  const packets = sessions(new Random(9), Math.ceil(MOST_EXPECTED * 1.7));
  const options = { flows: FLOWS, maxConns: 5000 };
  const want = await run(packets, options);
  const data = want.verdicts.slice(-PROBES);
  const come = data.filter((line) => line.includes('rel')).length;
  assert.ok(
    come > PROBES / 3 && come < (PROBES * 2) / 3,
    `${come} of ${PROBES} data connections were expected`,
  );
  for (const workers of [1, 2, 4]) {
    const diff = difference(want, await run(packets, { ...options, workers, window: 200 }));
    assert.equal(diff, null, `${workers} workers: ${diff}`);
  }
});
