/** node dist/test/differential/make-scenarios.js [NAME...]: writes our own scenarios (scenarios/*.ts) as fixtures:
 *  meta.json, flows.txt and input.jsonl below fixtures/oracle/NAME. Their answers are recorded by record.ts. Those
 *  that docs/scenarios explains get their captures in fixtures/scenarios as well. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { ORACLE } from './fixture.js';
import { adminScenarios } from './scenarios/admin.js';
import { copyScenarios } from './scenarios/copies.js';
import { documentedScenarios, folderOf, SCENARIO_FOLDER, writeTraffic } from './scenarios/documented.js';
import { drawnScenarios } from './scenarios/drawn.js';
import { fragmentScenarios } from './scenarios/fragments.js';
import { l4Scenarios } from './scenarios/l4.js';
import { natScenarios } from './scenarios/nat.js';
import { NEUTRON_SMALL, neutron } from './scenarios/neutron.js';
import { OVN_SMALL, ovn } from './scenarios/ovn.js';
import { pipelineScenarios } from './scenarios/pipeline.js';
import { type Scenario, Script } from './scenarios/script.js';
import { tableScenarios } from './scenarios/tables.js';
import { tcpScenarios } from './scenarios/tcp.js';

export const SCENARIOS: readonly Scenario[] = [
  ...tcpScenarios,
  ...l4Scenarios,
  ...fragmentScenarios,
  ...pipelineScenarios,
  ...adminScenarios,
  ...natScenarios,
  neutron('neutron-firewall', NEUTRON_SMALL),
  ovn('ovn-switches', OVN_SMALL),
  ...tableScenarios,
  ...copyScenarios,
  ...documentedScenarios,
  ...drawnScenarios,
];

/** The files of a scenario, by name. */
export function filesOf(sc: Scenario): Record<string, string> {
  const script = new Script();
  sc.play(script);
  const meta = {
    about: sc.about,
    made: 'test/differential/make-scenarios.ts',
    ports: sc.ports ?? 4,
    ...(sc.pending ? { pending: sc.pending } : {}),
  };
  return {
    'meta.json': `${JSON.stringify(meta, null, 2)}\n`,
    'flows.txt': sc.flows,
    ...(sc.groups === undefined ? {} : { 'groups.txt': sc.groups }),
    'input.jsonl': script.records.map((r) => `${JSON.stringify(r)}\n`).join(''),
  };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const names = process.argv.slice(2);
  for (const sc of SCENARIOS) {
    if (names.length && !names.includes(sc.name)) continue;
    const dir = path.join(ORACLE, sc.name);
    mkdirSync(dir, { recursive: true });
    for (const [file, text] of Object.entries(filesOf(sc))) writeFileSync(path.join(dir, file), text);
    if (documentedScenarios.includes(sc)) writeTraffic(sc, path.join(SCENARIO_FOLDER, folderOf(sc)));
  }
  process.stdout.write(`${SCENARIOS.length} scenarios in ${path.relative('.', ORACLE)}\n`);
}
