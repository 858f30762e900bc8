/** Inputs that are kept: those that made new code run, and those that once broke something. A line of JSON each, in
 *  fixtures/fuzz/TARGET.ndjson. */
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from '../differential/fixture.js';
import { type Bytes, unhex } from '../support/packets.js';

const FOLDER = path.join(ROOT, 'fixtures', 'fuzz');

interface Line {
  hex: string;
  /** What it once broke. */
  note?: string;
}

function fileOf(target: string): string {
  return path.join(FOLDER, `${target}.ndjson`);
}

export function readCorpus(target: string): Bytes[] {
  const file = fileOf(target);
  if (!fs.existsSync(file)) return [];
  return fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => unhex((JSON.parse(line) as Line).hex));
}

/** Adds inputs to the corpus of the checkout. */
export function addToCorpus(target: string, lines: readonly Line[]): void {
  fs.mkdirSync(FOLDER, { recursive: true });
  fs.appendFileSync(fileOf(target), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}
