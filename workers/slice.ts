/** Entry point of the thread of a slice. */
import { parentPort, workerData } from 'node:worker_threads';
import { type SliceInit, sliceThread } from '../src/analyze/slice-thread.js';

await sliceThread(workerData as SliceInit, parentPort!);
