/** Flow timeouts are read by the parser but not kept by the switch yet: a table that has them would
 *  quietly behave differently, so it is refused. */
import { type FlowProblem, type FlowRule, FlowSyntaxError } from './types.js';

/** Throws FlowSyntaxError for every idle_timeout and hard_timeout that is not 0. `source` is the file. */
export function refuseTimeouts(rules: readonly FlowRule[], source: string): void {
  const problems: FlowProblem[] = [];
  for (const rule of rules) {
    for (const name of ['idle_timeout', 'hard_timeout'] as const) {
      if ((name === 'idle_timeout' ? rule.idleTimeout : rule.hardTimeout) === 0) continue;
      const at = Math.max(0, rule.text.search(new RegExp(`\\b${name}\\b`)));
      const length = /^[^,\s]*/.exec(rule.text.slice(at))![0].length;
      problems.push({
        pos: { ...rule.pos, column: rule.pos.column + at, length },
        message: `${name} is not supported yet`,
        expected: `${name}=0, or none`,
      });
    }
  }
  if (problems.length > 0) throw new FlowSyntaxError(problems, source);
}
