/** Where verdicts go: NDJSON, captures per port, one pcapng with an interface per port. Every file has a
 *  temporary name until `finish`. */
import { createHash } from 'node:crypto';
import { OFPP_CONTROLLER, OFPP_LOCAL } from '../classifier/flow-key.js';
import type { Verdict, VerdictSink } from '../coordinator/collector.js';
import { OutputFile } from '../pcap/output-file.js';
import { PcapWriter } from '../pcap/pcap-writer.js';
import { PcapngWriter } from '../pcap/pcapng-writer.js';

/** Digits of a frame's hash that are written. */
const HASH_DIGITS = 16;

/** A sink with files behind it. */
export interface FileSink extends VerdictSink {
  readonly path: string;
  /** Makes the output whole and gives it its name. */
  finish(): void;
  /** Writes out what there is; the file keeps its temporary name. */
  abort(): void;
}

/** One line a packet, in input order; on demand with a hash of every frame that was sent, in the order of `out` and
 *  then of controllers. */
export class NdjsonSink implements FileSink {
  readonly path: string;
  private readonly out: OutputFile;
  private readonly hashes: boolean;

  constructor(path: string, hashes = false) {
    this.path = path;
    this.hashes = hashes;
    this.out = new OutputFile(path);
  }

  verdict(v: Verdict): void {
    const nsec = String(v.nsec).padStart(9, '0');
    this.out.writeText(
      `{"packet":${v.packet},"ts":"${v.sec}.${nsec}","in_port":${v.inPort},${v.template.json}${this.hashes ? frameHashes(v) : ''}}\n`,
    );
  }

  finish(): void {
    this.out.finish();
  }

  abort(): void {
    this.out.abort();
  }
}

/** As a further member of the line. */
function frameHashes(v: Verdict): string {
  const { frames, controller } = v.template;
  const hashes = [...frames, ...controller].map((f) => {
    const bytes = v.frameBytes[f].subarray(v.frameOff[f], v.frameOff[f] + v.frameLen[f]);
    return createHash('sha1').update(bytes).digest('hex').slice(0, HASH_DIGITS);
  });
  return `,"frames":${JSON.stringify(hashes)}`;
}

/** What one port sent, or the controller got, as nanosecond pcap. */
export class PortSink implements FileSink {
  readonly path: string;
  private readonly port: number;
  private readonly out: PcapWriter;

  /** `port` may be OFPP_CONTROLLER. */
  constructor(port: number, path: string) {
    this.port = port;
    this.path = path;
    this.out = new PcapWriter(path);
  }

  verdict(v: Verdict): void {
    const { out, frames, controller } = v.template;
    if (this.port === OFPP_CONTROLLER) {
      for (const f of controller) this.write(v, f);
      return;
    }
    for (let i = 0; i < out.length; i++) if (out[i] === this.port) this.write(v, frames[i]);
  }

  private write(v: Verdict, f: number): void {
    this.out.write(v.sec, v.nsec, v.frameBytes[f], v.frameOff[f], v.frameLen[f], wireLen(v, f));
  }

  finish(): void {
    this.out.finish();
  }

  abort(): void {
    this.out.abort();
  }
}

/** What all ports sent: one interface a port, on demand the verdict as a packet comment. */
export class PcapngSink implements FileSink {
  readonly path: string;
  private readonly out: PcapngWriter;
  private readonly comments: boolean;
  private readonly interfaces = new Map<number, number>();

  constructor(path: string, ports: readonly number[], comments: boolean) {
    this.path = path;
    this.comments = comments;
    this.out = new PcapngWriter(path);
    for (const port of ports) this.interfaces.set(port, this.out.addInterface(portName(port)));
  }

  verdict(v: Verdict): void {
    const { out, frames } = v.template;
    for (let i = 0; i < out.length; i++) {
      const f = frames[i];
      this.out.write(
        this.interfaces.get(out[i])!,
        v.sec,
        v.nsec,
        v.frameBytes[f],
        v.frameOff[f],
        v.frameLen[f],
        wireLen(v, f),
        this.comments ? comment(v) : undefined,
      );
    }
  }

  finish(): void {
    this.out.finish();
  }

  abort(): void {
    this.out.abort();
  }
}

/** A frame that was cut by the snap length stays cut by as much. */
function wireLen(v: Verdict, frame: number): number {
  return Math.max(v.frameLen[frame], v.wireLen + v.frameLen[frame] - v.frameLen[0]);
}

function portName(port: number): string {
  return port === OFPP_LOCAL ? 'LOCAL' : `port ${port}`;
}

function comment(v: Verdict): string {
  const ct = v.template.ct.map((c) => `zone ${c.zone} ${c.state}`).join(', ');
  return `packet ${v.packet} from ${portName(v.inPort)}${ct === '' ? '' : `; ct: ${ct}`}; out: ${v.template.out.map(portName).join(', ')}`;
}
