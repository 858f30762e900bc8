/** Analysis on many machines: jobs of BullMQ over a Redis, whose workers share a file system.
 *
 *  A job is one bucket of one set of captures; all that a set has is read as one timeline. Its files are written under names
 *  that no other process uses, and get their own when they are whole. A job that is run again, because its worker was
 *  killed or lost its lock, writes the same bytes under the same names: there is one result, whoever came first. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Job, Worker } from 'bullmq';
import { makeFolder } from '../output/folders.js';
import { ENDING, type Format } from '../output/records/formats.js';
import type { CaptureReport } from '../pcap/timeline.js';
import { type AnalyzeOptions, analyze } from './analyze.js';
import type { Bucket } from './bucket.js';
import type { Amount, Reconciliation } from './reconcile.js';
import { Summarizer, type Summary, type SummaryShare } from './summary.js';

/** The queue's name in Redis. */
const QUEUE = 'shardtrack';
/** A job whose worker says nothing for so long is given to another. */
const LOCK_MS = 30_000;
const ATTEMPTS = 3;
/** Between two looks at all jobs that are not over, whether or not Redis has told of any. */
const LOOK_MS = 5000;
/** Seconds without an answer after which a run gives up: before it has had any, and later. */
const FIRST_PATIENCE_S = 15;
const PATIENCE_S = 300;

/** What a job is to do: plain data. */
export interface JobData {
  paths: string[];
  bucket: Bucket;
  outputs: { format: Format; path: string }[];
  options: Pick<AnalyzeOptions, 'filter' | 'flows' | 'ports' | 'cutAsIs' | 'ignoreChecksums' | 'maxConns'>;
}

/** What it says when it is done. */
export interface JobResult {
  files: CaptureReport[];
  captured: { packets: number; bytes: number };
  reconciliation: Reconciliation;
  share: SummaryShare;
}

/** Where Redis is; jobs of different prefixes don't meet. */
export interface QueueAddress {
  /** `redis://host:port/db` */
  url: string;
  prefix?: string;
}

type BullMq = typeof import('bullmq');

/** Throws Error, naming the remedy, if BullMQ is not installed. */
export async function loadBullMq(): Promise<BullMq> {
  try {
    return await import('bullmq');
  } catch (error) {
    throw new Error(
      `--queue needs BullMQ, which is not installed; install it with: npm install bullmq ioredis (${(error as Error).message.split('\n')[0]})`,
    );
  }
}

function connectionOf({ url }: QueueAddress, blocking: boolean) {
  return { url, maxRetriesPerRequest: blocking ? null : 3 };
}

/** The jobs of a run: for each set its buckets. Files of a set lie in folders of Hive's kind, which DuckDB and Spark
 *  read as columns of one table. */
export function jobsOf(
  sets: readonly (readonly string[])[],
  buckets: number,
  outputs: readonly { format: Format; path: string }[],
  options: JobData['options'],
): JobData[] {
  const digits = (n: number, most: number): string => String(n).padStart(String(most - 1).length, '0');
  return sets.flatMap((paths, s) =>
    Array.from({ length: buckets }, (_, k) => ({
      paths: paths.map((p) => path.resolve(p)),
      bucket: { k, n: buckets },
      outputs: outputs.map(({ format, path: folder }) => ({
        format,
        path: path.join(
          path.resolve(folder),
          `capture_set=${digits(s, sets.length)}`,
          `bucket=${digits(k, buckets)}`,
          `connections.${ENDING[format]}`,
        ),
      })),
      options,
    })),
  );
}

/** Rejects with Error if Redis is not there in time. */
async function answers(
  { url }: QueueAddress,
  ready: Promise<unknown>,
  lastError: () => Error | null,
  signal: AbortSignal | undefined,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort = (): void => {};
  const late = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal?.reason);
    const ms = 4 * (timesOf().lockDuration ?? 0) || FIRST_PATIENCE_S * 1000;
    timer = setTimeout(() => {
      const why = lastError()?.message ?? `no answer within ${ms / 1000} s`;
      // Without a password.
      reject(
        new Error(
          `no Redis at ${new URL(url).host}: ${why}; start one there (redis-server), or name another`,
        ),
      );
    }, ms);
  });
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([ready, late]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** Runs one job. */
export async function runJob(
  data: JobData,
  workers: number | undefined,
  signal: AbortSignal,
  progress: (packets: number) => void = () => {},
): Promise<JobResult> {
  const own = randomUUID().slice(0, 8);
  const mine = data.outputs.map(({ format, path: target }) => {
    makeFolder(path.dirname(target));
    return { format, target, path: path.join(path.dirname(target), `.${path.basename(target)}.${own}`) };
  });
  try {
    const a = await analyze({
      ...data.options,
      paths: data.paths,
      bucket: data.bucket,
      outputs: mine.map(({ format, path: p }) => ({ format, path: p })),
      workers,
      signal,
      progress,
    });
    for (const { path: from, target } of mine) fs.renameSync(from, target);
    const { reconciliation, share } = a;
    return {
      files: [...a.files],
      captured: reconciliation.captured,
      reconciliation,
      share: share as SummaryShare,
    };
  } catch (error) {
    for (const { path: p } of mine) {
      fs.rmSync(p, { force: true });
      fs.rmSync(`${p}.partial`, { force: true });
    }
    throw error;
  }
}

/** A worker: takes jobs until it is stopped; then finishes the one that it has. */
export async function startWorker(
  address: QueueAddress,
  workers: number | undefined,
  say: (line: string) => void,
): Promise<{ stop: () => Promise<void> }> {
  const { Worker: BullWorker } = await loadBullMq();
  const lost = new AbortController();
  const worker: Worker<JobData, JobResult> = new BullWorker<JobData, JobResult>(
    QUEUE,
    async (job: Job<JobData, JobResult>) => {
      say(`${job.id}: ${nameOf(job.data)}`);
      let told = performance.now();
      const result = await runJob(job.data, workers, lost.signal, (packets) => {
        const now = performance.now();
        if (now - told < 1000) return;
        told = now;
        job.updateProgress({ packets }).catch(() => {});
      });
      say(`${job.id}: done, ${result.share.counted.connections} connections`);
      return result;
    },
    {
      connection: connectionOf(address, true),
      prefix: address.prefix,
      concurrency: 1,
      lockDuration: LOCK_MS,
      stalledInterval: LOCK_MS,
      maxStalledCount: ATTEMPTS,
      ...timesOf(),
    },
  );
  worker.on('failed', (job, error) => say(`${job?.id ?? '?'}: ${error.message}`));
  let told = '';
  worker.on('error', ({ message }) => {
    // It goes on trying.
    if (message !== told) say(`queue: ${message}`);
    told = message;
  });
  await worker.waitUntilReady();
  return { stop: () => worker.close() };
}

/** For tests: SHARDTRACK_QUEUE_LOCK_MS shortens the time after which a killed worker is noticed. */
function timesOf(): { lockDuration?: number; stalledInterval?: number } {
  const ms = Number(process.env.SHARDTRACK_QUEUE_LOCK_MS);
  return ms > 0 ? { lockDuration: ms, stalledInterval: ms } : {};
}

function nameOf({ paths, bucket }: JobData): string {
  const more = paths.length > 1 ? ` and ${paths.length - 1} more` : '';
  return `${paths[0]}${more}, bucket ${bucket.k + 1} of ${bucket.n}`;
}

/** Of a job that is over. */
type Outcome = { result: JobResult } | { failure: string };

/** Puts jobs into the queue and waits until workers have done them. Rejects with Error, once all are over, if any has
 *  failed for good; `signal` takes back those that no worker has begun. */
export async function runQueued(
  address: QueueAddress,
  jobs: readonly JobData[],
  progress: (done: number, packets: number) => void,
  signal?: AbortSignal,
): Promise<JobResult[]> {
  const { Queue, QueueEvents } = await loadBullMq();
  const { prefix } = address;
  const queue = new Queue<JobData, JobResult>(QUEUE, { connection: connectionOf(address, false), prefix });
  const events = new QueueEvents(QUEUE, { connection: connectionOf(address, true), prefix });
  let failure: Error | null = null;
  let isUp = false;
  // Later Redis may come back.
  queue.on('error', (error) => {
    if (!isUp) failure ??= error;
  });
  events.on('error', () => {});
  const run = randomUUID();
  const underWay = new Map<string, number>();
  let isThere = false;
  try {
    const ready = Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
    await answers(address, ready, () => failure, signal);
    isThere = true;
    // It may have come only after some tries.
    failure = null;
    let done = 0;
    const finished = new Map<string, number>();
    const tell = (): void => {
      const sum = (m: Map<string, number>): number => [...m.values()].reduce((a, b) => a + b, 0);
      progress(done, sum(finished) + sum(underWay));
    };
    events.on('progress', ({ jobId, data }) => {
      if (!jobId.startsWith(run)) return;
      underWay.set(jobId, (data as { packets: number }).packets);
      tell();
    });
    const ids = jobs.map((_, i) => `${run}-${i}`);
    const entries = jobs.map((data, i) => ({
      name: 'analyze',
      data,
      opts: {
        jobId: ids[i],
        attempts: ATTEMPTS,
        backoff: { type: 'exponential', delay: 1000 },
        removeOnComplete: { age: 24 * 3600 },
        removeOnFail: { age: 24 * 3600 },
      },
    }));
    await queue.addBulk(entries);
    isUp = true;
    const takeBack = (): void => {
      for (const id of ids) queue.remove(id).catch(() => {});
    };
    signal?.addEventListener('abort', takeBack, { once: true });
    // What has become of each job that is over. Events say when to look; now and then it is looked without: Redis may
    // have been away, and may have come back without its data. Jobs that it has lost are put in again.
    const outcomes: Outcome[] = [];
    const look = async (i: number): Promise<void> => {
      if (outcomes[i] !== undefined) return;
      const job = await queue.getJob(ids[i]);
      if (job === undefined) {
        if (signal?.aborted) return;
        await queue.add(entries[i].name, entries[i].data, entries[i].opts);
      } else if (await job.isCompleted()) {
        // The job as it was found may be older than its result.
        const result = (await queue.getJob(ids[i]))?.returnvalue;
        if (result === undefined || result === null || outcomes[i] !== undefined) return;
        outcomes[i] = { result };
        done++;
        underWay.delete(ids[i]);
        finished.set(ids[i], result.captured.packets);
        tell();
      } else if (await job.isFailed()) {
        outcomes[i] = { failure: (await queue.getJob(ids[i]))?.failedReason ?? 'it has failed' };
      }
    };
    const indexOf = new Map(ids.map((id, i) => [id, i]));
    let ended = (_?: Error): void => {};
    const over = new Promise<void>((resolve, reject) => {
      ended = (error) => (error === undefined ? resolve() : reject(error));
    });
    const isOver = (): boolean => ids.every((_, i) => outcomes[i] !== undefined);
    const onEnd = ({ jobId }: { jobId: string }): void => {
      const i = indexOf.get(jobId);
      if (i === undefined) return;
      look(i).then(
        () => isOver() && ended(),
        () => {},
      );
    };
    events.on('completed', onEnd);
    events.on('failed', onEnd);
    let answered = performance.now();
    let isLooking = false;
    const timer = setInterval(async () => {
      if (isLooking) return;
      isLooking = true;
      try {
        for (let i = 0; i < ids.length; i++) await look(i);
        answered = performance.now();
        if (isOver()) ended();
      } catch (error) {
        const seconds = (performance.now() - answered) / 1000;
        if (seconds > PATIENCE_S) {
          ended(
            new Error(
              `Redis has not answered for ${Math.round(seconds)} s (${(error as Error).message}); start it again, and run the same command`,
            ),
          );
        }
      } finally {
        isLooking = false;
      }
    }, timesOf().lockDuration ?? LOOK_MS);
    signal?.addEventListener('abort', () => ended(signal.reason as Error), { once: true });
    try {
      await over;
    } finally {
      clearInterval(timer);
    }
    signal?.throwIfAborted();
    const failed = outcomes.flatMap((o, i) => ('failure' in o ? [{ why: o.failure, i }] : []));
    if (failed.length > 0) {
      const [{ why, i }] = failed;
      throw new Error(
        `${failed.length} of ${jobs.length} jobs have failed; the first, ${nameOf(jobs[i])}: ${why}`,
      );
    }
    return outcomes.map((o) => (o as { result: JobResult }).result);
  } catch (error) {
    throw isThere ? (failure ?? error) : error;
  } finally {
    // To a Redis that was never there nothing can be said.
    if (isThere) await Promise.all([events.close(), queue.close()].map((p) => p.catch(() => {})));
    else for (const of of [events, queue]) of.disconnect().catch(() => {});
  }
}

/** Removes what killed workers have left beside the results of jobs that are done. */
export function tidy(jobs: readonly JobData[]): void {
  for (const { path: target } of jobs.flatMap((job) => job.outputs)) {
    const folder = path.dirname(target);
    for (const name of fs.existsSync(folder) ? fs.readdirSync(folder) : []) {
      if (name.startsWith(`.${path.basename(target)}.`)) fs.rmSync(path.join(folder, name), { force: true });
    }
  }
}

/** All jobs together. */
export function together(results: readonly JobResult[]): {
  captured: Amount;
  reconciliation: Reconciliation;
  summary: Summary;
} {
  const amount = (list: readonly Amount[]): Amount => ({
    packets: list.reduce((n, a) => n + a.packets, 0),
    bytes: list.reduce((n, a) => n + a.bytes, 0),
  });
  const names = new Set(results.flatMap((r) => r.reconciliation.rows.map((row) => row.name)));
  const rows = [...names].map((name) => ({
    name,
    ...amount(results.flatMap((r) => r.reconciliation.rows.filter((row) => row.name === name))),
  }));
  const captured = amount(results.map((r) => r.captured));
  const sums = new Summarizer(() => null);
  for (const { share } of results) sums.join(share);
  const summary = sums.summary();
  return {
    captured,
    reconciliation: {
      captured,
      rows,
      records: {
        connections: summary.connections,
        ...amount(results.map((r) => r.reconciliation.records)),
      },
      repeated: amount(results.map((r) => r.reconciliation.repeated)),
    },
    summary,
  };
}
