/** Action programs: what a megaflow entry makes the datapath do, as Int32 words. Written by translation
 *  (`openflow/translate.ts`), run by the engine (`datapath/engine.ts`). The datapath actions of
 *  ovs-actions(7), "Datapath actions", in the order in which they apply. */

export {
  NAT_ADDRESS,
  NAT_DST,
  NAT_HASH,
  NAT_IPV6,
  NAT_ON,
  NAT_PERSISTENT,
  NAT_RANDOM,
  NAT_SRC,
} from '../conntrack/nat.js';

/** `OP_END reason`: why the packet went nowhere, if it did. */
export const OP_END = 0;
/** `OP_OUTPUT port` */
export const OP_OUTPUT = 1;
/** `OP_SET word value mask`: header bits of a flow key word. */
export const OP_SET = 2;
/** `OP_PUSH_VLAN tpid<<16|tci` */
export const OP_PUSH_VLAN = 3;
export const OP_POP_VLAN = 4;
/** `OP_CT flags zone mark mark_mask label[4] label_mask[4] nat nat_min[4] nat_max[4] nat_ports alg`
 *
 *  nat: NAT_* bits, 0 for none. Addresses most significant word first, an IPv4 one in the first word.
 *  nat_ports: first << 16 | last, 0 for none. alg: ALG_*. */
export const OP_CT = 5;
export const OP_CT_WORDS = 24;
/** Words of OP_CT, from its start. */
export const CT_ARG_NAT = 13;
export const CT_ARG_NAT_MIN = 14;
export const CT_ARG_NAT_MAX = 18;
export const CT_ARG_NAT_PORTS = 22;
export const CT_ARG_ALG = 23;
/** `OP_RECIRC id`: a clone of the packet starts a new pass; the packet itself goes on. */
export const OP_RECIRC = 6;
export const OP_CT_CLEAR = 7;
/** `OP_NORMAL`: L2 switching; needs the MAC table, so the coordinator answers in input order. */
export const OP_NORMAL = 8;
/** `OP_STAT id`: what counts the packet (`StatPoints` of openflow/counted.ts); first op of a program. */
export const OP_STAT = 9;
/** `OP_LEARN id`: a learn() that changes the tables (`Pipeline.learn`); before anything but OP_STAT. */
export const OP_LEARN = 10;
/** `OP_FIN_TIMEOUT id`: shortens a rule's timeouts (`Pipeline.finTimeout`); where OP_LEARN is. */
export const OP_FIN_TIMEOUT = 11;
/** `OP_METER id`: drops the packet, and what is left of the program, if the meter says so. */
export const OP_METER = 12;

export const CT_COMMIT = 1;
export const CT_FORCE = 2;
export const CT_SET_MARK = 4;
export const CT_SET_LABEL = 8;

export const ALG_NONE = 0;
export const ALG_FTP = 1;
export const ALG_TFTP = 2;

/** Why a packet had no output: index into DROP_REASONS. */
export const DROP_NONE = 0;
export const DROP_ACTION = 1;
export const DROP_TABLE_MISS = 2;
export const DROP_NO_PORT = 3;
export const DROP_TO_IN_PORT = 4;
export const DROP_NO_OUTPUT = 5;
export const DROP_TOO_SHORT = 6;
export const DROP_RESUBMIT_DEPTH = 7;
export const DROP_RECIRC_LIMIT = 8;
export const DROP_NORMAL_RESERVED = 9;
export const DROP_NORMAL_SAME_PORT = 10;
export const DROP_NORMAL_PARTIAL_VLAN = 11;
export const DROP_NORMAL_NO_PORT = 12;
export const DROP_COMMIT_REFUSED = 13;
export const DROP_METER = 14;
/** Stable names, as verdicts and --stats print them. */
export const DROP_REASONS = [
  null,
  'drop-action', //           the rule says drop (or has no actions)
  'table-miss', //            no rule of the table matches
  'no-such-port', //          output to a port that the switch does not have
  'output-to-input-port', //  OVS never sends a packet back unless told in_port
  'no-output', //             the actions ran to their end without an output
  'frame-too-short', //       less than an Ethernet header
  'resubmit-limit', //        nested or total resubmits over OVS's bounds
  'recirculation-limit', //   passes over the datapath's bound
  'normal-reserved-mac', //   normal does not forward 01:80:c2:00:00:0x
  'normal-same-port', //      normal learned the destination on the input port
  'normal-partial-vlan', //   normal refuses a cut VLAN tag
  'normal-no-other-port', //  normal had nowhere to flood to
  'commit-refused', //        --strict: no connection could be made for it
  'meter', //                 over the rate of a meter
] as const;

/** Recirculations that may nest; one more is dropped (the bound of the userspace datapath). */
export const MAX_RECIRC_DEPTH = 8;
/** Passes of a packet and all its clones together: clones of clones could be millions. */
export const MAX_PASSES = 4096;
/** Words of a program: translation stops an action list that grows beyond (Open vSwitch at 64 kB). */
export const MAX_PROGRAM_WORDS = 16384;
/** Outputs of a packet and its clones together; what is beyond is not sent, and counted. */
export const MAX_OUTPUTS = 65536;

/** Whether the program from `pc` on only changes and sends the packet: it asks the coordinator for nothing
 *  and touches no connection. */
export function onlySends(program: Int32Array, pc: number): boolean {
  for (;;) {
    switch (program[pc]) {
      case OP_END:
        return true;
      case OP_OUTPUT:
      case OP_PUSH_VLAN:
      case OP_STAT:
        pc += 2;
        break;
      case OP_SET:
        pc += 4;
        break;
      case OP_POP_VLAN:
      case OP_CT_CLEAR:
        pc += 1;
        break;
      default:
        return false;
    }
  }
}
