/** Which blocks of the product's code have run: V8's precise coverage of this thread, through the inspector. */
import { type Profiler, Session } from 'node:inspector';

export class Coverage {
  private readonly session = new Session();
  private readonly blocks = new Set<string>();
  /** What the last `take` has found. */
  private latest: string[] = [];

  /** Blocks that have ever run. */
  get size(): number {
    return this.blocks.size;
  }

  start(): void {
    this.session.connect();
    this.session.post('Profiler.enable');
    this.session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    this.take();
  }

  /** Takes note of what has run since it was last called; returns how many blocks of these are new. */
  take(): number {
    let found: Profiler.ScriptCoverage[] = [];
    // In this thread the answer comes before `post` returns.
    this.session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error !== null) throw error;
      found = answer.result;
    });
    this.latest = [];
    for (const { url, functions } of found) {
      const at = url.lastIndexOf('/dist/src/');
      if (at < 0) continue;
      const file = url.slice(at);
      for (const { ranges } of functions) {
        for (const range of ranges) {
          if (range.count === 0) continue;
          const block = `${file} ${range.startOffset} ${range.endOffset}`;
          if (this.blocks.has(block)) continue;
          this.blocks.add(block);
          this.latest.push(block);
        }
      }
    }
    return this.latest.length;
  }

  /** As if what the last `take` has found had not run. */
  forgetLast(): void {
    for (const block of this.latest) this.blocks.delete(block);
    this.latest = [];
  }

  stop(): void {
    this.session.disconnect();
  }
}
