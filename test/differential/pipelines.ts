/** node dist/test/differential/pipelines.js [--ovs-bindir DIR] [--write DIR] [NAME...]
 *
 *  Pipelines of real size: what Neutron's firewall driver and OVN make, with about 1,000 and 10,000 rules. They
 *  are made on demand (scenarios/neutron.ts, scenarios/ovn.ts), and so is their traffic; small instances of the
 *  same are fixtures/oracle/neutron-firewall and ovn-switches. Without --write the program asks a real Open
 *  vSwitch and records its answers in fixtures/pipelines/NAME.jsonl; --write DIR writes NAME/flows.txt and a
 *  pcap for each input port, for benchmarks and for shardtrack trace.
 *
 *  Recorded: a head {version, made}, for each packet a line "port digest" for every output, and digests
 *  of the lines of the connection table at the end. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { normTable } from './compare.js';
import { type Fixture, type Outputs, ROOT, timeline } from './fixture.js';
import { pcapFile } from './product.js';
import { ask } from './record.js';
import { NEUTRON_1K, NEUTRON_10K, neutron } from './scenarios/neutron.js';
import { OVN_1K, OVN_10K, ovn } from './scenarios/ovn.js';
import { type Scenario, Script } from './scenarios/script.js';

export const RECORDED = path.join(ROOT, 'fixtures', 'pipelines');

export const PIPELINES: readonly { readonly name: string; readonly make: () => Scenario }[] = [
  { name: 'neutron-1k', make: () => neutron('neutron-1k', NEUTRON_1K) },
  { name: 'neutron-10k', make: () => neutron('neutron-10k', NEUTRON_10K) },
  { name: 'ovn-1k', make: () => ovn('ovn-1k', OVN_1K) },
  { name: 'ovn-10k', make: () => ovn('ovn-10k', OVN_10K) },
];

const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);

/** "port digest" of each output, sorted; the order of copies on different ports means nothing. */
export const outputDigests = (out: Outputs): string[] =>
  out.map(([port, h]) => `${port} ${digest(h)}`).sort();

/** Digests of a connection table's lines. */
export const tableDigests = (lines: readonly string[]): string[] => normTable(lines).map(digest).sort();

export const rulesIn = (flows: string): number =>
  flows.split('\n').filter((l) => l !== '' && !l.startsWith('#')).length;

/** Makes a pipeline, with its flow table in `dir`. */
export function makePipeline(name: string, dir: string): Fixture {
  const scenario = PIPELINES.find((p) => p.name === name)!.make();
  const script = new Script();
  scenario.play(script);
  const flows = path.join(dir, 'flows.txt');
  mkdirSync(dir, { recursive: true });
  writeFileSync(flows, scenario.flows);
  const meta = { about: scenario.about, made: 'test/differential/pipelines.ts', ports: scenario.ports! };
  return { name, dir, meta, flows, groups: null, records: script.records };
}

async function record(name: string, bindir: string | undefined): Promise<string> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-pipelines-'));
  try {
    const fixture = makePipeline(name, dir);
    const { version, answers, conntrack } = await ask(fixture, bindir);
    const made = 'node dist/test/differential/pipelines.js --ovs-bindir DIR';
    const lines = [
      { version, made },
      ...answers.flatMap(({ i, out }) => (out === undefined ? [] : [{ i, out: outputDigests(out) }])),
      { conntrack: tableDigests(conntrack) },
    ];
    mkdirSync(RECORDED, { recursive: true });
    writeFileSync(path.join(RECORDED, `${name}.jsonl`), lines.map((l) => `${JSON.stringify(l)}\n`).join(''));
    return `${name}: ${lines.length - 2} packets, ${conntrack.length} connections, ${version}`;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function write(name: string, to: string): string {
  const fixture = makePipeline(name, path.join(to, name));
  const { packets } = timeline(fixture.records);
  for (const port of new Set(packets.map((p) => p.port))) {
    writeFileSync(
      path.join(fixture.dir, `in-${port}.pcap`),
      pcapFile(packets.filter((p) => p.port === port)),
    );
  }
  return `${fixture.dir}: ${packets.length} packets, ports 1 to ${fixture.meta.ports}`;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { 'ovs-bindir': { type: 'string' }, write: { type: 'string' } },
  });
  for (const { name } of PIPELINES) {
    if (positionals.length > 0 && !positionals.includes(name)) continue;
    const done =
      values.write === undefined ? await record(name, values['ovs-bindir']) : write(name, values.write);
    process.stdout.write(`${done}\n`);
  }
}
