/** Which captures a list of paths names: files, folders with all that is in them, patterns, standard input. */
import fs from 'node:fs';
import { glob, isDynamicPattern } from 'tinyglobby';
import { looksLikeCapture } from '../pcap/open.js';

export interface Inputs {
  /** Each once, those of folders and patterns in order of their names. */
  paths: string[];
  /** Files in folders that are no captures. */
  passedOver: string[];
}

/** Throws Error for a path that is not there, a pattern that matches nothing, and a folder without captures. */
export async function findCaptures(args: readonly string[]): Promise<Inputs> {
  const paths = new Set<string>();
  const passedOver: string[] = [];
  for (const arg of args) {
    const stat = arg === '-' ? undefined : fs.statSync(arg, { throwIfNoEntry: false });
    if (arg === '-' || (stat !== undefined && !stat.isDirectory())) {
      paths.add(arg);
      continue;
    }
    let found: string[];
    if (stat !== undefined) {
      const inside = await glob('**', { cwd: arg, dot: true, onlyFiles: true, expandDirectories: false });
      const all = inside.sort(byName).map((name) => `${arg.replace(/\/+$/, '')}/${name}`);
      found = all.filter(isCapture);
      passedOver.push(...all.filter((path) => !found.includes(path)));
      if (found.length === 0) throw new Error(`${arg}: no capture is in the folder`);
    } else if (isDynamicPattern(arg)) {
      found = (await glob(arg, { onlyFiles: true, expandDirectories: false })).sort(byName);
      if (found.length === 0) throw new Error(`${arg}: no file matches the pattern`);
    } else {
      throw new Error(`${arg}: no such file or folder`);
    }
    for (const path of found) paths.add(path);
  }
  return { paths: [...paths], passedOver };
}

/** Names as people count: x-9 before x-10. */
function byName(a: string, b: string): number {
  return collator.compare(a, b) || (a < b ? -1 : 1);
}
const collator = new Intl.Collator('en', { numeric: true });

/** By the first bytes. Files that can't be read are kept: their report says why. */
function isCapture(path: string): boolean {
  try {
    const fd = fs.openSync(path, 'r');
    try {
      const start = new Uint8Array(24);
      return looksLikeCapture(start.subarray(0, fs.readSync(fd, start)));
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    return true;
  }
}
