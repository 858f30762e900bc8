/** Checkpoints of an analysis in a file, so that after a crash it goes on without losing or doubling a record.
 *
 *  A checkpoint is taken between two packets, while none is in flight. Outputs go to the disk first, then the file,
 *  under another name until it is whole. To go on, outputs are cut to the length that they had, the captures are
 *  read past the packets that were done (which is many times faster than analyzing them), and connections are put
 *  back into the table. The file has the connections that live, 512 bytes each, so the time between two grows
 *  with them. */
import fs from 'node:fs';
import v8 from 'node:v8';
import type { Checkpoints, ReplayState } from '../coordinator/replay.js';
import type { RecordOutput } from '../output/records/output.js';
import { systemReason } from '../pcap/feed.js';
import type { WriterState } from './writer.js';

/** Moves with what a checkpoint has in it. */
const VERSION = 1;
/** Packets between two checkpoints, at least; and for each connection that lives. */
const EVERY = 1 << 20;
const PER_CONNECTION = 16;

interface Stored {
  version: number;
  /** Says which analysis it is of. */
  of: string;
  replay: ReplayState;
  writer: WriterState;
}

/** What an analysis is of: everything that its records depend on. Files are known by size and time of change. */
export interface Subject {
  paths: readonly string[];
  outputs: readonly RecordOutput[];
  /** Further options that matter. */
  options: unknown;
}

export class CheckpointFile {
  readonly path: string;
  /** To go on from, if there is a checkpoint. */
  readonly stored: { replay: ReplayState; writer: WriterState } | null;
  private readonly of: string;
  private readonly every: number;
  private readonly perConnection: number;

  /** Reads the file if there is one; `every`: packets between two, for tests. Throws Error if it is no checkpoint of
   *  `subject`. */
  constructor(path: string, subject: Subject, every: number | null = null) {
    this.path = path;
    this.every = every ?? EVERY;
    this.perConnection = every === null ? PER_CONNECTION : 0;
    const files = subject.paths.map((p) => {
      const { size, mtimeMs } = fs.statSync(p);
      return [p, size, mtimeMs];
    });
    this.of = JSON.stringify([files, subject.outputs, subject.options]);
    this.stored = this.read();
  }

  /** What a run needs to take checkpoints; `save` has the outputs written out. */
  checkpoints(save: () => WriterState): Checkpoints {
    let last = this.stored?.replay.packets ?? 0;
    return {
      from: this.stored?.replay ?? null,
      isDue: (packets, connections) =>
        packets - last >= Math.max(this.every, this.perConnection * connections),
      take: (replay) => {
        last = replay.packets;
        this.write({ version: VERSION, of: this.of, replay, writer: save() });
      },
    };
  }

  /** The analysis is done. */
  remove(): void {
    fs.rmSync(this.path, { force: true });
  }

  private read(): CheckpointFile['stored'] {
    if (!fs.existsSync(this.path)) return null;
    let stored: Stored;
    try {
      stored = v8.deserialize(fs.readFileSync(this.path)) as Stored;
      if (stored.version !== VERSION) throw new Error('it is of another version');
    } catch (error) {
      throw new Error(
        `${this.path}: not a checkpoint that can be read (${(error as Error).message}); remove it to start anew`,
      );
    }
    if (stored.of !== this.of) {
      throw new Error(
        `${this.path}: the checkpoint is of other captures, outputs or options; remove it to start anew`,
      );
    }
    // Aligned: what was read lies anywhere in the file's bytes.
    const { keeper } = stored.replay;
    keeper.live = keeper.live.slice();
    keeper.waiting = keeper.waiting.slice();
    return stored;
  }

  private write(stored: Stored): void {
    const next = `${this.path}.next`;
    try {
      const fd = fs.openSync(next, 'w');
      try {
        fs.writeFileSync(fd, v8.serialize(stored));
        fs.fdatasyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
      fs.renameSync(next, this.path);
    } catch (error) {
      throw new Error(`${this.path}: cannot write the checkpoint: ${systemReason(error)}`, { cause: error });
    }
  }
}
