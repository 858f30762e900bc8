/** Checkpoints of an analysis in a file, so that after a crash it goes on without losing or doubling a record.
 *
 *  A checkpoint is taken between two packets, while none is in flight. Outputs go to the disk first, then the file,
 *  under another name until it is whole. To go on, outputs are cut to the length that they had, the captures are
 *  read past the packets that were done (which is many times faster than analyzing them), and connections are put
 *  back into the table. The file has the connections that live, 512 bytes each, so the time between two grows
 *  with them. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import v8 from 'node:v8';
import type { Checkpoints, ReplayState } from '../coordinator/replay.js';
import type { RecordOutput } from '../output/records/formats.js';
import { systemReason } from '../pcap/feed.js';
import { Lock } from './lock.js';
import type { WriterState } from './writer.js';

/** Moves with what a checkpoint has in it. */
const VERSION = 6;
/** Before all else in the file: what says that it is whole and as it was written. */
const DIGEST = 'sha256';
const DIGEST_BYTES = 32;
/** Packets between two checkpoints, at least; and for each connection that lives. */
const EVERY = 1 << 20;
const PER_CONNECTION = 16;

/** How the options are called where they are given. */
const OPTION_NAMES: Readonly<Record<string, string>> = {
  outputs: 'outputs (-o)',
  filter: 'packets (--filter)',
  cutAsIs: 'treatment of cut packets (--cut-as-is)',
  ignoreChecksums: 'checks (--ignore-checksums)',
  maxConns: 'limits (--max-conns)',
  ports: 'ports (--inside)',
};

interface Stored {
  version: number;
  /** Says which analysis it is of: JSON texts of captures, outputs and each option. */
  of: Readonly<Record<string, string>>;
  replay: ReplayState;
  writer: WriterState;
}

/** What an analysis is of: everything that its records depend on. Files are known by size and time of change. */
export interface Subject {
  paths: readonly string[];
  outputs: readonly RecordOutput[];
  /** Further options that matter, by name; plain data. */
  options: Readonly<Record<string, unknown>>;
}

export class CheckpointFile {
  readonly path: string;
  /** To go on from, if there is a checkpoint. */
  readonly stored: { replay: ReplayState; writer: WriterState } | null;
  private readonly of: Readonly<Record<string, string>>;
  private readonly every: number;
  private readonly perConnection: number;
  private readonly lock: Lock;

  /** Reads the file if there is one; `every`: packets between two, for tests. Throws Error if it is no checkpoint of
   *  `subject`, or if another process is at it. */
  constructor(path: string, subject: Subject, every: number | null = null) {
    this.path = path;
    this.every = every ?? EVERY;
    this.perConnection = every === null ? PER_CONNECTION : 0;
    const files = subject.paths.map((p) => {
      const { size, mtimeMs } = fs.statSync(p);
      return [p, size, mtimeMs];
    });
    const { outputs, options } = subject;
    this.of = Object.fromEntries(
      Object.entries({ captures: files, outputs, ...options }).map(([name, v]) => [name, JSON.stringify(v)]),
    );
    this.lock = new Lock(`${path}.lock`);
    try {
      this.stored = this.read();
    } catch (error) {
      this.leave();
      throw error;
    }
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
    for (const file of [this.path, this.next]) fs.rmSync(file, { force: true });
  }

  /** This process has ended with it, done or not. */
  leave(): void {
    this.lock.release();
  }

  /** The name of a checkpoint that is not whole yet; a crash may leave it. */
  private get next(): string {
    return `${this.path}.next`;
  }

  private read(): CheckpointFile['stored'] {
    let bytes: Buffer;
    try {
      bytes = fs.readFileSync(this.path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw new Error(`${this.path}: cannot read the checkpoint: ${systemReason(error)}`, { cause: error });
    }
    let stored: Stored;
    try {
      const state = bytes.subarray(DIGEST_BYTES);
      if (!bytes.subarray(0, DIGEST_BYTES).equals(digestOf(state)))
        throw new Error('it is damaged, or of another version');
      stored = v8.deserialize(state) as Stored;
      if (stored.version !== VERSION) throw new Error('it is of another version');
    } catch (error) {
      throw new Error(
        `${this.path}: not a checkpoint that can be read (${(error as Error).message}); remove it to start anew`,
      );
    }
    const other = Object.keys(this.of).find((name) => stored.of[name] !== this.of[name]);
    if (other !== undefined) {
      const [is, was] = [this.of[other], stored.of[other]].map((text) => text ?? 'nothing');
      throw new Error(
        other === 'captures'
          ? `${this.path}: the checkpoint is of other captures, or of captures that have changed since; remove it to start anew`
          : `${this.path}: the checkpoint is of a run with other ${OPTION_NAMES[other] ?? other} (${was}, now ${is}); remove it to start anew`,
      );
    }
    // Aligned: what was read lies anywhere in the file's bytes.
    const { keeper } = stored.replay;
    keeper.live = keeper.live.slice();
    keeper.waiting = keeper.waiting.slice();
    return stored;
  }

  private write(stored: Stored): void {
    const { next } = this;
    try {
      const fd = fs.openSync(next, 'w');
      try {
        const state = v8.serialize(stored);
        fs.writeFileSync(fd, digestOf(state));
        fs.writeFileSync(fd, state);
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

function digestOf(state: Uint8Array): Uint8Array {
  return createHash(DIGEST).update(state).digest();
}
