/** Room for threads. Where address space is limited (ulimit -v) and too little is left for a thread's code and heap, V8 ends the
 *  process without an exception; so it is looked at before (Linux, proc(5)). */
import fs from 'node:fs';

/** That V8 reserves for a thread, most of it for code, and a heap takes at first; and what must be left then. */
const THREAD_MIB = 400;
const SPARE_MIB = 300;

/** Throws Error with a remedy if there is no room for `n` more threads. */
export function checkRoom(n: number): void {
  const left = n === 0 ? null : addressSpaceLeft();
  if (left === null || left >= n * THREAD_MIB + SPARE_MIB) return;
  throw new Error(
    `no room for ${n} more thread${n === 1 ? '' : 's'}: of the address space (ulimit -v) ${Math.max(0, Math.floor(left))} MiB are left, of ${n * THREAD_MIB + SPARE_MIB} that it takes; a smaller --max-conns, fewer workers or a higher ulimit -v help`,
  );
}

/** In MiB; null if it is not limited, or not known. */
function addressSpaceLeft(): number | null {
  try {
    const limit = /^Max address space +(\d+)/m.exec(fs.readFileSync('/proc/self/limits', 'latin1'));
    if (limit === null) return null;
    const size = /^VmSize:\s+(\d+) kB/m.exec(fs.readFileSync('/proc/self/status', 'latin1'));
    return size === null ? null : Number(limit[1]) / 2 ** 20 - Number(size[1]) / 2 ** 10;
  } catch {
    return null;
  }
}
