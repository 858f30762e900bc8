/** Which captures a list of paths names: files, folders with all that is in them, patterns, standard input. */
import fs from 'node:fs';
import { looksLikeCapture } from '../pcap/open.js';

export interface Inputs {
  /** Each once, whatever links lead to it; those of folders and patterns in order of their names. */
  paths: string[];
  /** Files in folders that are no captures. */
  passedOver: string[];
}

/** Throws Error for a path that is not there, a pattern that matches nothing, and a folder without captures. */
export async function findCaptures(args: readonly string[]): Promise<Inputs> {
  /** By what links lead to. */
  const paths = new Map<string, string>();
  const passedOver: string[] = [];
  const add = (file: string): void => {
    const real = file === '-' ? file : realPath(file);
    const before = paths.get(real);
    // A link such as `latest.pcap` gives way to what it leads to.
    if (before === undefined || (file !== before && isLink(before) && !isLink(file))) paths.set(real, file);
  };
  for (const arg of args) {
    const stat = arg === '-' ? undefined : fs.statSync(arg, { throwIfNoEntry: false });
    if (arg === '-' || (stat !== undefined && !stat.isDirectory())) {
      add(arg);
      continue;
    }
    let found: string[];
    const patterns = stat !== undefined ? null : await import('tinyglobby');
    if (stat !== undefined) {
      const all = filesBelow(arg.replace(/(.)\/+$/, '$1')).sort(byName);
      found = [];
      for (const file of all) (isCapture(file) ? found : passedOver).push(file);
      if (found.length === 0) throw new Error(`${arg}: no capture is in the folder`);
    } else if (patterns?.isDynamicPattern(arg)) {
      found = (await patterns.glob(arg, { onlyFiles: true, expandDirectories: false })).sort(byName);
      if (found.length === 0) throw new Error(`${arg}: no file matches the pattern`);
    } else {
      throw new Error(`${arg}: no such file or folder`);
    }
    for (const file of found) add(file);
  }
  return { paths: [...paths.values()], passedOver };
}

/** All files in a folder and those below it, each folder once, whatever links lead to it. Folders that can't be read are
 *  among them: the report of what is no file says why. */
function filesBelow(folder: string, seen = new Set<string>()): string[] {
  const real = realPath(folder);
  if (seen.has(real)) return [];
  seen.add(real);
  let entries: fs.Dirent[];
  try {
    entries = fs.readdirSync(folder, { withFileTypes: true });
  } catch {
    return [folder];
  }
  // Links last: what they lead to may be there under its own name.
  const order = ({ name, isLink }: { name: string; isLink: boolean }): string => `${Number(isLink)}${name}`;
  return entries
    .map((e) => ({ name: e.name, isLink: e.isSymbolicLink() }))
    .sort((a, b) => (order(a) < order(b) ? -1 : 1))
    .flatMap(({ name }) => {
      const file = `${folder}/${name}`;
      const stat = fs.statSync(file, { throwIfNoEntry: false });
      if (stat?.isDirectory()) return filesBelow(file, seen);
      return stat?.isFile() ? [file] : [];
    });
}

function realPath(file: string): string {
  try {
    return fs.realpathSync(file);
  } catch {
    return file;
  }
}

function isLink(file: string): boolean {
  return fs.lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

/** Names as people count: x-9 before x-10. */
function byName(a: string, b: string): number {
  return collator.compare(a, b) || (a < b ? -1 : 1);
}
const collator = new Intl.Collator('en', { numeric: true });

/** By the first bytes. Files that can't be read are kept: their report says why. */
function isCapture(file: string): boolean {
  try {
    const fd = fs.openSync(file, 'r');
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
