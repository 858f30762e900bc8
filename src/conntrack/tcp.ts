/** TCP state machine of a tracked connection, rule for rule that of Open vSwitch's userspace datapath,
 *  which descends from pf's: states per direction, sequence and window checks after Guido van Rooij,
 *  "Real Stateful TCP Packet Filtering in IP Filter" (2000).
 *
 *  All sequence arithmetic is modulo 2^32 (RFC 9293, section 3.4): a - b as an int32 tells the order. */
import { CONN } from '../shm/layouts.js';
import {
  DEFAULT_TIMEOUTS_MS,
  TM_TCP_CLOSE,
  TM_TCP_ESTABLISHED,
  TM_TCP_FIN_WAIT,
  TM_TCP_SYN_RECV,
  TM_TCP_SYN_SENT,
  TM_TCP_TIME_WAIT,
  timerBlock,
} from './timeouts.js';
import { UPDATE_INVALID, UPDATE_NEW, UPDATE_VALID, UPDATE_VALID_NEW } from './verdict.js';

const { STATE, WINS, SEQLO_0, SEQHI_0, SEQLO_1, SEQHI_1, EXPIRES } = CONN.at;
const HOT_SHIFT = CONN.shift;
const EXPIRES_F64 = EXPIRES >> 1;
const SYN_SENT = TM_TCP_SYN_SENT;
const FIRST_MS = DEFAULT_TIMEOUTS_MS[TM_TCP_SYN_SENT];

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;

/** A peer's state; the order matters. */
export const TCPS_CLOSED = 0;
export const TCPS_SYN_SENT = 2;
export const TCPS_ESTABLISHED = 4;
export const TCPS_CLOSING = 7;
export const TCPS_FIN_WAIT_2 = 9;
export const TCPS_TIME_WAIT = 10;
/** As `dpctl/dump-conntrack` prints them, by number. */
export const TCP_STATE_NAMES = [
  'CLOSED',
  'LISTEN',
  'SYN_SENT',
  'SYN_RECV',
  'ESTABLISHED',
  'CLOSE_WAIT',
  'FIN_WAIT_1',
  'CLOSING',
  'LAST_ACK',
  'FIN_WAIT_2',
  'TIME_WAIT',
] as const;

/** A peer's window scale: WSCALE_KNOWN | shift once its SYN has offered the option, WSCALE_UNKNOWN when
 *  the connection was picked up in mid-stream. */
export const WSCALE_KNOWN = 0x80;
export const WSCALE_UNKNOWN = 0x40;
export const WSCALE_SHIFT = 0x0f;
/** Largest shift (RFC 7323, section 2.3). */
export const WSCALE_MAX = 14;

/** A segment may acknowledge this much more or less than was seen: one window and a fudge factor. */
export const MAX_ACK_WINDOW = 0xffff + 1500;

/** Flag combinations that no sane stack sends. */
export function tcpInvalidFlags(flags: number): boolean {
  if (flags & TCP_SYN) {
    if (flags & (TCP_RST | TCP_FIN)) return true;
  } else if (!(flags & (TCP_ACK | TCP_RST))) {
    return true;
  }
  return !(flags & TCP_ACK) && (flags & (TCP_FIN | TCP_PSH | TCP_URG)) !== 0;
}

/** Whether a segment may open a connection: not a SYN-ACK, whose SYN was missed. */
export function tcpValidNew(flags: number): boolean {
  return !tcpInvalidFlags(flags) && (flags & (TCP_SYN | TCP_ACK)) !== (TCP_SYN | TCP_ACK);
}

/** Window scale option of the segment at `l4` (RFC 7323, section 2.2), with WSCALE_KNOWN, or 0. Reads
 *  options as leniently as Open vSwitch does. */
function windowScale(view: DataView, l4: number): number {
  let left = ((view.getUint8(l4 + 12) >>> 4) << 2) - 20;
  let at = l4 + 20;
  let scale = 0;
  while (left >= 3) {
    const kind = view.getUint8(at);
    if (kind === 0) return scale;
    if (kind === 1) {
      at++;
      left--;
      continue;
    }
    if (kind === 3) scale = Math.min(view.getUint8(at + 2), WSCALE_MAX) | WSCALE_KNOWN;
    const bytes = Math.max(view.getUint8(at + 1), 2);
    left -= bytes;
    at += bytes;
  }
  return scale;
}

/** Fills the TCP words of the record at word `c` for a connection that the segment at `l4` opens. */
export function tcpNew(
  hot: Int32Array,
  hotF64: Float64Array,
  c: number,
  view: DataView,
  l4: number,
  payload: number,
  now: number,
): void {
  const flags = view.getUint8(l4 + 13);
  const seq = view.getInt32(l4 + 4);
  let seqhi = seq + payload + 1;
  let scale0 = WSCALE_UNKNOWN;
  let scale1 = WSCALE_UNKNOWN;
  if (flags & TCP_SYN) {
    seqhi++;
    scale0 = windowScale(view, l4);
    scale1 = 0;
  }
  if (flags & TCP_FIN) seqhi++;
  let win = Math.max(view.getUint16(l4 + 14), 1);
  const shift = scale0 & WSCALE_SHIFT;
  if (shift !== 0) win = ((win + (1 << shift) - 1) >>> shift) & 0xffff;
  hot[c + STATE] = TCPS_SYN_SENT | (TCPS_CLOSED << 4) | (scale0 << 8) | (scale1 << 16);
  hot[c + WINS] = win | (1 << 16);
  hot[c + SEQLO_0] = seq;
  hot[c + SEQHI_0] = seqhi | 0;
  hot[c + SEQLO_1] = 0;
  hot[c + SEQHI_1] = 1;
  hotF64[(c >> 1) + EXPIRES_F64] = now + FIRST_MS;
}

/** The timer that a valid segment starts anew, by the states of the connection's ends. */
export function tcpTimer(a: number, b: number): number {
  if (a >= TCPS_FIN_WAIT_2 && b >= TCPS_FIN_WAIT_2) return TM_TCP_CLOSE;
  if (a >= TCPS_CLOSING && b >= TCPS_CLOSING) return TM_TCP_TIME_WAIT;
  if (a < TCPS_ESTABLISHED || b < TCPS_ESTABLISHED) return TM_TCP_SYN_RECV;
  return a >= TCPS_CLOSING || b >= TCPS_CLOSING ? TM_TCP_FIN_WAIT : TM_TCP_ESTABLISHED;
}

/** Runs the segment at `l4` with `payload` bytes of data through the connection in `slot`. `timeouts`: as in
 *  timeouts.ts. */
export function tcpUpdate(
  hot: Int32Array,
  hotF64: Float64Array,
  slot: number,
  reply: number,
  view: DataView,
  l4: number,
  payload: number,
  now: number,
  checkSequence: boolean,
  timeouts: Float64Array,
): number {
  const flags = view.getUint8(l4 + 13);
  if (tcpInvalidFlags(flags)) return UPDATE_INVALID;

  const c = slot << HOT_SHIFT;
  const state = hot[c + STATE];
  const wins = hot[c + WINS];
  let srcState: number;
  let dstState: number;
  let srcScale: number;
  let dstScale: number;
  let srcWin: number;
  let dstWin: number;
  let srcLo: number;
  let srcHi: number;
  let dstLo: number;
  let dstHi: number;
  if (reply === 0) {
    srcState = state & 15;
    dstState = (state >>> 4) & 15;
    srcScale = (state >>> 8) & 0xff;
    dstScale = (state >>> 16) & 0xff;
    srcWin = wins & 0xffff;
    dstWin = wins >>> 16;
    srcLo = hot[c + SEQLO_0];
    srcHi = hot[c + SEQHI_0];
    dstLo = hot[c + SEQLO_1];
    dstHi = hot[c + SEQHI_1];
  } else {
    srcState = (state >>> 4) & 15;
    dstState = state & 15;
    srcScale = (state >>> 16) & 0xff;
    dstScale = (state >>> 8) & 0xff;
    srcWin = wins >>> 16;
    dstWin = wins & 0xffff;
    srcLo = hot[c + SEQLO_1];
    srcHi = hot[c + SEQHI_1];
    dstLo = hot[c + SEQLO_0];
    dstHi = hot[c + SEQHI_0];
  }

  if ((flags & (TCP_SYN | TCP_ACK)) === TCP_SYN) {
    if (dstState >= TCPS_FIN_WAIT_2 && srcState >= TCPS_FIN_WAIT_2) {
      hot[c + STATE] = state & ~0xff;
      return UPDATE_NEW;
    }
    if (srcState <= TCPS_SYN_SENT) {
      hot[c + STATE] = reply === 0 ? (state & ~0x0f) | TCPS_SYN_SENT : (state & ~0xf0) | (TCPS_SYN_SENT << 4);
      hotF64[(c >> 1) + EXPIRES_F64] = now + timeouts[timerBlock(state, hot, c) + SYN_SENT];
      return UPDATE_VALID_NEW;
    }
  }

  let sws = 0;
  let dws = 0;
  if (!(flags & TCP_SYN)) {
    if (srcScale & dstScale & WSCALE_KNOWN) {
      sws = srcScale & WSCALE_SHIFT;
      dws = dstScale & WSCALE_SHIFT;
    } else if (srcScale & dstScale & WSCALE_UNKNOWN) {
      sws = WSCALE_MAX;
      dws = WSCALE_MAX;
    }
  }

  const origSeq = view.getInt32(l4 + 4);
  let seq = origSeq;
  let ack = view.getInt32(l4 + 8);
  let win = view.getUint16(l4 + 14);
  let end = (seq + payload + ((flags & TCP_SYN) >>> 1) + (flags & TCP_FIN)) | 0;
  let checkAckSkew = true;

  if (srcState < TCPS_SYN_SENT) {
    // First segment from this end.
    if (flags & TCP_SYN && dstScale & WSCALE_KNOWN) {
      srcScale = windowScale(view, l4);
      if (srcScale & WSCALE_KNOWN) {
        // The window of a SYN is never scaled (RFC 7323, section 2.2).
        sws = srcScale & WSCALE_SHIFT;
        win = (win + (1 << sws) - 1) >>> sws;
        dws = dstScale & WSCALE_SHIFT;
      } else {
        dstWin = (dstWin << (dstScale & WSCALE_SHIFT)) & 0xffff;
        dstScale = 0;
      }
    }
    srcLo = seq;
    srcState = TCPS_SYN_SENT;
    const reach = (end + Math.max(1, dstWin << dws)) | 0;
    if (srcHi === 1 || ((reach - srcHi) | 0) >= 0) {
      // Picked up, or already in place: be lenient about acknowledgements.
      srcHi = reach;
      checkAckSkew = false;
    }
    if (win > srcWin) srcWin = win;
  }

  if (!(flags & TCP_ACK) || (ack === 0 && flags & TCP_RST)) {
    // No acknowledgement, or a stack that leaves the field empty in a RST.
    ack = dstLo;
  }
  if (seq === end) {
    // Segments without data are let off the sequence check.
    seq = srcLo;
    end = seq;
  }

  const ackSkew = checkAckSkew ? (dstLo - ack) | 0 : 0;
  let verdict = UPDATE_VALID;
  let expires = -1;
  if (
    !checkSequence ||
    (((srcHi - end) | 0) >= 0 &&
      ((seq - ((srcLo - (dstWin << dws)) | 0)) | 0) >= 0 &&
      ackSkew >= -MAX_ACK_WINDOW &&
      ackSkew <= MAX_ACK_WINDOW << sws &&
      (!(flags & TCP_RST) || ((origSeq - srcLo + 1) | 0) >>> 0 <= 2))
  ) {
    if (srcWin < win) srcWin = win;
    if (((end - srcLo) | 0) > 0) srcLo = end;
    if (((ack + (win << sws) - dstHi) | 0) >= 0) dstHi = (ack + Math.max(win << sws, 1)) | 0;

    if (flags & TCP_FIN && srcState < TCPS_CLOSING) srcState = TCPS_CLOSING;
    if (flags & TCP_ACK) {
      if (dstState === TCPS_SYN_SENT) dstState = TCPS_ESTABLISHED;
      else if (dstState === TCPS_CLOSING) dstState = TCPS_FIN_WAIT_2;
    }
    if (flags & TCP_RST) srcState = dstState = TCPS_TIME_WAIT;

    expires = now + timeouts[timerBlock(state, hot, c) + tcpTimer(srcState, dstState)];
  } else if (
    (dstState < TCPS_SYN_SENT || dstState >= TCPS_FIN_WAIT_2 || srcState >= TCPS_FIN_WAIT_2) &&
    ((srcHi + MAX_ACK_WINDOW - end) | 0) >= 0 &&
    ((seq - (srcLo - MAX_ACK_WINDOW)) | 0) >= 0
  ) {
    // SYNs sent before the peer answers, streams picked up in the middle, stragglers after the close:
    // passed on, but they don't prolong the connection.
    if (srcWin < win) srcWin = win;
    if (((end - srcLo) | 0) > 0) srcLo = end;
    if (((ack + (win << sws) - dstHi) | 0) >= 0) dstHi = (ack + Math.max(win << sws, 1)) | 0;
    if (flags & TCP_FIN && srcState < TCPS_CLOSING) srcState = TCPS_CLOSING;
    if (flags & TCP_RST) srcState = dstState = TCPS_TIME_WAIT;
  } else {
    // What the first segment of this end set above stays.
    verdict = UPDATE_INVALID;
  }

  if (reply === 0) {
    hot[c + STATE] = (state & 0xff000000) | srcState | (dstState << 4) | (srcScale << 8) | (dstScale << 16);
    hot[c + WINS] = srcWin | (dstWin << 16);
    hot[c + SEQLO_0] = srcLo;
    hot[c + SEQHI_0] = srcHi;
    hot[c + SEQHI_1] = dstHi;
  } else {
    hot[c + STATE] = (state & 0xff000000) | dstState | (srcState << 4) | (dstScale << 8) | (srcScale << 16);
    hot[c + WINS] = dstWin | (srcWin << 16);
    hot[c + SEQLO_1] = srcLo;
    hot[c + SEQHI_1] = srcHi;
    hot[c + SEQHI_0] = dstHi;
  }
  if (expires >= 0) hotF64[(c >> 1) + EXPIRES_F64] = expires;
  return verdict;
}
