/** How long connections live: the timers of the userspace connection tracker, with their defaults, and the
 *  table of timeout policies (ovs-vswitchd.conf.db(5), CT_Timeout_Policy).
 *
 *  The table has a block of timers for the default policy and one for each zone. Shared memory: written by
 *  the coordinator while no packet is in flight, read by all. A connection says with STATE_HAS_POLICY that it
 *  follows its zone's block. Pages of zones without a policy are never touched. */
import { CONN, STATE_HAS_POLICY } from '../shm/layouts.js';
import { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP } from '../wire/extract.js';

const { ZONE_PROTO } = CONN.at;
const HAS_POLICY = STATE_HAS_POLICY;

/** Timers, by their word in a block. */
export const TM_TCP_SYN_SENT = 0; //     first packet, SYN or picked up in mid-stream
export const TM_TCP_SYN_RECV = 1; //     until both sides are established
export const TM_TCP_ESTABLISHED = 2;
export const TM_TCP_FIN_WAIT = 3; //     one side has sent a FIN
export const TM_TCP_TIME_WAIT = 4; //    both have
export const TM_TCP_CLOSE = 5; //        both FINs acknowledged, or a RST
export const TM_UDP_FIRST = 6; //        one packet, one way: UDP and all protocols not named here
export const TM_UDP_SINGLE = 7; //       more of them, one way
export const TM_UDP_MULTIPLE = 8; //     both ways
export const TM_ICMP_FIRST = 9;
export const TM_ICMP_REPLY = 10;
/** log2 of the words of a block. */
export const TM_SHIFT = 4;

/** Defaults in ms, by timer. */
export const DEFAULT_TIMEOUTS_MS = [
  30_000, 30_000, 86_400_000, 900_000, 45_000, 30_000, 60_000, 60_000, 30_000, 60_000, 30_000,
] as const;

/** No packet leaves a connection of the default policy with less than this, except one that ends it on the
 *  spot. */
export const SHORTEST_TIMEOUT_MS = 30_000;

/** Timers by the name of their attribute; null for those of other datapaths, which mean nothing here. */
export const TIMEOUT_ATTRIBUTES: ReadonlyMap<string, number | null> = new Map([
  ['tcp_syn_sent', TM_TCP_SYN_SENT],
  ['tcp_syn_recv', TM_TCP_SYN_RECV],
  ['tcp_established', TM_TCP_ESTABLISHED],
  ['tcp_fin_wait', TM_TCP_FIN_WAIT],
  ['tcp_close_wait', null],
  ['tcp_last_ack', null],
  ['tcp_time_wait', TM_TCP_TIME_WAIT],
  ['tcp_close', TM_TCP_CLOSE],
  ['tcp_syn_sent2', null],
  ['tcp_retransmit', null],
  ['tcp_unack', null],
  ['udp_first', TM_UDP_FIRST],
  ['udp_single', TM_UDP_SINGLE],
  ['udp_multiple', TM_UDP_MULTIPLE],
  ['icmp_first', TM_ICMP_FIRST],
  ['icmp_reply', TM_ICMP_REPLY],
]);

const ZONES = 0x10000;

/** The table: block 0 is the default policy, block `zone + 1` a zone's. */
export function allocateTimeouts(): SharedArrayBuffer {
  const sab = new SharedArrayBuffer(((ZONES + 1) << TM_SHIFT) * 8);
  new Float64Array(sab).set(DEFAULT_TIMEOUTS_MS);
  return sab;
}

/** First word of the block that the connection record at word `c`, whose CONN.STATE is `state`, goes by. */
export function timerBlock(state: number, hot: Int32Array, c: number): number {
  return (state & HAS_POLICY) === 0 ? 0 : ((hot[c + ZONE_PROTO] >>> 16) + 1) << TM_SHIFT;
}

/** Gives `zone` a policy: seconds by timer; timers that are not named have their default. */
export function setPolicy(timeouts: Float64Array, zone: number, seconds: ReadonlyMap<number, number>): void {
  const block = (zone + 1) << TM_SHIFT;
  DEFAULT_TIMEOUTS_MS.forEach((ms, timer) => {
    const value = seconds.get(timer);
    timeouts[block + timer] = value === undefined ? ms : value * 1000;
  });
}

/** The timer of a connection's first packet, or -1 if policies don't reach its protocol. */
export function firstTimer(proto: number): number {
  switch (proto) {
    case IPPROTO_TCP:
      return TM_TCP_SYN_SENT;
    case IPPROTO_UDP:
      return TM_UDP_FIRST;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return TM_ICMP_FIRST;
    default:
      return -1;
  }
}
