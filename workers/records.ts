/** Entry point of the thread that writes connection records. */
import { parentPort, workerData } from 'node:worker_threads';
import { writeRecords } from '../src/analyze/record-thread.js';
import type { WriterInit } from '../src/analyze/writer.js';

writeRecords(workerData as WriterInit, parentPort!);
