/** The rules of one OpenFlow table, found by the flow that they match. Lives in the coordinator.
 *
 *  Of rules of equal priority that match the same flow Open vSwitch takes any; here it is the one that
 *  was inserted first. */
import { KEY_WORDS } from '../classifier/flow-key.js';
import type { FlowRule, Match } from './types.js';

/** A rule with the words that it compares. */
interface Entry<R> {
  rule: R;
  words: Int32Array;
  values: Int32Array;
  masks: Int32Array;
}

export class RuleTable<R extends FlowRule> {
  /** Highest priority first, then oldest first. */
  private readonly entries: Entry<R>[] = [];

  get size(): number {
    return this.entries.length;
  }

  rules(): Iterable<R> {
    return this.entries.map((e) => e.rule);
  }

  /** Adds a rule. There must be none of the same match and priority. */
  insert(rule: R): void {
    const words: number[] = [];
    rule.match.mask.forEach((bits, w) => {
      if (bits !== 0) words.push(w);
    });
    let at = this.entries.length;
    while (at > 0 && this.entries[at - 1].rule.priority < rule.priority) at--;
    this.entries.splice(at, 0, {
      rule,
      words: Int32Array.from(words),
      values: Int32Array.from(words, (w) => rule.match.value[w]),
      masks: Int32Array.from(words, (w) => rule.match.mask[w]),
    });
  }

  /** Takes a rule out; whether it was in. */
  remove(rule: R): boolean {
    const at = this.entries.findIndex((e) => e.rule === rule);
    if (at >= 0) this.entries.splice(at, 1);
    return at >= 0;
  }

  /** The rule with exactly this match and priority. */
  find(match: Match, priority: number): R | null {
    const same = (a: Int32Array, b: Int32Array) => a.every((bits, w) => bits === b[w]);
    for (const { rule } of this.entries) {
      if (rule.priority !== priority) continue;
      if (same(rule.match.mask, match.mask) && same(rule.match.value, match.value)) return rule;
    }
    return null;
  }

  /** The rule of highest priority that matches the flow (FLOW_WORDS words), or null. Adds to `wild` the
   *  bits that the answer depends on. */
  lookup(flow: Int32Array, wild: Int32Array): R | null {
    for (const { rule, words, values, masks } of this.entries) {
      let firstWord = -1;
      let firstBits = 0;
      let decided = false;
      for (let i = 0; i < words.length; i++) {
        const bits = (flow[words[i]] ^ values[i]) & masks[i];
        if (bits === 0) continue;
        if (firstWord < 0) {
          firstWord = words[i];
          firstBits = bits;
        }
        if (words[i] >= KEY_WORDS || bits & wild[words[i]]) {
          decided = true;
          break;
        }
      }
      if (firstWord < 0) {
        for (let i = 0; i < words.length; i++) wild[words[i]] |= masks[i];
        return rule;
      }
      // The most significant bit makes prefixes of address mismatches.
      if (!decided) wild[firstWord] |= 0x80000000 >>> Math.clz32(firstBits);
    }
    return null;
  }
}
