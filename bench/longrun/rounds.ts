/** Verdicts of a capture that begins again and again: once it has settled, each round must have those of the one before. */
import type { Verdict, VerdictSink } from '../../src/coordinator/collector.js';

export class Rounds implements VerdictSink {
  verdicts = 0;
  passed = 0;
  dropped = 0;
  /** Verdicts that were compared, and those that were others. */
  compared = 0;
  different = 0;
  /** The first of these. */
  first: string | null = null;
  private readonly before: string[];
  private readonly settling: number;
  private row = 0;
  private round = 0;

  /** Rounds of `n` packets; from round number `settling` on, counted from 0, each is compared. */
  constructor(n: number, settling: number) {
    this.before = new Array<string>(n).fill('');
    this.settling = settling;
  }

  verdict({ template }: Verdict): void {
    const { before, row } = this;
    this.verdicts++;
    if (template.reason === null) this.passed++;
    else this.dropped++;
    if (this.round >= this.settling) {
      this.compared++;
      if (before[row] !== template.json) {
        this.different++;
        this.first ??= `round ${this.round}, packet ${row + 1}: ${template.json}; in the round before: ${before[row]}`;
      }
    }
    before[row] = template.json;
    if (++this.row === before.length) {
      this.row = 0;
      this.round++;
    }
  }
}
