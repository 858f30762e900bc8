/** Where a process may run (Linux, taskset of util-linux): cores of a shared machine are not equally fast at all times, so
 *  the two sides of a comparison must be on the same. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';

/** The list of cores that this process may use, such as `0-3,6`; null where that is not known. */
export function allowedCores(): string | null {
  try {
    return /^Cpus_allowed_list:\s*(\S+)$/m.exec(fs.readFileSync('/proc/self/status', 'latin1'))?.[1] ?? null;
  } catch {
    return null;
  }
}

/** `0-2,6` is 0, 1, 2, 6. */
export function coresOf(list: string): number[] {
  return list.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** Lets the main thread of a process run on some cores only; threads that it has already go where they like. False if that
 *  can't be done here. */
export function pin(pid: number | undefined, cores: string): boolean {
  if (pid === undefined) return false;
  const { status } = spawnSync('taskset', ['-c', '-p', cores, `${pid}`], { stdio: 'ignore' });
  return status === 0;
}
