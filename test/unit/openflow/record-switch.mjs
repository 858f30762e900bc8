// Writes switch-answers.ts: what a real Open vSwitch says to each change of switch-cases.ts.
//   npm run build && node test/unit/openflow/record-switch.mjs [/path/to/openvswitch]
// Unlike parse-flow (record-ofctl.mjs) this takes a switch: a private one, as for the differential tests.
import { writeFileSync } from 'node:fs';

const [bindir, build = new URL('../../../dist', import.meta.url).pathname] = process.argv.slice(2);
const { SWITCH_CASES } = await import(`${build}/test/unit/openflow/switch-cases.js`);
const { Ovs } = await import(`${build}/test/differential/ovs.js`);

const ovs = await Ovs.start(bindir, 4);
const answers = [];
try {
  for (const [command, text] of SWITCH_CASES) {
    for (const prepare of [
      ['del-flows'],
      ['del-groups'],
      ['del-meters'],
      ['add-group', 'group_id=1,type=select,bucket=bucket_id:5,1,bucket=bucket_id:6,2'],
      ['add-meter', 'meter=1,kbps,bands=type=drop,rate=5'],
    ]) {
      await ovs.ofctl(prepare);
    }
    const words = command.split(' ');
    const { error } = await ovs.ofctl([...words, ...(text === '' ? [] : [text])]);
    const answer = { command, text, accepted: error === null };
    const code = error === null ? undefined : /OFP(?!T_)\w+/.exec(error)?.[0];
    if (code !== undefined) answer.code = code;
    if (command === 'add-group' && answer.accepted) {
      const { result } = await ovs.ofctl(['dump-groups']);
      answer.printed = result
        .split('\n')
        .map((line) => line.trim())
        .find((line) => /^group_id=/.test(line) && !/^group_id=1,/.test(line));
    }
    answers.push(answer);
  }
} finally {
  await ovs.stop();
}
const rows = answers.map((a) => `  ${JSON.stringify(a)},`).join('\n');
writeFileSync(
  new URL('switch-answers.ts', import.meta.url),
  `/** Recorded answers of Open vSwitch ${ovs.version.split('\n')[0]}. Made by
 *  node test/unit/openflow/record-switch.mjs /path/to/openvswitch */

/** What ovs-ofctl or the switch said. \`code\`: the OpenFlow error; \`printed\`: the group in dump-groups. */
export interface SwitchAnswer {
  command: string;
  text: string;
  accepted: boolean;
  code?: string;
  printed?: string;
}

/** One answer for each of switch-cases.ts. */
export const SWITCH_ANSWERS: readonly SwitchAnswer[] = [
${rows}
];
`,
);
