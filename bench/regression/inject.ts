/** Copies a built installation and makes a part of it slower on purpose: after a call of a method it spins for a share of
 *  the time that the call took. The methods are called once for hundreds of packets, or for a translation, so that reading
 *  the clock is nothing beside them. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** Where: module and class of the method, below dist/src. */
export const PLACES = {
  worker: { module: 'datapath/shard.js', class: 'Shard', method: 'runVector' },
  dispatcher: { module: 'coordinator/replay.js', class: 'Run', method: 'fill' },
  collector: { module: 'coordinator/collector.js', class: 'Collector', method: 'drain' },
  coordinator: { module: 'coordinator/fabric.js', class: 'Fabric', method: 'poll' },
  'flow-table': { module: 'openflow/translate.js', class: 'Translator', method: 'translate' },
} as const;
export type Place = keyof typeof PLACES;

/** Returns the folder of the copy; `percent` 0 is a copy without change. */
export function inject(folder: string, place: Place, percent: number): string {
  const copy = path.join(folder, `${place}-${percent}`);
  fs.mkdirSync(copy, { recursive: true });
  for (const name of ['dist/src', 'dist/workers', 'package.json']) {
    fs.cpSync(path.join(root, name), path.join(copy, name), { recursive: true });
  }
  const modules = path.join(copy, 'node_modules');
  if (!fs.existsSync(modules)) fs.symlinkSync(fs.realpathSync(path.join(root, 'node_modules')), modules);
  if (percent === 0) return copy;
  const { module, class: owner, method } = PLACES[place];
  const file = path.join(copy, 'dist/src', module);
  fs.appendFileSync(file, slowDown(owner, method, percent / 100));
  return copy;
}

function slowDown(owner: string, method: string, share: number): string {
  return `
{
  const original = ${owner}.prototype.${method};
  if (typeof original !== 'function') throw new Error('inject: there is no ${owner}.${method}');
  let depth = 0;
  ${owner}.prototype.${method} = function (a, b, c, d) {
    // What calls itself is slowed down once.
    if (depth > 0) return original.call(this, a, b, c, d);
    const began = performance.now();
    depth++;
    const result = original.call(this, a, b, c, d);
    depth--;
    const now = performance.now();
    for (const end = now + (now - began) * ${share}; performance.now() < end; );
    return result;
  };
  if (original.length > 4) throw new Error('inject: ${owner}.${method} has more than four arguments');
}
`;
}
