/** Connection records as an IPFIX File (RFC 5655): messages of RFC 7011 one after the other, each record a biflow
 *  (RFC 5103) whose forward direction is the original one. All templates are in the first message.
 *
 *      message   version 10 | length | export time | sequence number | domain       16 bytes
 *      set       id | length | records, big-endian, without padding                 4 bytes + records
 *
 *  Elements are those of IANA's registry; elements of replies have the enterprise number 29305. Which a record has
 *  depends on its IP version, on its protocol and on whether it is translated: a template for each. */
import type { ConnectionRecord } from '../../coordinator/record.js';
import { OutputFile, type Written } from '../../pcap/output-file.js';
import { CREATED_STEP } from '../../shm/layouts.js';
import { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP } from '../../wire/extract.js';
import type { RecordSink } from './sinks.js';

const VERSION = 10;
const MESSAGE_HEADER = 16;
const SET_HEADER = 4;
const TEMPLATE_SET = 2;
const FIRST_TEMPLATE = 256;
/** RFC 5103, section 6.1. */
const REVERSE_PEN = 29305;
/** Small enough to be sent on in a datagram over a loopback device or with jumbo frames. */
const MESSAGE_BYTES = 8192;
/** Seconds from 1900 to 1970: the epoch of dateTimeNanoseconds is that of NTP (RFC 7011, section 6.1.9). */
const NTP_EPOCH = 2_208_988_800;

/** flowEndReason (element 136). */
const END_IDLE = 1;
const END_DETECTED = 3;
const END_FORCED = 4;

interface Field {
  readonly element: number;
  readonly reverse: boolean;
  readonly bytes: number;
  readonly write: (view: DataView, at: number, r: ConnectionRecord) => void;
}

type Value = (r: ConnectionRecord) => number;

const u8 = (element: number, value: Value): Field => ({
  element,
  reverse: false,
  bytes: 1,
  write: (view, at, r) => view.setUint8(at, value(r)),
});
const u16 = (element: number, value: Value): Field => ({
  element,
  reverse: false,
  bytes: 2,
  write: (view, at, r) => view.setUint16(at, value(r)),
});
const u32 = (element: number, value: Value): Field => ({
  element,
  reverse: false,
  bytes: 4,
  write: (view, at, r) => view.setUint32(at, value(r)),
});
const u64 = (element: number, value: Value): Field => ({
  element,
  reverse: false,
  bytes: 8,
  write: (view, at, r) => setUint64(view, at, value(r)),
});
const reverse = (field: Field): Field => ({ ...field, reverse: true });
/** Four words of an address from `word` of the row on, or one. */
const address = (element: number, words: 1 | 4, word: (r: ConnectionRecord) => number): Field => ({
  element,
  reverse: false,
  bytes: 4 * words,
  write: (view, at, r) => {
    const from = word(r);
    for (let i = 0; i < words; i++) view.setInt32(at + 4 * i, r.words[from + i]);
  },
});
const ntp = (element: number, sec: Value, nsec: Value): Field => ({
  element,
  reverse: false,
  bytes: 8,
  write: (view, at, r) => {
    view.setUint32(at, sec(r) + NTP_EPOCH);
    view.setUint32(at + 4, Math.floor((nsec(r) * 2 ** 32) / 1e9));
  },
});

const isIcmp = (r: ConnectionRecord): boolean => r.proto === (r.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);

/** flowStart and flowEnd to the nanosecond, and in milliseconds for collectors that know no other; packets, bytes from
 *  the IP header on, of layer 2, and of payload. */
const COMMON: readonly Field[] = [
  u64(148, (r) => Math.round(r.place * CREATED_STEP)), // flowId
  u64(152, (r) => millis(r.startSec, r.startNsec)), // flowStartMilliseconds
  u64(153, (r) => millis(r.endSec, r.endNsec)),
  ntp(
    156, // flowStartNanoseconds
    (r) => r.startSec,
    (r) => r.startNsec,
  ),
  ntp(
    157,
    (r) => r.endSec,
    (r) => r.endNsec,
  ),
  u8(60, (r) => (r.ipv6 ? 6 : 4)), // ipVersion
  u8(4, (r) => r.proto), // protocolIdentifier
  u8(239, () => 1), // biflowDirection: forward is from the initiator
  u8(136, endReason), // flowEndReason
  u32(10, (r) => r.inPort), // ingressInterface
  u32(234, (r) => r.zone), // ingressVRFID
  u16(58, (r) => r.vlan[0] ?? 0), // vlanId
  u64(2, (r) => r.packets[0]), // packetDeltaCount
  reverse(u64(2, (r) => r.packets[1])),
  u64(1, (r) => r.ipBytes[0]), // octetDeltaCount
  reverse(u64(1, (r) => r.ipBytes[1])),
  u64(352, (r) => r.frameBytes[0]), // layer2OctetDeltaCount
  reverse(u64(352, (r) => r.frameBytes[1])),
  u64(231, (r) => r.payloadBytes[0]), // initiatorOctets
  u64(232, (r) => r.payloadBytes[1]), // responderOctets
  u64(133, (r) => r.drops), // droppedPacketDeltaCount
];
const TCP: readonly Field[] = [
  u16(6, (r) => r.tcpFlags[0]), // tcpControlBits
  reverse(u16(6, (r) => r.tcpFlags[1])),
];
const PORTS: readonly Field[] = [
  u16(7, (r) => r.words[r.origAt + 2] >>> 16), // sourceTransportPort
  u16(11, (r) => r.words[r.origAt + 2] & 0xffff),
];
const ADDRESSES: readonly (readonly Field[])[] = [
  [address(8, 1, (r) => r.origAt), address(12, 1, (r) => r.origAt + 1)], // sourceIPv4Address
  [address(27, 4, (r) => r.addr6At), address(28, 4, (r) => r.addr6At + 4)], // sourceIPv6Address
];
/** The end of a translated connection is seen by what its replies go to and come from. */
const TRANSLATED: readonly (readonly Field[])[] = [
  [address(225, 1, (r) => r.natAt + 1), address(226, 1, (r) => r.natAt)], // postNATSourceIPv4Address
  [address(281, 4, (r) => r.natAddr6At + 4), address(282, 4, (r) => r.natAddr6At)],
];
const TRANSLATED_PORTS: readonly Field[] = [
  u16(227, (r) => r.words[r.natAt + 2] & 0xffff), // postNAPTSourceTransportPort
  u16(228, (r) => r.words[r.natAt + 2] >>> 16),
];

/** icmpTypeCodeIPv4, icmpTypeCodeIPv6; of the original direction, whose code is 0. */
const ICMP: readonly (readonly Field[])[] = [
  [u16(32, (r) => (r.connection.orig.type ?? 0) << 8)],
  [u16(139, (r) => (r.connection.orig.type ?? 0) << 8)],
];

const KIND_PORTS = 0;
const KIND_TCP = 1;
const KIND_ICMP = 2;
const KINDS = 3;

/** By (version * KINDS + kind) * 2 + translated. */
const TEMPLATES: readonly (readonly Field[])[] = [0, 1].flatMap((v) =>
  [KIND_PORTS, KIND_TCP, KIND_ICMP].flatMap((kind) =>
    [false, true].map((translated) => [
      ...COMMON,
      ...ADDRESSES[v],
      ...(kind === KIND_ICMP ? ICMP[v] : PORTS),
      ...(kind === KIND_TCP ? TCP : []),
      ...(translated ? TRANSLATED[v] : []),
      ...(translated && kind !== KIND_ICMP ? TRANSLATED_PORTS : []),
    ]),
  ),
);
const SIZES = TEMPLATES.map((fields) => fields.reduce((n, f) => n + f.bytes, 0));

/** The file, and the message under way. */
interface IpfixState {
  written: Written;
  message: Uint8Array;
  numbers: [number, number, number, number, number];
}

export class IpfixRecords implements RecordSink {
  readonly path: string;
  private readonly out: OutputFile;
  private readonly message = new Uint8Array(MESSAGE_BYTES);
  private readonly view = new DataView(this.message.buffer);
  private used = MESSAGE_HEADER;
  /** Where the set under way starts, and its template; -1 if there is none. */
  private set = 0;
  private template = -1;
  /** Records in earlier messages, and in this one. */
  private sent = 0;
  private nRecords = 0;
  /** Export time, in seconds: the end of the latest connection so far. */
  private time = 0;

  /** `saved` is what another sink's `save` has returned. */
  constructor(path: string, saved?: unknown) {
    this.path = path;
    const state = saved as IpfixState | undefined;
    this.out = new OutputFile(path, state?.written ?? null);
    if (state === undefined) {
      this.templates();
      return;
    }
    this.message.set(state.message);
    this.used = state.message.length;
    [this.set, this.template, this.sent, this.nRecords, this.time] = state.numbers;
  }

  save(): IpfixState {
    const { used, set, template, sent, nRecords, time } = this;
    return {
      written: this.out.sync(),
      message: this.message.slice(0, used),
      numbers: [set, template, sent, nRecords, time],
    };
  }

  record(r: ConnectionRecord): void {
    const kind = r.proto === IPPROTO_TCP ? KIND_TCP : isIcmp(r) ? KIND_ICMP : KIND_PORTS;
    const template = ((r.ipv6 ? KINDS : 0) + kind) * 2 + (r.isTranslated ? 1 : 0);
    if (this.used + SET_HEADER + SIZES[template] > MESSAGE_BYTES) this.send();
    if (this.template !== template) {
      this.closeSet();
      this.openSet(FIRST_TEMPLATE + template);
      this.template = template;
    }
    for (const field of TEMPLATES[template]) {
      field.write(this.view, this.used, r);
      this.used += field.bytes;
    }
    if (r.endSec > this.time) this.time = r.endSec;
    this.nRecords++;
  }

  finish(): void {
    this.send();
    this.out.finish();
  }

  abort(): void {
    this.out.abort();
  }

  private templates(): void {
    this.openSet(TEMPLATE_SET);
    const { view } = this;
    const word = (value: number): void => {
      view.setUint16(this.used, value);
      this.used += 2;
    };
    TEMPLATES.forEach((fields, i) => {
      word(FIRST_TEMPLATE + i);
      word(fields.length);
      for (const { element, bytes, reverse } of fields) {
        word(reverse ? element | 0x8000 : element);
        word(bytes);
        if (reverse) {
          view.setUint32(this.used, REVERSE_PEN);
          this.used += 4;
        }
      }
    });
    this.template = TEMPLATES.length;
  }

  private openSet(id: number): void {
    this.set = this.used;
    this.view.setUint16(this.set, id);
    this.used += SET_HEADER;
  }

  private closeSet(): void {
    if (this.template >= 0) this.view.setUint16(this.set + 2, this.used - this.set);
    this.template = -1;
  }

  private send(): void {
    if (this.used === MESSAGE_HEADER) return;
    this.closeSet();
    const { view } = this;
    view.setUint16(0, VERSION);
    view.setUint16(2, this.used);
    view.setUint32(4, this.time);
    view.setUint32(8, this.sent);
    view.setUint32(12, 0);
    this.out.writeRange(this.message, 0, this.used);
    this.sent = (this.sent + this.nRecords) % 2 ** 32;
    this.nRecords = 0;
    this.used = MESSAGE_HEADER;
  }
}

/** A TCP connection whose end was seen ended by itself, and its record when its time was over. */
function endReason(r: ConnectionRecord): number {
  if (r.ending === 'timeout') return r.isClosed ? END_DETECTED : END_IDLE;
  return r.ending === 'replaced' ? END_DETECTED : END_FORCED;
}

/** Without a sign: times before 1970, of damaged captures, become 0. */
function millis(sec: number, nsec: number): number {
  return Math.max(0, sec * 1000 + Math.floor(nsec / 1e6));
}

function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value >>> 0);
}
