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
/** `OP_RECIRC id sends`: a clone of the packet starts a new pass; the packet itself goes on. `sends`: 1 if the clone will
 *  only be changed and sent, as far as the rules can tell. */
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
/** `OP_CLONE words`: a clone of the packet runs the next `words` words, which end with OP_END; then the packet
 *  itself goes on behind them. */
export const OP_CLONE = 13;
/** `OP_CHECK_LEN size words`: passes over the next `words` words unless the frame is longer than `size`. */
export const OP_CHECK_LEN = 14;
/** `OP_TRUNC bytes`: what the next OP_OUTPUT sends of the frame at most. */
export const OP_TRUNC = 15;
/** `OP_CONTROLLER bytes reason id`: to a controller; `bytes` at most, 0xffff for all. */
export const OP_CONTROLLER = 16;
/** `OP_PUSH_MPLS lse ethertype`, `OP_POP_MPLS ethertype` */
export const OP_PUSH_MPLS = 17;
export const OP_POP_MPLS = 18;
/** `OP_DP_HASH which basis`: gives the packet a hash of its headers (HASH_* of wire/hash.ts). HASH_5TUPLE is
 *  that of the frame as captured. */
export const OP_DP_HASH = 19;
/** `OP_HASH_HEADERS which basis`: a hash for the next OP_SELECT_BEST. */
export const OP_HASH_HEADERS = 20;
/** `OP_HASH_FIELDS words basis n` and n fields: `bytes`, then for every 4 of them `constant parts`, and for
 *  each part `word mask shift`: the part's bits of the packet's flow key, moved left by `shift` or right by
 *  `-shift`. `words` is the length of all. A hash for the next OP_SELECT_BEST. */
export const OP_HASH_FIELDS = 21;
/** `OP_SELECT_MAP n offset[n]`: goes on at `offset`, from this op, of the packet's hash modulo n, a power of
 *  two. */
export const OP_SELECT_MAP = 22;
/** `OP_SELECT_BEST n (bucket weight offset)[n]`: goes on at the offset with the highest weighted score. */
export const OP_SELECT_BEST = 23;

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
export const DROP_NO_GROUP = 15;
export const DROP_NO_BUCKET = 16;
export const DROP_TTL = 17;
export const DROP_STACK = 18;
export const DROP_MPLS = 19;
export const DROP_PROGRAM_SIZE = 20;
export const DROP_RECIRC_LOST = 21;
export const DROP_FRAGMENT_HELD = 22;
export const DROP_CONTROLLER = 23;
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
  'no-such-group', //         group that the switch does not have
  'no-live-bucket', //        a group's buckets have weight 0 or watch something that is down
  'ttl-exceeded', //          dec_ttl or dec_mpls_ttl of 1 or 0
  'stack-limit', //           more pushed than OVS's bound
  'mpls-limit', //            a label stack too deep to push on or to pop from
  'program-too-long', //      more actions than a program holds
  'recirculation-lost', //    the tables changed so that nothing knows where the packet was to go on
  'fragment-held', //         ct() keeps it until its datagram is complete
  'controller-only', //       it went to a controller, and to no port
] as const;

/** Recirculations that may nest; one more is dropped (the bound of the userspace datapath). */
export const MAX_RECIRC_DEPTH = 8;
/** Passes of a packet and all its clones together: clones of clones could be millions. */
export const MAX_PASSES = 4096;
/** Words of a program from which on no further table or group is entered (Open vSwitch: 64 kB). */
export const SOFT_PROGRAM_WORDS = 16384;
/** Words of a program at most. */
export const MAX_PROGRAM_WORDS = 65536;
/** Outputs of a packet and its clones together; what is beyond is not sent, and counted. */
export const MAX_OUTPUTS = 65536;

const WIDTHS = new Map([
  [OP_END, 2],
  [OP_OUTPUT, 2],
  [OP_SET, 4],
  [OP_PUSH_VLAN, 2],
  [OP_POP_VLAN, 1],
  [OP_CT, OP_CT_WORDS],
  [OP_RECIRC, 3],
  [OP_CT_CLEAR, 1],
  [OP_NORMAL, 1],
  [OP_STAT, 2],
  [OP_LEARN, 2],
  [OP_FIN_TIMEOUT, 2],
  [OP_METER, 2],
  [OP_CLONE, 2],
  [OP_CHECK_LEN, 3],
  [OP_TRUNC, 2],
  [OP_CONTROLLER, 4],
  [OP_PUSH_MPLS, 3],
  [OP_POP_MPLS, 2],
  [OP_DP_HASH, 3],
  [OP_HASH_HEADERS, 3],
]);

/** Words of the operation at `pc`. What a clone runs, and what may be passed over, lies behind it. */
export function opWords(program: ArrayLike<number>, pc: number): number {
  const op = program[pc];
  if (op === OP_HASH_FIELDS) return program[pc + 1];
  if (op === OP_SELECT_MAP) return 2 + program[pc + 1];
  if (op === OP_SELECT_BEST) return 2 + 3 * program[pc + 1];
  const words = WIDTHS.get(op);
  if (words === undefined) throw new Error(`datapath: program has opcode ${op} at ${pc}`);
  return words;
}

/** Whether the program from `pc` on only changes and sends the packet, whatever branch it takes and with what it
 *  recirculates: it asks the coordinator for nothing that depends on other packets, and touches no connection. */
export function onlySends(program: Int32Array, pc: number): boolean {
  while (pc < program.length) {
    switch (program[pc]) {
      case OP_END:
        return true;
      case OP_CT:
      case OP_NORMAL:
      case OP_LEARN:
      case OP_FIN_TIMEOUT:
      case OP_METER:
        return false;
      case OP_RECIRC:
        if (program[pc + 2] === 0) return false;
        break;
      case OP_CLONE:
        if (!onlySends(program, pc + 2)) return false;
        pc += program[pc + 1];
        break;
      case OP_CHECK_LEN:
        if (!onlySends(program, pc + 3 + program[pc + 2])) return false;
        break;
      case OP_SELECT_MAP:
        for (const offset of new Set(program.subarray(pc + 2, pc + 2 + program[pc + 1]))) {
          if (!onlySends(program, pc + offset)) return false;
        }
        return true;
      case OP_SELECT_BEST:
        for (let i = 0; i < program[pc + 1]; i++) {
          if (!onlySends(program, pc + program[pc + 4 + 3 * i])) return false;
        }
        return true;
    }
    pc += opWords(program, pc);
  }
  return true;
}
