/** Every table that two threads share, word by word. `docs/architecture.md` has the pictures. */
import { record } from './record.js';

/** Most connections that Shardtrack can be told to hold. */
export const MOST_CONNS = 20_000_000;

/** Hot half of a tracked connection: one cache line.
 *
 *  Writer: the coordinator until the record is published in the partition's index and after it has been
 *  unpublished; in between the home worker alone. The key (words 0 to 3) never changes while published.
 *
 *      word 3  ZONE_PROTO   zone:16 | proto:8 | kind:8    kind: KIND_* or the ICMP type of the original
 *      word 4  STATE        peer0:4 | peer1:4 (from bit 0), wscale0:8, wscale1:8, flags:8 (bits 24-31)
 *      word 5  WINS         max_win of the original direction:16 (bits 0-15), of the reply:16
 *      word 10 EXPIRES      Float64: the tracker's clock in ms at which the connection is gone */
export const CONN = record(
  'SRC', //    IPv4 source of the original direction, or fold6() of an IPv6 one
  'DST',
  'PORTS', //  sport << 16 | dport; ICMP: id << 16 | id; 0 for protocols without ports
  'ZONE_PROTO',
  'STATE',
  'WINS',
  'SEQLO_0', // TCP (others: see `isTranslated` in microflow.ts), by direction: highest sequence number sent …
  'SEQHI_0', // … and the highest that the other end lets it send
  'SEQLO_1',
  'SEQHI_1',
  'EXPIRES',
  'EXPIRES_HI',
  'PKTS_0', // packets and bytes by direction, modulo 2^32; carries go to COLD.CARRY
  'PKTS_1',
  'BYTES_0',
  'BYTES_1',
);

/** Cold half of a connection: touched when a connection has a mark or label, and by dumps. */
export const COLD = record(
  'MARK',
  'LABEL_0', // most significant word
  'LABEL_1',
  'LABEL_2',
  'LABEL_3',
  'CARRY', //   2^32s of BYTES_0 in bits 0-15 and of BYTES_1 in bits 16-31
  'CREATED', // Float64: number of the packet that committed it, plus which of its ct() / CREATED_STEP
  'CREATED_HI',
);

/** So many ct() actions of a packet are told apart in CREATED. */
export const CREATED_STEP = 2 ** 20;

/** Addresses of an IPv6 connection, original direction. */
export const ADDR6 = record('SRC_0', 'SRC_1', 'SRC_2', 'SRC_3', 'DST_0', 'DST_1', 'DST_2', 'DST_3');

/** What translation and helpers add to a connection (STATE_TRANSLATED, STATE_FTP, STATE_TFTP), one cache
 *  line. Writer: as CONN; SKEW and SKEW_DIR belong to the home worker once published. */
export const NAT = record(
  'SRC', //       tuple of the reply direction, as SRC, DST and PORTS of CONN
  'DST',
  'PORTS',
  'ACTION', //    NAT_SRC or NAT_DST, seen from the original direction; 0: `nat` without arguments
  'SKEW', //      bytes by which payload rewriting has moved the sequence numbers …
  'SKEW_DIR', //  … of this direction (0: original, 1: reply)
  'UNUSED_0',
  'UNUSED_1',
  'SRC6_0', //    addresses of an IPv6 reply tuple
  'SRC6_1',
  'SRC6_2',
  'SRC6_3',
  'DST6_0',
  'DST6_1',
  'DST6_2',
  'DST6_3',
);

/** Original tuple of the control connection that a data connection (STATE_CHILD) was expected by. */
export const PARENT = record(
  'SRC',
  'DST',
  'PORTS',
  'ZONE_PROTO',
  'SRC6_0',
  'SRC6_1',
  'SRC6_2',
  'SRC6_3',
  'DST6_0',
  'DST6_1',
  'DST6_2',
  'DST6_3',
);

/** What analysis keeps of a connection beside the tracker's own state, 256 bytes; only there when records are asked
 *  for. Writer: the coordinator (zeroes it) until the connection is published, then its home worker alone. Pairs of
 *  words at even places are Float64; a number at the end of a name is the direction (0: original). */
export const RECORD = record(
  // The first two cache lines have all that a segment in order touches.
  'LAST_PACKET', // number of the last packet, from 0
  'LAST_PACKET_HI',
  'FRAME_BYTES_0', // on the wire, from the first byte of the Ethernet header on
  'FRAME_BYTES_0_HI',
  'FRAME_BYTES_1',
  'FRAME_BYTES_1_HI',
  'IP_BYTES_0', //   from the IP header on, without Ethernet padding
  'IP_BYTES_0_HI',
  'IP_BYTES_1',
  'IP_BYTES_1_HI',
  'PAYLOAD_0', //    behind the transport header
  'PAYLOAD_0_HI',
  'PAYLOAD_1',
  'PAYLOAD_1_HI',
  'PKTS_0',
  'PKTS_1',
  'SEQ_BYTES_0', //  TCP: of the stream, repetitions and holes left out
  'SEQ_BYTES_0_HI',
  'SEQ_BYTES_1',
  'SEQ_BYTES_1_HI',
  'END_SEC', //      the latest time of any packet, seconds unsigned
  'END_NSEC',
  'NEXT_0', //       TCP: sequence number behind the furthest byte
  'NEXT_1',
  'FLAGS', //        TCP flags of direction 0 in bits 0-7, of 1 in 8-15; RECORD_* above
  'HISTORY_0', //    4 bits an event, in order: RECORD_EVENTS
  'HISTORY_1', //    the ninth and later; which there are in bits 16-27
  'HOLE_LO_0', //    TCP: the latest hole in the stream; empty if both are the same
  'HOLE_HI_0',
  'HOLE_LO_1',
  'HOLE_HI_1',
  'INVALID', //      packets that were not in the connection's windows
  'FIRST_PACKET', // number of the first packet, from 0
  'FIRST_PACKET_HI',
  'MISSED_0', //     TCP: bytes in holes
  'MISSED_0_HI',
  'MISSED_1',
  'MISSED_1_HI',
  'START_SEC', //    time of the first packet, in the same way
  'START_NSEC',
  'SYN_SEC', //      time of the last SYN before its answer
  'SYN_NSEC',
  'RETRANS_0',
  'RETRANS_1',
  'DISORDER_0',
  'DISORDER_1',
  'ERRORS', //       ICMP errors about the connection
  'VLAN', //         TCI of the outer tag in bits 16-31, of the inner in 0-15, each with bit 12 set; 0: none
  'IN_PORT',
  'DROPS', //        packets that the flow table dropped, why the first was, and at which stat point
  'DROP_REASON',
  'DROP_STAT',
  'SYNACK_NS', //    Float64: ns from SYN to SYN-ACK …
  'SYNACK_NS_HI',
  'RTT_NS', //       … and to the ACK of that
  'RTT_NS_HI',
  'DROP_PACKET', // number of the first packet that was dropped, from 1
  'DROP_PACKET_HI',
  'CLOSED_SEC', //   TCP: time of the FIN or RST after which both ends had sent one; 0 if that was not so
  'CLOSED_NSEC',
);

/** Bits of RECORD.FLAGS: the direction's stream has begun; times in SYNACK_NS and RTT_NS. */
export const RECORD_STREAM_0 = 1 << 16;
export const RECORD_STREAM_1 = 1 << 17;
export const RECORD_SYNACK = 1 << 18;
export const RECORD_RTT = 1 << 19;
export const RECORD_SYN = 1 << 20;
/** Letters of the events in HISTORY, from 1 on: those of Zeek's conn.log, upper case for the original direction. */
export const RECORD_EVENTS = 'SHADFRshadfr';

/** An index bucket: one cache line. TAG_n is the hash of a tuple, TAG_FREE or TAG_REMOVED; ENTRY_n is
 *  `slot << 1 | reply`, valid only behind a published tag. `reply` is 1 for the entry that a translated
 *  connection has for the tuple of its replies. */
export const BUCKET_SHIFT = 4;
export const BUCKET_WAYS = 8;
export const TAG_FREE = 0;
/** An emptied way that searches still go past: one behind it is in use, or an entry did not fit into the bucket. */
export const TAG_REMOVED = 1;

/** Bits of CONN.STATE above the protocol's. */
export const STATE_HAS_META = 1 << 24; //   mark or label is not zero
export const STATE_HAS_POLICY = 1 << 25; // it goes by the timeout policy of its zone
export const STATE_TRANSLATED = 1 << 26; // replies have a tuple of their own, in NAT
export const STATE_FTP = 1 << 27; //        a helper reads the connection
export const STATE_TFTP = 1 << 28;
export const STATE_CHILD = 1 << 29; //      a helper expected the connection; PARENT says whose
export const STATE_ENDED = 1 << 30; //      a packet has ended it, at EXPIRES
/** Connections that need more than a look at the hot half. */
export const STATE_SPECIAL = STATE_HAS_META | STATE_TRANSLATED | STATE_FTP | STATE_TFTP | STATE_CHILD;

/** Low byte of ZONE_PROTO. IPv4 ICMP has its type there (below 0x80), ICMPv6 0x80 or 0x81. */
export const KIND_IPV4 = 0;
export const KIND_IPV6 = 0x82;

/** Control words that all threads share, in cache lines of 16 words. */
export const CTL_LINE = 16;
/** Line 0, the main thread's: bumped and notified when there is something for it to do … */
export const CTL_MAIN_BELL = 0;
/** … which it wants to hear of only while it sleeps … */
export const CTL_MAIN_ASLEEP = 1;
/** … and settings: 1 while TCP sequence checks are off (dpctl/ct-disable-tcp-seq-chk). */
export const CTL_NO_SEQ_CHECK = 2;
/** … and the generation of the tables: what a worker has cached of an older one serves no more. */
export const CTL_GENERATION = 3;
/** … and 1 while no commit can be refused: a worker may make connections in slots that it has been granted. */
export const CTL_GRANTING = 4;
/** Line 2n + 1 is written by the others for worker n … */
export const CTL_BELL = 0;
export const CTL_STOP = 1;
/** … how many of the connections that it has made by itself can be found, modulo 2^32 … */
export const CTL_SERVED = 2;
/** … and line 2n + 2 by worker n: vectors finished (a freed record is reused once this moves on). */
export const CTL_EPOCH = 0;
export const CTL_ASLEEP = 1; // AWAKE or …
export const AWAKE = 0;
/** … until there is something in a ring … */
export const ASLEEP = 1;
/** … or CTL_SERVED has changed. */
export const ASLEEP_FOR_SERVED = 2;

/** Words of the control block for `workers` workers. */
export function ctlWords(workers: number): number {
  return (1 + 2 * workers) * CTL_LINE;
}
