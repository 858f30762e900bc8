/** Default timeouts of the userspace connection tracker, in ms (ovs-vswitchd.conf.db(5), CT_Timeout_Policy
 *  names in brackets). */

export const TCP_SYN_SENT_MS = 30_000; //     first packet, SYN or picked up in mid-stream (tcp_syn_sent)
export const TCP_OPENING_MS = 30_000; //      until both sides are established (tcp_syn_recv)
export const TCP_ESTABLISHED_MS = 86_400_000; // (tcp_established)
export const TCP_CLOSING_MS = 900_000; //     one side has sent a FIN (tcp_fin_wait)
export const TCP_FIN_WAIT_MS = 45_000; //     both have (tcp_time_wait)
export const TCP_CLOSED_MS = 30_000; //       both FINs acknowledged, or a RST (tcp_close)
export const OTHER_FIRST_MS = 60_000; //      one packet, one way (udp_first)
export const OTHER_MULTIPLE_MS = 60_000; //   more of them, one way (udp_single)
export const OTHER_BIDIR_MS = 30_000; //      both ways (udp_multiple)
export const ICMP_FIRST_MS = 60_000; //       (icmp_first)
export const ICMP_REPLY_MS = 30_000; //       (icmp_reply)

/** No packet leaves a connection with less than this, except one that ends it on the spot. */
export const SHORTEST_TIMEOUT_MS = 30_000;
