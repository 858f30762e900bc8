/** Entry point of the thread that writes connection records. */
import { parentPort, workerData } from 'node:worker_threads';
import { type WriterInit, writeRecords } from '../src/analyze/writer.js';

writeRecords(workerData as WriterInit, parentPort!);
