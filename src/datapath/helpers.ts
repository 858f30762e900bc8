/** Helpers of ct(alg=…): they read control connections, expect the data connections that are announced
 *  there and, where addresses are translated, translate what is announced too. FTP (RFC 959, RFC 2428)
 *  and TFTP (RFC 1350).
 *
 *  An address in an FTP command has another length than the one that takes its place, so all that follows
 *  has other sequence numbers on one side than on the other; the difference is kept in NAT.SKEW. */
import { CS_INV, CS_RPL, CS_TRK, FLOW } from '../classifier/flow-key.js';
import type { Expectations } from '../conntrack/expectations.js';
import {
  announcesData,
  FtpAnnouncement,
  ftpMessage,
  readAnnouncement4,
  readAnnouncement6,
} from '../conntrack/ftp.js';
import { ConnKey } from '../conntrack/key.js';
import type { Partition } from '../conntrack/partition.js';
import { CONN, NAT, STATE_FTP } from '../shm/layouts.js';
import { formatIpv4, formatIpv6 } from '../wire/address.js';
import { checksum, sum, update16, update32 } from '../wire/checksum.js';
import { ETH_TYPE_IPV6, IPPROTO_TCP } from '../wire/extract.js';
import type { PacketContext } from './context.js';
import type { FrameEditor } from './edit.js';
import { ALG_FTP } from './program.js';

const { CT_STATE, ETH_TYPE } = FLOW;
const { PORTS, STATE } = CONN.at;
const { SKEW, SKEW_DIR } = NAT.at;
const NAT_SHIFT = NAT.shift;
const HOT_SHIFT = CONN.shift;

export class Helpers {
  private readonly partition: Partition;
  private readonly editor: FrameEditor;
  private readonly expectations: Expectations;
  private readonly announcement = new FtpAnnouncement();
  private readonly orig = new ConnKey();
  private readonly replies = new ConnKey();

  constructor(partition: Partition, editor: FrameEditor, expectations: Expectations) {
    this.partition = partition;
    this.editor = editor;
    this.expectations = expectations;
  }

  /** A packet of the control connection `conn` (slot << 1 | reply), for helper `control`. */
  read(ctx: PacketContext, control: number, conn: number, nat: boolean): void {
    if (control === ALG_FTP) {
      const message = this.message(ctx);
      if (announcesData(message, isIpv6(ctx))) this.announced(ctx, conn, message, nat);
    } else {
      // Whatever the request is, the server answers from a port of its own to the client's.
      const port = this.partition.hot[((conn >> 1) << HOT_SHIFT) + PORTS] >>> 16;
      this.expectations.add(conn >> 1, ctx.key[CT_STATE] & CS_RPL ? 1 : 0, port, ctx.now);
    }
  }

  /** The direction whose sequence numbers have moved. */
  skewDirection(slot: number): number {
    const { hot, nat } = this.partition;
    if (!(hot[(slot << HOT_SHIFT) + STATE] & STATE_FTP)) return 0;
    return nat[(slot << NAT_SHIFT) + SKEW_DIR];
  }

  /** Moves sequence or acknowledgement numbers of a packet that announces nothing. */
  adjust(ctx: PacketContext, conn: number, nat: boolean): void {
    if (!nat || this.skew(conn >> 1) === 0 || announcesData(this.message(ctx), isIpv6(ctx))) return;
    this.shift(ctx, conn);
  }

  private skew(slot: number): number {
    const { hot, nat } = this.partition;
    return hot[(slot << HOT_SHIFT) + STATE] & STATE_FTP ? nat[(slot << NAT_SHIFT) + SKEW] : 0;
  }

  private shift(ctx: PacketContext, conn: number): void {
    const n = (conn >> 1) << NAT_SHIFT;
    const { nat } = this.partition;
    const skew = nat[n + SKEW];
    if (skew === 0) return;
    this.editor.own(ctx);
    const { view } = ctx;
    const l4 = ctx.off + ctx.layout.l4;
    const same = (conn & 1) === nat[n + SKEW_DIR];
    const at = same ? l4 + 4 : l4 + 8;
    const from = view.getInt32(at);
    const to = (same ? from + skew : from - skew) | 0;
    view.setInt32(at, to);
    view.setUint16(l4 + 16, update32(view.getUint16(l4 + 16), from, to));
  }

  private message(ctx: PacketContext): string {
    const l4 = ctx.off + ctx.layout.l4;
    const header = (ctx.view.getUint8(l4 + 12) >>> 4) << 2;
    return ftpMessage(ctx.view, l4 + header, ctx.off + ctx.layout.end - l4 - header);
  }

  /** A packet that should announce a data connection. */
  private announced(ctx: PacketContext, conn: number, message: string, nat: boolean): void {
    const { announcement: a, orig, replies, partition, expectations } = this;
    const { key } = ctx;
    const slot = conn >> 1;
    const ipv6 = isIpv6(ctx);
    const read = ipv6 ? readAnnouncement6(message, a) : readAnnouncement4(message, a);
    partition.load(slot, 0, orig);
    partition.load(slot, 1, replies);
    // The address as its sender knows it, and as the other end does.
    const own = a.active ? ([orig, 0] as const) : ([replies, 0] as const);
    const seen = a.active ? ([replies, 4] as const) : ([orig, 4] as const);
    if (!read || (a.hasAddress && !isAddress(a, ...own) && !isAddress(a, ...seen))) {
      key[CT_STATE] |= CS_TRK | CS_INV;
      return;
    }
    expectations.add(slot, key[CT_STATE] & CS_RPL ? 1 : 0, a.port, ctx.now);
    let by = 0;
    if (nat && a.hasAddress) {
      const text = ipv6 ? formatIpv6(seen[0].addr6, 4) : formatIpv4(seen[0].dst).replaceAll('.', ',');
      by = this.replace(ctx, a, text);
    }
    if (nat) this.shift(ctx, conn);
    if (by !== 0) {
      const n = slot << NAT_SHIFT;
      partition.nat[n + SKEW] += by;
      partition.nat[n + SKEW_DIR] = conn & 1;
    }
  }

  /** Puts an address in the place of the announced one. Returns by how much the packet grew. */
  private replace(ctx: PacketContext, a: FtpAnnouncement, text: string): number {
    const { layout } = ctx;
    const data = layout.l4 + ((ctx.view.getUint8(ctx.off + layout.l4 + 12) >>> 4) << 2);
    const by = text.length - a.size;
    this.editor.own(ctx);
    this.editor.splice(ctx, data + a.at, a.size, text);
    const { view } = ctx;
    const l3 = ctx.off + layout.l3;
    const l4 = ctx.off + layout.l4;
    const size = layout.end - layout.l4;
    if (isIpv6(ctx)) {
      view.setUint16(l3 + 4, view.getUint16(l3 + 4) + by);
    } else {
      const from = view.getUint16(l3 + 2);
      view.setUint16(l3 + 2, from + by);
      view.setUint16(l3 + 10, update16(view.getUint16(l3 + 10), from, (from + by) & 0xffff));
    }
    view.setUint16(l4 + 16, 0);
    const addresses = isIpv6(ctx) ? sum(view, l3 + 8, 32) : sum(view, l3 + 12, 8);
    view.setUint16(l4 + 16, checksum(addresses + IPPROTO_TCP + size + sum(view, l4, size)));
    return by;
  }
}

function isIpv6(ctx: PacketContext): boolean {
  return ctx.key[ETH_TYPE] === ETH_TYPE_IPV6;
}

/** Whether the announced address is the source (`from` 0) or destination (4) of `key`. */
function isAddress(a: FtpAnnouncement, key: ConnKey, from: 0 | 4): boolean {
  if (!key.ipv6) return a.address[0] === (from === 0 ? key.src : key.dst);
  for (let i = 0; i < 4; i++) if (a.address[i] !== key.addr6[from + i]) return false;
  return true;
}
