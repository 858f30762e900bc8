/** Files of connection records: NDJSON, CSV, Zeek's conn.log, `conntrack -L`, `dpctl/dump-conntrack`. Parquet is in
 *  parquet.ts. Each is whole or called `.partial`. */
import { TCP_STATE_NAMES } from '../../conntrack/tcp.js';
import { formatConnection, protocolName, type Tuple, tcpOneState } from '../../coordinator/dump.js';
import { type ConnectionRecord, connState } from '../../coordinator/record.js';
import { OutputFile, type Written } from '../../pcap/output-file.js';
import { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP } from '../../wire/extract.js';
import { COLUMNS, type RuleNames, timeText } from './columns.js';

export interface RecordSink {
  readonly path: string;
  record(r: ConnectionRecord): void;
  /** Writes out what there is; returns what another sink for the file needs to go on from here: plain data. */
  save(): unknown;
  /** Makes the file whole and gives it its name. */
  finish(): void;
  /** Leaves what there is as `<path>.partial`. */
  abort(): void;
}

/** A format of a line a record. */
abstract class LineSink implements RecordSink {
  readonly path: string;
  protected readonly out: OutputFile;

  /** `head` starts the file; `saved` is what another sink's `save` has returned. */
  constructor(path: string, head: string, saved: unknown) {
    this.path = path;
    this.out = new OutputFile(path, (saved as Written | undefined) ?? null);
    if (saved === undefined) this.out.writeText(head);
  }

  record(r: ConnectionRecord): void {
    this.out.writeText(`${this.line(r)}\n`);
  }

  save(): Written {
    return this.out.sync();
  }

  finish(): void {
    this.out.finish();
  }

  abort(): void {
    this.out.abort();
  }

  protected abstract line(r: ConnectionRecord): string;
}

/** An object a line; columns that do not apply are null, times are numbers in text. */
export class NdjsonRecords extends LineSink {
  private readonly rules: RuleNames;

  constructor(path: string, rules: RuleNames, saved?: unknown) {
    super(path, '', saved);
    this.rules = rules;
  }

  protected line(r: ConnectionRecord): string {
    return recordJson(r, this.rules);
  }
}

export function recordJson(r: ConnectionRecord, rules: RuleNames): string {
  let text = '';
  for (const { name, value } of COLUMNS) {
    const v = value(r, rules);
    text += `${text === '' ? '{' : ','}"${name}":`;
    text += typeof v === 'number' ? v : typeof v === 'bigint' ? `"${timeText(v)}"` : JSON.stringify(v);
  }
  return `${text}}`;
}

/** RFC 4180, with a head line; lines end in \n. */
export class CsvRecords extends LineSink {
  private readonly rules: RuleNames;

  constructor(path: string, rules: RuleNames, saved?: unknown) {
    super(path, `${COLUMNS.map((c) => c.name).join()}\n`, saved);
    this.rules = rules;
  }

  protected line(r: ConnectionRecord): string {
    return COLUMNS.map(({ value }) => {
      const v = value(r, this.rules);
      if (v === null) return '';
      const text = typeof v === 'bigint' ? timeText(v) : String(v);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    }).join();
  }
}

/** conn.log of Zeek, in its TSV format. */
export class ZeekRecords extends LineSink {
  constructor(path: string, saved?: unknown) {
    super(
      path,
      `#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#fields\t${ZEEK_FIELDS.join('\t')}\n#types\t${ZEEK_TYPES.join('\t')}\n`,
      saved,
    );
  }

  protected line(r: ConnectionRecord): string {
    const { connection: c } = r;
    const { orig } = c;
    const tcp = c.proto === IPPROTO_TCP;
    // A record of one packet, or of several at one time, has no duration and no sizes.
    // Of TCP the last ACKs, after both ends have closed, are not in it.
    const duration = r.closedNs ?? r.durationNs;
    const timed = duration > 0;
    const sizes = tcp ? streamSpan(r) : r.payloadBytes;
    const micros = (ns: number): string => (Math.round(ns / 1000) / 1e6).toFixed(6);
    const ts = r.startSec * 1e6 + Math.floor(r.startNsec / 1000);
    const icmp = c.proto === (c.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
    return [
      `${Math.floor(ts / 1e6)}.${String(ts - Math.floor(ts / 1e6) * 1e6).padStart(6, '0')}`,
      zeekUid(r),
      orig.src,
      icmp ? orig.type : (orig.sport ?? 0),
      orig.dst,
      icmp ? orig.code : (orig.dport ?? 0),
      tcp ? 'tcp' : c.proto === IPPROTO_UDP ? 'udp' : icmp ? 'icmp' : 'unknown_transport',
      '-',
      timed ? micros(duration) : '-',
      timed ? sizes[0] : '-',
      timed ? sizes[1] : '-',
      connState(r),
      '-',
      '-',
      r.missedBytes[0] + r.missedBytes[1],
      r.history === '' || !(tcp || c.proto === IPPROTO_UDP) ? '-' : r.history,
      r.packets[0],
      r.ipBytes[0],
      r.packets[1],
      r.ipBytes[1],
      '-',
      c.proto,
    ].join('\t');
  }

  override finish(): void {
    this.out.writeText('#close\t-\n');
    super.finish();
  }
}

const ZEEK: readonly (readonly [string, string])[] = [
  ['ts', 'time'],
  ['uid', 'string'],
  ['id.orig_h', 'addr'],
  ['id.orig_p', 'port'],
  ['id.resp_h', 'addr'],
  ['id.resp_p', 'port'],
  ['proto', 'enum'],
  ['service', 'string'],
  ['duration', 'interval'],
  ['orig_bytes', 'count'],
  ['resp_bytes', 'count'],
  ['conn_state', 'string'],
  ['local_orig', 'bool'],
  ['local_resp', 'bool'],
  ['missed_bytes', 'count'],
  ['history', 'string'],
  ['orig_pkts', 'count'],
  ['orig_ip_bytes', 'count'],
  ['resp_pkts', 'count'],
  ['resp_ip_bytes', 'count'],
  ['tunnel_parents', 'set[string]'],
  ['ip_proto', 'count'],
];
const ZEEK_FIELDS = ZEEK.map(([name]) => name);
const ZEEK_TYPES = ZEEK.map(([, type]) => type);

/** Zeek counts bytes by sequence numbers: what was missed is in. */
function streamSpan(r: ConnectionRecord): [number, number] {
  return [r.streamBytes[0] + r.missedBytes[0], r.streamBytes[1] + r.missedBytes[1]];
}

/** Zeek draws them at random; these come from the connection's place in the input. */
function zeekUid(r: ConnectionRecord): string {
  return `C${r.place.toString(36).replace('.', 'x')}`;
}

/** As `conntrack -L`, with times over: of connections that have ended, 0. */
export class ConntrackRecords extends LineSink {
  constructor(path: string, saved?: unknown) {
    super(path, '', saved);
  }

  protected line(r: ConnectionRecord): string {
    const { connection: c } = r;
    const state = c.proto === IPPROTO_TCP ? ` ${TCP_STATE_NAMES[tcpOneState(c.state)]}` : '';
    const answered = r.packets[1] > 0;
    let line = `${protocolName(c.proto).padEnd(8)} ${c.proto} 0${state} ${this.side(c.orig, r, 0)}`;
    if (!answered) line += ' [UNREPLIED]';
    line += ` ${this.side(c.reply, r, 1)}`;
    if (answered) line += ' [ASSURED]';
    line += ` mark=${c.mark}`;
    if (c.zone !== 0) line += ` zone=${c.zone}`;
    return `${line} use=1`;
  }

  private side(t: Tuple, r: ConnectionRecord, reply: 0 | 1): string {
    const ports =
      t.id === undefined ? `sport=${t.sport} dport=${t.dport}` : `type=${t.type} code=${t.code} id=${t.id}`;
    return `src=${t.src} dst=${t.dst} ${ports} packets=${r.packets[reply]} bytes=${r.ipBytes[reply]}`;
  }
}

/** As `ovs-appctl dpctl/dump-conntrack -m`. */
export class DpctlRecords extends LineSink {
  constructor(path: string, saved?: unknown) {
    super(path, '', saved);
  }

  protected line(r: ConnectionRecord): string {
    return formatConnection(r.connection, 0, { verbose: true, statistics: false, zone: null });
  }
}
