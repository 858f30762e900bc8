/** `shardtrack report`. */
import fs from 'node:fs';
import type { Command } from 'commander';
import { readHistory, trendsOf } from '../bench/history.js';
import { checkResults } from '../bench/results.js';
import { benchReport } from '../report/bench.js';
import { percentText } from '../report/format.js';
import { renderReport } from '../report/lazy.js';
import { readText } from './flows.js';
import { UsageError, usage } from './options.js';
import { Reports } from './reports.js';

interface ReportArguments {
  history?: string;
  html?: string;
  failOnChange?: boolean;
  quiet?: boolean;
}

/** Runs the command; resolves to the exit code. Throws UsageError for exit code 2. */
export async function reportCommand(file: string | undefined, o: ReportArguments): Promise<number> {
  if (file === undefined && o.history === undefined) {
    throw new UsageError('expected results of bench --json, or --history FILE');
  }
  if (o.history !== undefined && !fs.existsSync(o.history)) {
    throw new UsageError(`${o.history}: there is no such file`);
  }
  const history = o.history === undefined ? [] : usage(() => readHistory(o.history as string));
  const results =
    file === undefined ? history[history.length - 1] : usage(() => checkResults(readText(file), file));
  if (results === undefined) throw new UsageError(`${o.history}: there are no runs in it`);
  await new Reports({ html: o.html }).write('html', () => renderReport(benchReport(results, history)));
  let slower = false;
  for (const { name, runs, changes, lastChange } of trendsOf(history, 'cpuNsPerPacket')) {
    const at = changes[changes.length - 1];
    const { commit, date } = runs[at] ?? runs[runs.length - 1];
    const said =
      lastChange === null
        ? `no change in ${runs.length} run${runs.length === 1 ? '' : 's'}`
        : `${percentText(lastChange)} processor time since run ${at + 1} of ${runs.length} (${commit?.slice(0, 10) ?? 'no commit'}, ${date.slice(0, 10)})`;
    if (lastChange !== null && lastChange > 0) slower = true;
    if (!o.quiet && o.html !== '-') process.stdout.write(`${name}: ${said}\n`);
  }
  return o.failOnChange && slower ? 1 : 0;
}

/** Adds the command to the program. */
export function addReport(program: Command): void {
  program
    .command('report')
    .description('what stored results of bench say: charts, and where a history has changed')
    .argument('[results]', 'FILE.json of bench --json; otherwise the last run of the history')
    .option('--history <FILE>', 'lines that bench --history has appended')
    .option('--html <FILE>', 'a report with charts, as one HTML file')
    .option('--fail-on-change', 'exit code 1 if the last change of a workload made it slower')
    .option('--quiet', 'say nothing')
    .action(async (file: string | undefined, o: ReportArguments) => {
      process.exitCode = await reportCommand(file, o);
    });
}
