/** Translation of a packet: gives it the addresses and ports that its connection has on the other side, in
 *  the header and, in an ICMP error, in the packet inside (RFC 5508, section 4). Checksums follow by
 *  incremental update (RFC 1624), so that a wrong one stays wrong; a UDP checksum that was left out stays
 *  out (RFC 3022, section 4.1). */
import * as flowKey from '../classifier/flow-key.js';
import { ConnKey } from '../conntrack/key.js';
import * as natAsk from '../conntrack/nat.js';
import type { Partition } from '../conntrack/partition.js';
import * as layouts from '../shm/layouts.js';
import { checksum, sum, update32 } from '../wire/checksum.js';
import * as headers from '../wire/extract.js';
import { Ipv6Walk, walkIpv6 } from '../wire/extract.js';
import { setIcmpId, setPorts, translateWord6, updateL4Checksum } from '../wire/rewrite.js';
import type { PacketContext } from './context.js';
import { EDIT_DESTINATION6, EDIT_ICMP_ID, EDIT_SOURCE6, type FrameEditor } from './edit.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { CS_DNAT, CS_SNAT, FLOW } = flowKey;
const { NAT_DST, NAT_SRC } = natAsk;
const { NAT } = layouts;
const { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } = headers;

const { CT_STATE, NW_SRC, NW_DST, IPV6_SRC_0, TP } = FLOW;
const NAT_SHIFT = NAT.shift;
const ACTION = NAT.at.ACTION;

export class NatRewriter {
  private readonly partition: Partition;
  private readonly editor: FrameEditor;
  /** What the other direction's packets look like. */
  private readonly peer = new ConnKey();
  private readonly walk = new Ipv6Walk();

  constructor(partition: Partition, editor: FrameEditor) {
    this.partition = partition;
    this.editor = editor;
  }

  /** Translates a packet of the translated connection in `slot` that goes in the direction `reply`, or an
   *  ICMP error (`related`) that goes with it. */
  translate(ctx: PacketContext, slot: number, reply: number, related: boolean): void {
    const { peer, editor, partition } = this;
    const { key } = ctx;
    const action = partition.nat[(slot << NAT_SHIFT) + ACTION];
    if (action !== NAT_SRC && action !== NAT_DST) return;
    const snat = (action === NAT_SRC) === (reply === 0);
    key[CT_STATE] |= snat ? CS_SNAT : CS_DNAT;
    editor.claim(ctx);
    // What comes back is sent to where this packet is to come from, and from where it is to go.
    partition.load(slot, reply ^ 1, peer);
    if (peer.ipv6) this.setAddress6(ctx, snat);
    else editor.set(ctx, snat ? NW_SRC : NW_DST, snat ? peer.dst : peer.src, -1);
    if (related) {
      ctx.foldable = false;
      this.inner(ctx, snat);
    } else {
      this.ports(ctx);
    }
  }

  private setAddress6(ctx: PacketContext, source: boolean): void {
    const { peer } = this;
    const { view, key, layout } = ctx;
    const from = source ? 4 : 0;
    const to = source ? 0 : 4;
    const l4 = ctx.off + layout.l4;
    ctx.edited((source ? EDIT_SOURCE6 : EDIT_DESTINATION6) | (peer.proto << 8));
    for (let i = 0; i < 4; i++) {
      const at = ctx.off + layout.l3 + 8 + (to + i) * 4;
      const word = peer.addr6[from + i];
      // By the connection's protocol even in an ICMPv6 error, as in Open vSwitch: for a TCP connection that
      // hits the address of the packet inside, for a UDP connection the MTU (docs/ovs-differences.md).
      translateWord6(view, at, l4, layout.end - layout.l4, peer.proto, word);
      ctx.edited(word);
      key[IPV6_SRC_0 + to + i] = word;
    }
  }

  private ports(ctx: PacketContext): void {
    const { peer } = this;
    const { view, layout } = ctx;
    if (withPorts(peer.proto)) {
      this.editor.set(ctx, TP, (peer.ports << 16) | (peer.ports >>> 16), -1);
    } else if (peer.proto === IPPROTO_ICMP && !peer.ipv6) {
      setIcmpId(view, ctx.off + layout.l4, peer.ports >>> 16);
      ctx.edited(EDIT_ICMP_ID);
      ctx.edited(peer.ports >>> 16);
    }
  }

  /** The packet inside an error was sent by whoever the error goes to: it is turned round. */
  private inner(ctx: PacketContext, snat: boolean): void {
    const { peer, walk } = this;
    const { view, layout } = ctx;
    const l3 = ctx.off + layout.l3;
    const error = ctx.off + layout.l4;
    const end = ctx.off + layout.end;
    const inner = error + 8;
    if (!peer.ipv6) {
      const l4 = inner + ((view.getUint8(inner) & 15) << 2);
      const size = end - l4;
      if (withPorts(peer.proto)) setInnerPorts(view, l4, size, peer.proto, peer.ports);
      else if (peer.proto === IPPROTO_ICMP && isQuery(view.getUint8(l4))) {
        setIcmpId(view, l4, peer.ports & 0xffff);
      }
      const at = snat ? inner + 16 : inner + 12;
      const from = view.getInt32(at);
      const to = snat ? peer.dst : peer.src;
      updateL4Checksum(view, l4, size, peer.proto, from, to);
      view.setUint16(inner + 10, update32(view.getUint16(inner + 10), from, to));
      view.setInt32(at, to);
      view.setUint16(error + 2, 0);
      view.setUint16(error + 2, checksum(sum(view, error, end - error)));
      return;
    }
    walkIpv6(view, inner + 40, end, view.getUint8(inner + 6), walk);
    const l4 = walk.off;
    const size = end - l4;
    if (withPorts(peer.proto)) setInnerPorts(view, l4, size, peer.proto, peer.ports);
    for (let i = 0; i < 4; i++) {
      const at = inner + (snat ? 24 : 8) + i * 4;
      const from = view.getInt32(at);
      const to = peer.addr6[(snat ? 4 : 0) + i];
      updateL4Checksum(view, l4, size, peer.proto, from, to);
      view.setInt32(at, to);
    }
    const length = end - error;
    view.setUint16(error + 2, 0);
    const total = sum(view, l3 + 8, 32) + length + IPPROTO_ICMPV6 + sum(view, error, length);
    view.setUint16(error + 2, checksum(total));
  }
}

function withPorts(proto: number): boolean {
  return proto === IPPROTO_TCP || proto === IPPROTO_UDP || proto === IPPROTO_SCTP;
}

/** ICMP messages that have an id: queries and their answers. */
function isQuery(type: number): boolean {
  return type === 0 || type === 8 || (type >= 13 && type <= 16);
}

/** Ports of a packet that may have been cut to its first 8 bytes. */
function setInnerPorts(view: DataView, l4: number, size: number, proto: number, ports: number): void {
  if ((proto === IPPROTO_TCP && size < 20) || (proto === IPPROTO_SCTP && size < 12)) {
    // A cut TCP header may still have its checksum.
    if (proto === IPPROTO_TCP && size >= 18) {
      view.setUint16(l4 + 16, update32(view.getUint16(l4 + 16), view.getInt32(l4), ports));
    }
    view.setInt32(l4, ports);
    return;
  }
  setPorts(view, l4, size, proto, ports, -1);
}
