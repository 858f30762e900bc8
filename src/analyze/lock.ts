/** A file that says which process works on something, so that no other begins the same. What a process has left that was
 *  killed holds nobody up. */
import fs from 'node:fs';
import { systemReason } from '../pcap/feed.js';

export class Lock {
  private readonly path: string;
  private held = true;

  /** Throws Error if another process that lives has it, or if the file can't be written. */
  constructor(path: string) {
    this.path = path;
    try {
      if (this.take()) return;
      // One that could not be written holds nobody up, either.
      const holder = fs.readFileSync(path).toString();
      const pid = /^\d+/.exec(holder)?.[0];
      if (pid !== undefined && holder === nameOf(Number(pid))) throw new Error(`process ${pid} is at it`);
      fs.rmSync(path, { force: true });
      if (!this.take()) throw new Error('another process has just begun');
    } catch (error) {
      throw new Error(`${path}: ${systemReason(error)}`, { cause: error });
    }
  }

  release(): void {
    if (!this.held) return;
    this.held = false;
    try {
      fs.rmSync(this.path, { force: true });
    } catch {
      // The next process sees that this one has ended.
    }
  }

  private take(): boolean {
    try {
      fs.writeFileSync(this.path, nameOf(process.pid), { flag: 'wx' });
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      return false;
    }
  }
}

/** What no other process will be called: its number and, on Linux, when it began. Of one that does not live: ''. */
function nameOf(pid: number): string {
  try {
    if (process.platform !== 'linux') {
      process.kill(pid, 0);
      return `${pid}\n`;
    }
    // Behind the command's name, which may hold anything: proc_pid_stat(5), field 22.
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    return `${pid} ${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}\n`;
  } catch {
    return '';
  }
}
