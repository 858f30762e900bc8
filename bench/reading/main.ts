/** How fast are captures read from the page cache?
 *
 *  Our readers, as a replay has them: file into the arena, record headers parsed, a record per packet filled in, the
 *  arena's segments used again when the packet is 16,384 packets behind. Beside it pcap-parser, which calls back with an
 *  object and a Buffer per packet, on the same classic captures; of pcapng it knows nothing.
 *
 *      npm run bench:reading -- --megabytes 400 --rounds 3
 *
 *  Each reading is a process of its own. Bytes are those of the file; speed is by the processor time of the process, all
 *  its threads, in the system too, because other work on the machine hardly changes that; by the clock beside it. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { markdownTable } from 'markdown-table';
import pcapParser from 'pcap-parser';
import { wholeNumber } from '../../src/cli/options.js';
import { openSource } from '../../src/cli/replay.js';
import { DEFAULT_WINDOW } from '../../src/coordinator/replay.js';
import { Random } from '../../src/generate/random.js';
import { newMergedRecord } from '../../src/pcap/merge.js';
import { ReadResult } from '../../src/pcap/types.js';
import { median } from '../peers/numbers.js';

const SELF = fileURLToPath(import.meta.url);
const WANTED_GBPS = 1.5;
const WANTED_RATIO = 5;

/** Lengths of frames: all the same, or IMIX: 7 of 64, 4 of 594, 1 of 1518 bytes. */
const SIZES: Record<string, readonly number[]> = {
  '60': [60],
  '1500': [1500],
  mix: [64, 64, 64, 64, 64, 64, 64, 594, 594, 594, 594, 1518],
};

export interface Reading {
  packets: number;
  /** Bytes of frames. */
  bytes: number;
  fileBytes: number;
  ms: number;
  cpuMs: number;
}

/** A capture of about so many bytes; frames hold nothing of interest. */
export function writeFile(
  file: string,
  format: 'pcap' | 'pcapng',
  sizes: readonly number[],
  most: number,
): void {
  const fd = fs.openSync(file, 'w');
  const random = new Random(1);
  const payload = Buffer.alloc(2048);
  for (let i = 0; i < payload.length; i++) payload[i] = random.below(256);
  const out = Buffer.alloc(1 << 20);
  let at = 0;
  if (format === 'pcap') {
    out.writeUInt32LE(0xa1b2c3d4, 0);
    out.writeUInt16LE(2, 4);
    out.writeUInt16LE(4, 6);
    out.writeUInt32LE(262144, 16);
    out.writeUInt32LE(1, 20);
    at = 24;
  } else {
    // Section header, interface description (draft-ietf-opsawg-pcapng).
    for (const word of [0x0a0d0d0a, 28, 0x1a2b3c4d, 1, -1, -1, 28, 1, 20, 1, 262144, 20])
      at = out.writeInt32LE(word, at);
  }
  let total = 0;
  for (let n = 0; total + at < most; n++) {
    const size = sizes[random.below(sizes.length)];
    const padded = (size + 3) & ~3;
    if (at + padded + 32 > out.length) {
      total += fs.writeSync(fd, out, 0, at);
      at = 0;
    }
    const us = 1_600_000_000_000_000 + n;
    if (format === 'pcap') {
      at = out.writeUInt32LE(Math.floor(us / 1e6), at);
      for (const word of [us % 1e6, size, size]) at = out.writeUInt32LE(word, at);
      at += payload.copy(out, at, 0, size);
    } else {
      const length = 32 + padded;
      for (const word of [6, length, 0, Math.floor(us / 2 ** 32), us % 2 ** 32, size, size]) {
        at = out.writeUInt32LE(word, at);
      }
      payload.copy(out, at, 0, size);
      at = out.writeUInt32LE(length, at + padded);
    }
  }
  fs.writeSync(fd, out, 0, at);
  fs.closeSync(fd);
}

async function ours(file: string): Promise<{ packets: number; bytes: number }> {
  const { arena, source } = await openSource([file]);
  const record = newMergedRecord();
  const held = new Int32Array(DEFAULT_WINDOW);
  let packets = 0;
  let bytes = 0;
  for (;;) {
    const result = source.next(record);
    if (result !== ReadResult.PACKET) {
      if (result === ReadResult.END) break;
      throw new Error('the arena is full, or the file is a stream');
    }
    const slot = packets % DEFAULT_WINDOW;
    if (packets >= DEFAULT_WINDOW) arena.release(held[slot]);
    held[slot] = record.segment;
    packets++;
    bytes += record.capLen;
  }
  source.close();
  return { packets, bytes };
}

function theirs(file: string): Promise<{ packets: number; bytes: number }> {
  return new Promise((done, fail) => {
    let packets = 0;
    let bytes = 0;
    pcapParser
      .parse(file)
      .on('packet', (packet) => {
        packets++;
        bytes += packet.data.length;
      })
      .on('end', () => done({ packets, bytes }))
      .on('error', fail);
  });
}

/** Reads a file twice and tells how long the second time took. */
export async function measure(file: string, reader: 'ours' | 'pcap-parser'): Promise<Reading> {
  const read = reader === 'ours' ? ours : theirs;
  await read(file);
  const cpu = process.cpuUsage();
  const began = performance.now();
  const { packets, bytes } = await read(file);
  const ms = performance.now() - began;
  const { user, system } = process.cpuUsage(cpu);
  return { packets, bytes, fileBytes: fs.statSync(file).size, ms, cpuMs: (user + system) / 1000 };
}

async function inProcess(file: string, reader: string): Promise<Reading> {
  const child = spawn(process.execPath, [SELF, '--file', file, '--reader', reader], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  return JSON.parse(text) as Reading;
}

const gbps = (r: Reading, key: 'ms' | 'cpuMs') => r.fileBytes / r[key] / 1e6;

async function main(o: { megabytes: number; rounds: number; dir: string; file?: string; reader: string }) {
  if (o.file !== undefined) {
    process.stdout.write(JSON.stringify(await measure(o.file, o.reader as 'ours')));
    return;
  }
  const dir = fs.mkdtempSync(path.join(o.dir, 'bench-reading-'));
  const lines = [
    [
      'capture',
      'packets',
      'ours GB/s',
      'by the clock',
      'ours ns a packet',
      'pcap-parser GB/s',
      'ratio',
      'met',
    ],
  ];
  let met = true;
  try {
    for (const format of ['pcap', 'pcapng'] as const) {
      for (const [name, sizes] of Object.entries(SIZES)) {
        const file = path.join(dir, `${name}.${format}`);
        writeFile(file, format, sizes, o.megabytes * 1e6);
        const mine: Reading[] = [];
        const other: Reading[] = [];
        for (let round = 0; round < o.rounds; round++) {
          mine.push(await inProcess(file, 'ours'));
          if (format === 'pcap') other.push(await inProcess(file, 'pcap-parser'));
        }
        fs.rmSync(file);
        const [first] = mine;
        for (const r of other) {
          if (r.packets !== first.packets || r.bytes !== first.bytes) {
            throw new Error(
              `${name}.${format}: ${r.packets} packets with pcap-parser, ${first.packets} with ours`,
            );
          }
        }
        const speed = median(mine.map((r) => gbps(r, 'cpuMs')));
        const ratio = median(
          mine.map((r, i) => gbps(r, 'cpuMs') / (other[i] ? gbps(other[i], 'cpuMs') : Number.NaN)),
        );
        const enough = speed >= WANTED_GBPS && !(ratio < WANTED_RATIO);
        met &&= enough;
        lines.push([
          `${format}, ${name} bytes`,
          first.packets.toLocaleString('en'),
          speed.toFixed(2),
          median(mine.map((r) => gbps(r, 'ms'))).toFixed(2),
          median(mine.map((r) => (r.cpuMs * 1e6) / r.packets)).toFixed(1),
          other.length === 0 ? '–' : median(other.map((r) => gbps(r, 'cpuMs'))).toFixed(3),
          other.length === 0 ? '–' : ratio.toFixed(1),
          enough ? 'yes' : '**no**',
        ]);
      }
    }
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
  process.stdout.write(
    `Node ${process.version}, load ${os.loadavg()[0].toFixed(1)}; ${o.megabytes} MB each, medians of ${o.rounds}; wanted: ${WANTED_GBPS} GB/s and ${WANTED_RATIO} times pcap-parser: ${met ? 'met' : 'not met'}\n\n`,
  );
  process.stdout.write(`${markdownTable(lines, { align: ['l', ...lines[0].slice(1).map(() => 'r')] })}\n`);
}

if (process.argv[1] === SELF) {
  const program = new Command('bench:reading')
    .option('--megabytes <N>', 'size of each capture', wholeNumber(1, 2000), 400)
    .option('--rounds <N>', 'readings of each', wholeNumber(1, 100), 3)
    .option('--dir <DIR>', 'where captures are made; best in memory', os.tmpdir())
    .addOption(new Option('--file <FILE>').hideHelp())
    .addOption(new Option('--reader <NAME>').choices(['ours', 'pcap-parser']).default('ours').hideHelp())
    .action(main);
  try {
    await program.parseAsync();
  } catch (error) {
    process.stderr.write(`bench:reading: ${(error as Error).message}\n`);
    process.exit(1);
  }
}
