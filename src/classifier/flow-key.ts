/** The flow key: everything that a flow table can match on, as Int32 words.
 *
 *  Words 0 to KEY_WORDS-1 are what a packet carries through the datapath (its headers and the conntrack
 *  metadata); megaflows match on them. The words after that exist only while the OpenFlow tables are
 *  walked (registers, metadata) and are frozen into a recirculation id.
 *
 *  All values are in host order: the first byte on the wire is the most significant one. A 48-bit or
 *  128-bit field runs from its most to its least significant word. Written by the parser
 *  (`wire/extract.ts`) and by translation; nobody shares one between threads. */
import { record } from '../shm/record.js';

const KEY = record(
  'IN_PORT', //      OpenFlow port number
  'RECIRC_ID', //    0 on the first pass
  'CT_STATE', //     CS_* bits below
  'CT_ZONE',
  'CT_MARK',
  'CT_LABEL_0', //   most significant word of ct_label
  'CT_LABEL_1',
  'CT_LABEL_2',
  'CT_LABEL_3',
  'ETH_DST_HI', //   first 4 bytes of eth_dst
  'ETH_DST_LO_SRC_HI', // last 2 bytes of eth_dst, first 2 of eth_src
  'ETH_SRC_LO', //   last 4 bytes of eth_src
  'ETH_TYPE', //     bits 0-15; 0x05ff (OFP_DL_TYPE_NOT_ETH_TYPE) for 802.2 frames without SNAP
  'VLAN_0', //       outer tag: TPID << 16 | TCI, with bit 12 of the TCI (CFI) set when present
  'VLAN_1', //       inner tag, same form
  'NW_SRC', //       IPv4 source, or ARP sender protocol address
  'NW_DST', //       IPv4 destination, or ARP target protocol address
  'IPV6_SRC_0',
  'IPV6_SRC_1',
  'IPV6_SRC_2',
  'IPV6_SRC_3',
  'IPV6_DST_0',
  'IPV6_DST_1',
  'IPV6_DST_2',
  'IPV6_DST_3',
  'NW', //           frag << 24 | tos << 16 | ttl << 8 | proto; for ARP proto is the opcode's low byte
  'TP', //           tp_src << 16 | tp_dst; ICMP type and code there
  'TCP_FLAGS', //    12 bits; nd_options_type for neighbour discovery
  'IPV6_LABEL', //   20 bits
  'ARP_SHA_HI', //   first 4 bytes of arp_sha or nd_sll
  'ARP_SHA_LO_THA_HI', // last 2 bytes of arp_sha, first 2 of arp_tha or nd_tll
  'ARP_THA_LO', //   last 4 bytes of arp_tha
  'ND_TARGET_0',
  'ND_TARGET_1',
  'ND_TARGET_2',
  'ND_TARGET_3',
  'ND_RESERVED', //  reserved word of a neighbour solicitation or advertisement
  'MPLS_0', //       outermost label stack entry: label << 12 | tc << 9 | bos << 8 | ttl
  'MPLS_1',
  'MPLS_2',
  'DP_HASH', //      hash that a select group asked the datapath for; 0 before
  'CT_NW_SRC', //    original direction tuple of the connection
  'CT_NW_DST',
  'CT_TP', //        ct_tp_src << 16 | ct_tp_dst
  'CT_NW_PROTO',
  'CT_IPV6_SRC_0',
  'CT_IPV6_SRC_1',
  'CT_IPV6_SRC_2',
  'CT_IPV6_SRC_3',
  'CT_IPV6_DST_0',
  'CT_IPV6_DST_1',
  'CT_IPV6_DST_2',
  'CT_IPV6_DST_3',
  // ---- translation only from here on ----
  'METADATA_HI',
  'METADATA_LO',
  'TUN_ID_HI', //    tunnel metadata, packet mark and priority: nothing here has tunnels, but
  'TUN_ID_LO', //    pipelines use them as registers
  'TUN_SRC',
  'TUN_DST',
  'PKT_MARK',
  'SKB_PRIORITY',
  'ACTSET_OUTPUT', // port that the action set outputs to, numbered as in OpenFlow 1.1; 0xfffffff7: none
  'CONJ_ID',
  'REG0',
  'REG1',
  'REG2',
  'REG3',
  'REG4',
  'REG5',
  'REG6',
  'REG7',
  'REG8',
  'REG9',
  'REG10',
  'REG11',
  'REG12',
  'REG13',
  'REG14',
  'REG15',
  'REG16',
  'REG17',
  'REG18',
  'REG19',
  'REG20',
  'REG21',
  'REG22',
  'REG23',
  'REG24',
  'REG25',
  'REG26',
  'REG27',
  'REG28',
  'REG29',
  'REG30',
  'REG31',
);

/** Word offsets of the flow key's fields. */
export const FLOW = KEY.at;
/** Words that a packet carries through the datapath. */
export const KEY_WORDS = FLOW.METADATA_HI;
/** Words of a flow while tables are walked. */
export const FLOW_WORDS = FLOW.REG31 + 1;

/** ct_state bits, as ovs-fields(7) numbers them. */
export const CS_NEW = 0x01;
export const CS_EST = 0x02;
export const CS_REL = 0x04;
export const CS_RPL = 0x08;
export const CS_INV = 0x10;
export const CS_TRK = 0x20;
export const CS_SNAT = 0x40;
export const CS_DNAT = 0x80;

/** Names of the ct_state bits from bit 0 up. */
export const CT_STATE_NAMES = ['new', 'est', 'rel', 'rpl', 'inv', 'trk', 'snat', 'dnat'] as const;

/** nw_frag bits (ovs-fields(7), ip_frag). */
export const FRAG_ANY = 1;
export const FRAG_LATER = 2;

/** OpenFlow reserved port numbers (ovs-ofctl(8)). */
export const OFPP_MAX = 0xff00;
export const OFPP_IN_PORT = 0xfff8;
export const OFPP_TABLE = 0xfff9;
export const OFPP_NORMAL = 0xfffa;
export const OFPP_FLOOD = 0xfffb;
export const OFPP_ALL = 0xfffc;
export const OFPP_CONTROLLER = 0xfffd;
export const OFPP_LOCAL = 0xfffe;
export const OFPP_NONE = 0xffff;

/** "+new+trk", in bit order, or "" for 0. */
export function ctStateText(state: number): string {
  let text = '';
  for (let bit = 0; bit < CT_STATE_NAMES.length; bit++) {
    if ((state >>> bit) & 1) text += '+' + CT_STATE_NAMES[bit];
  }
  return text;
}
