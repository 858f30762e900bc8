/** Sinks: what reaches the files, and that they have their names only when whole. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { Verdict, type VerdictTemplate } from '../../../src/coordinator/collector.js';
import { NdjsonSink, PcapngSink, PortSink } from '../../../src/output/sinks.js';
import { hex, readPcap } from '../../support/packets.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-sinks-'));
after(() => fs.rmSync(folder, { recursive: true }));
const file = (name: string) => path.join(folder, name);

/** Packet 7: went to ports 2, 3 and 2 again, the last time with a changed frame two bytes longer. */
function verdict(): Verdict {
  const v = new Verdict();
  v.packet = 7;
  v.sec = 1_700_000_000;
  v.nsec = 5;
  v.inPort = 1;
  v.wireLen = 100; // the capture kept 4 bytes
  v.template = {
    ...v.template,
    ct: [{ zone: 3, state: '+new+trk' }],
    out: [2, 3, 2],
    frames: [0, 0, 1],
    reason: null,
    json: '"ct":[],"out":[2,3,2],"reason":null',
  } satisfies VerdictTemplate;
  v.frameBytes.push(Uint8Array.of(9, 9, 1, 2, 3, 4, 9), Uint8Array.of(8, 5, 6, 7, 8, 9, 10, 8));
  v.frameOff.push(2, 1);
  v.frameLen.push(4, 6);
  return v;
}

test('ndjson: nine digits of nanoseconds, one line a packet', () => {
  const sink = new NdjsonSink(file('v.ndjson'));
  sink.verdict(verdict());
  sink.verdict(verdict());
  assert.equal(fs.existsSync(file('v.ndjson')), false, 'not whole yet');
  sink.finish();
  const line = '{"packet":7,"ts":"1700000000.000000005","in_port":1,"ct":[],"out":[2,3,2],"reason":null}';
  assert.equal(fs.readFileSync(file('v.ndjson'), 'utf8'), `${line}\n${line}\n`);
});

test('port sink: only its port, changed frames included, what the capture cut off stays cut off', () => {
  const sink = new PortSink(2, file('p2.pcap'));
  sink.verdict(verdict());
  sink.finish();
  const records = readPcap(fs.readFileSync(file('p2.pcap')));
  assert.deepEqual(
    records.map((r) => [r.sec, r.frac, r.wireLen, hex(r.frame)]),
    [
      [1_700_000_000, 5, 100, '01020304'],
      [1_700_000_000, 5, 102, '05060708090a'],
    ],
  );
});

test('pcapng sink: the comment says what happened', () => {
  const sink = new PcapngSink(file('all.pcapng'), [1, 2, 3, 65534], true);
  sink.verdict(verdict());
  sink.finish();
  const text = fs.readFileSync(file('all.pcapng'), 'latin1');
  assert.ok(text.includes('packet 7 from port 1; ct: zone 3 +new+trk; out: port 2, port 3, port 2'), text);
  for (const name of ['port 1', 'port 2', 'port 3', 'LOCAL']) assert.ok(text.includes(name));
});

test('an aborted sink leaves a .partial only', () => {
  for (const [name, sink] of [
    ['a.ndjson', new NdjsonSink(file('a.ndjson'))],
    ['a.pcap', new PortSink(2, file('a.pcap'))],
    ['a.pcapng', new PcapngSink(file('a.pcapng'), [2, 3], false)],
  ] as const) {
    sink.verdict(verdict());
    sink.abort();
    assert.equal(fs.existsSync(file(name)), false, name);
    assert.equal(fs.existsSync(file(`${name}.partial`)), true, name);
  }
});
