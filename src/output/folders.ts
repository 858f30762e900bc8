/** Folders for outputs. */
import fs from 'node:fs';
import path from 'node:path';
import { systemReason } from '../pcap/feed.js';

/** Makes a folder with those above it, where they are not there. Throws Error naming it. (`mkdirSync` with `recursive` never
 *  returns where the folder that relative paths begin at has been removed: Node 20 to 26.) */
export function makeFolder(folder: string): void {
  try {
    make(path.normalize(folder));
  } catch (error) {
    throw new Error(`${folder}: cannot make the folder: ${systemReason(error)}`, { cause: error });
  }
}

function make(folder: string): void {
  if (isFolder(folder)) return;
  const above = path.dirname(folder);
  if (above !== folder && !isFolder(above)) make(above);
  try {
    fs.mkdirSync(folder);
  } catch (error) {
    // Somebody else may have made it meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !isFolder(folder)) throw error;
  }
}

function isFolder(folder: string): boolean {
  return fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true;
}
