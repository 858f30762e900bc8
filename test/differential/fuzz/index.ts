/** All protocol fuzzers, and how a case is drawn. */
import { random } from '../packets.js';
import type { Script } from '../scenarios/script.js';
import { fragmentFuzzer } from './fragments.js';
import { ftpFuzzer } from './ftp.js';
import type { Fuzzer } from './fuzzer.js';
import { icmpFuzzer } from './icmp.js';
import { mutantFuzzer } from './mutants.js';
import { tcpFuzzer } from './tcp.js';
import { zonesFuzzer } from './zones.js';

export const FUZZERS: readonly Fuzzer[] = [
  tcpFuzzer,
  icmpFuzzer,
  fragmentFuzzer,
  ftpFuzzer,
  zonesFuzzer,
  mutantFuzzer,
];

/** Behind the last timeout of a fragment, before the next case. */
export const BETWEEN_S = 100;

/** Plays one case; it ends with the connection table, and leaves none behind. */
export function playCase(s: Script, f: Fuzzer, seed: number, number: number, table: number): void {
  f.play(s, random(Math.imul(seed, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b)), table);
  s.cmd('dpctl/dump-conntrack', '-m', '-s').cmd('dpctl/flush-conntrack');
}
