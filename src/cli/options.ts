/** What the command line says, checked. */
import fs from 'node:fs';
import path from 'node:path';
import { InvalidArgumentError } from 'commander';
import { OFPP_LOCAL } from '../classifier/flow-key.js';
import type { Fault } from '../datapath/fault.js';
import { PrefixSet } from '../wire/cidr.js';

/** Wrong usage: exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** A failure with an exit code of its own. */
export class ExitError extends Error {
  override name = 'ExitError';
  readonly code: number;
  constructor(message: string, code: number, cause: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/** Runs what fails by mistakes of the user only. */
export function usage<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Throws UsageError if two outputs have one file, or standard output, or if one of them would replace an input. */
export function checkOutputs(
  outputs: readonly (string | undefined)[],
  inputs: readonly (string | undefined)[] = [],
): void {
  const read = new Set(inputs.filter((file) => file !== undefined && file !== '-').map(placeOf));
  const written = new Set<string>();
  for (const file of outputs) {
    if (file === undefined || file === '/dev/null') continue;
    if (file === '-') {
      if (written.has(file)) throw new UsageError('standard output (-) can be only one of the outputs');
      written.add(file);
      continue;
    }
    const place = placeOf(file);
    // It has the second name until it is whole.
    for (const name of [place, `${place}.partial`]) {
      if (read.has(name)) throw new UsageError(`${file}: the output would replace ${name}, which is read`);
      if (written.has(name)) throw new UsageError(`${file} is the file of two outputs`);
      written.add(name);
    }
  }
}

/** Where a file is, whatever links lead to it. */
function placeOf(file: string | undefined): string {
  const whole = path.resolve(file as string);
  try {
    return fs.realpathSync(whole);
  } catch {
    // It is not there yet.
  }
  try {
    return path.join(fs.realpathSync(path.dirname(whole)), path.basename(whole));
  } catch {
    return whole;
  }
}

/** `PORT=FILE` or, for outputs, `FILE.pcapng`. */
export interface PortFile {
  port: number | null;
  path: string;
}

/** A port number of the switch: 1 to 65279 (0xfeff), or LOCAL. */
export function parsePort(text: string): number {
  if (/^local$/i.test(text)) return OFPP_LOCAL;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (port === OFPP_LOCAL || (port >= 1 && port <= 0xfeff)) return port;
  throw new InvalidArgumentError(`"${text}" is not a port; expected 1 to 65279 or LOCAL.`);
}

export function collectIn(value: string, before: PortFile[]): PortFile[] {
  const at = value.indexOf('=');
  if (at <= 0) throw new InvalidArgumentError(`expected PORT=FILE, such as 1=inside.pcap.`);
  return [...before, { port: parsePort(value.slice(0, at)), path: value.slice(at + 1) }];
}

export function collectOut(value: string, before: PortFile[]): PortFile[] {
  const numbered = /^(\d+|local)=(.+)$/i.exec(value);
  if (numbered !== null) return [...before, { port: parsePort(numbered[1]), path: numbered[2] }];
  if (value === '-' || /\.(pcapng|ntar)$/i.test(value)) return [...before, { port: null, path: value }];
  throw new InvalidArgumentError(`expected PORT=FILE for one port, or FILE.pcapng for all.`);
}

export function parsePortList(value: string): number[] {
  return value.split(',').map((p) => parsePort(p.trim()));
}

export function parseWorkers(value: string): number | 'auto' {
  if (value === 'auto') return 'auto';
  const n = /^\d{1,3}$/.test(value) ? Number(value) : Number.NaN;
  if (n >= 0 && n <= 128) return n;
  throw new InvalidArgumentError('expected 0 to 128, or auto.');
}

export function parseInside(value: string): PrefixSet {
  try {
    return new PrefixSet(value);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** A whole number from `least` on. */
export function wholeNumber(least: number, most: number): (value: string) => number {
  return (value) => {
    const n = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (n >= least && n <= most) return n;
    throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}.`);
  };
}

/** 40 bytes as 80 hexadecimal digits, colons allowed. */
export function parseRssKey(value: string): Uint8Array {
  const hex = value.replaceAll(':', '');
  if (!/^[0-9a-f]{80}$/i.test(hex)) throw new InvalidArgumentError('expected 40 bytes in hexadecimal.');
  return Uint8Array.from({ length: 40 }, (_, i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

/** Test only: what a worker does (Fault) when so many packets have come: KIND@PACKETS. */
export function parseFault(value: string): Fault {
  const fault = /^(throw|exit|hang|memory)@(\d+)$/.exec(value);
  if (fault === null) throw new InvalidArgumentError('expected throw, exit, hang or memory, and @PACKETS.');
  return { kind: fault[1] as Fault['kind'], after: Number(fault[2]) };
}
