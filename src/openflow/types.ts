/** The parsed form of a flow table: what `parser.ts` makes of `ovs-ofctl add-flows` text, what
 *  `format.ts` prints and what translation walks. Plain data, made once at start and never changed
 *  afterwards, so it may be read from anywhere on its thread. Follows ovs-ofctl(8), section "Flow
 *  Syntax", and ovs-actions(7). */
import type { Field, Subfield } from './fields.js';

/** Where a token stands in its file. Lines and columns count from 1; `length` is in UTF-16 units. */
export interface SourcePos {
  file: string;
  line: number;
  column: number;
  length: number;
}

/** What a rule compares: FLOW_WORDS words each, `value` already ANDed with `mask`. */
export interface Match {
  value: Int32Array;
  mask: Int32Array;
}

/** One OpenFlow action, in the words of ovs-actions(7). */
export type Action =
  | { kind: 'output'; port: number } // 1 to 0xfeff, or OFPP_LOCAL
  | { kind: 'output_reg'; src: Subfield }
  | { kind: 'in_port' }
  | { kind: 'normal' }
  | { kind: 'flood' }
  | { kind: 'all' }
  | { kind: 'drop' }
  | { kind: 'resubmit'; port: number | null; table: number | null } // null keeps the current one
  | { kind: 'goto_table'; table: number }
  | {
      kind: 'ct';
      commit: boolean;
      force: boolean;
      zone: number | Subfield;
      table: number | null;
      exec: Action[];
    }
  | { kind: 'ct_clear' }
  // set_field, load, mod_*; `via` only tells format.ts how it was spelled, absent for set_field
  | { kind: 'set'; field: Field; value: bigint; mask: bigint; via?: 'load' | 'mod' }
  | { kind: 'move'; src: Subfield; dst: Subfield }
  | { kind: 'push_vlan'; tpid: number }
  | { kind: 'pop_vlan' }
  | { kind: 'set_vlan_vid'; vid: number } // pushes a tag if there is none
  | { kind: 'set_vlan_pcp'; pcp: number } // pushes a tag if there is none
  | { kind: 'dec_ttl' };

/** One flow of the table. `text` is its source line without comment and surrounding space. */
export interface FlowRule {
  table: number;
  priority: number;
  cookie: bigint;
  idleTimeout: number;
  hardTimeout: number;
  match: Match;
  actions: Action[];
  pos: SourcePos;
  text: string;
}

/** One thing that is wrong with a flow file. */
export interface FlowProblem {
  pos: SourcePos;
  message: string;
  expected: string;
  suggestion?: string;
}

/** "FILE:LINE:COLUMN: message", the source line with the token underlined, and what was expected. */
function problemText(p: FlowProblem, source: readonly string[]): string {
  let text = `${p.pos.file}:${p.pos.line}:${p.pos.column}: ${p.message}`;
  const line = source[p.pos.line - 1];
  if (line !== undefined) {
    // A tab before the token is kept, so that the caret stands under it at any tab width.
    const indent = line.slice(0, p.pos.column - 1).replace(/[^\t]/g, ' ');
    text += `\n  ${line.trimEnd()}\n  ${indent}${'^'.repeat(Math.max(1, p.pos.length))}`;
  }
  text += `\n  expected ${p.expected}`;
  if (p.suggestion !== undefined) text += `\n  did you mean ${p.suggestion}?`;
  return text;
}

/** All problems of one flow file, in line and column order. */
export class FlowSyntaxError extends Error {
  readonly problems: FlowProblem[];

  /** `sourceText` is the whole file; the message quotes the lines that it complains about. */
  constructor(problems: FlowProblem[], sourceText = '') {
    const source = sourceText === '' ? [] : sourceText.split(/\r\n|\n/);
    super(problems.map((p) => problemText(p, source)).join('\n'));
    this.name = 'FlowSyntaxError';
    this.problems = problems;
  }
}
