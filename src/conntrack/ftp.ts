/** Reads what an FTP control connection announces: where the next data connection goes to. PORT and PASV of
 *  RFC 959 (section 4.1.2, and the reply 227), EPRT and EPSV of RFC 2428 (and the reply 229).
 *
 *  It is read the way Open vSwitch reads it, command by segment: a command that is split over two
 *  segments, or stands behind another one, is not seen. */
import { parseIpv4Strict, parseIpv6Strict } from '../wire/address.js';

/** Bytes of a segment that are looked at, with one more that is not. */
const LONGEST_MESSAGE = 128;
const PORT_DIGITS = 3;
const EXTENDED_PORT_DIGITS = 5;

/** An announcement, overwritten by the next one. */
export class FtpAnnouncement {
  port = 0;
  /** PORT and EPRT, which the client sends; else an answer to PASV or EPSV. */
  active = false;
  /** The address in it, if there is one: an IPv4 one in the first word. */
  hasAddress = false;
  readonly address = new Int32Array(4);
  /** Where the address stands in the message, and how long it is there. */
  at = 0;
  size = 0;
}

/** Text of the segment whose payload is the `size` bytes at `off`. */
export function ftpMessage(view: DataView, off: number, size: number): string {
  let text = '';
  for (let i = 0; i < Math.min(size, LONGEST_MESSAGE) - 1; i++) {
    const byte = view.getUint8(off + i);
    if (byte === 0) break;
    text += String.fromCharCode(byte);
  }
  return text;
}

/** Whether the message is one that may announce a data connection. */
export function announcesData(message: string, ipv6: boolean): boolean {
  return ipv6 ? /^EPRT|EXTENDED PASSIVE/i.test(message) : /^(PORT|EPRT|227|229)/i.test(message);
}

/** Reads an announcement over IPv4. False if it is malformed. */
export function readAnnouncement4(message: string, a: FtpAnnouncement): boolean {
  const command = message.slice(0, 4).toUpperCase();
  a.active = command === 'PORT' || command === 'EPRT';
  const extended = command === 'EPRT' || command.startsWith('229');
  a.hasAddress = !extended || a.active;
  a.at = a.size = 0;
  const space = message.indexOf(' ', a.active ? 4 : 3);
  if (space < 0) return false;
  let at = nextDigit(message, space);
  if (at < 0) return false;
  if (extended && a.active) {
    // Address family 1 is IPv4.
    if (message[at] !== '1' || isDigit(message, at + 1)) return false;
    at = nextDigit(message, at + 1);
    if (at < 0) return false;
  }
  if (a.hasAddress) {
    a.at = at;
    let quad = '';
    let commas = 0;
    for (; ; at++) {
      if (message[at] === ',' && commas < 3) {
        commas++;
        quad += '.';
      } else if (isDigit(message, at) || message[at] === '.') {
        quad += message[at];
      } else {
        break;
      }
    }
    a.size = at - a.at;
    const address = parseIpv4Strict(quad);
    if (address === null) return false;
    a.address.fill(0);
    a.address[0] = address;
    at++;
  }
  if (extended) return readPort(message, at, a);
  const high = digits(message, at, PORT_DIGITS + 1);
  const low = digits(message, at + high.length + 1, Infinity);
  if (high === '' || low === '' || Number(high) > 255 || Number(low) > 255) return false;
  a.port = (Number(high) << 8) | Number(low);
  return true;
}

/** Reads an announcement over IPv6. False if it is malformed. */
export function readAnnouncement6(message: string, a: FtpAnnouncement): boolean {
  a.active = /^EPRT/i.test(message);
  a.hasAddress = a.active;
  a.at = a.size = 0;
  if (!a.active) {
    const parenthesis = message.indexOf('(');
    if (parenthesis < 0) return false;
    const at = nextDigit(message, parenthesis);
    return at >= 0 && readPort(message, at, a);
  }
  let at = nextDigit(message, 4);
  // Address family 2 is IPv6; a delimiter follows.
  if (at < 0 || message[at] !== '2' || isDigit(message, at + 1)) return false;
  at += 2;
  const text = /^[0-9a-f:.]*/i.exec(message.slice(at))![0];
  a.at = at;
  a.size = text.length;
  return parseIpv6Strict(text, a.address) && readPort(message, at + text.length + 1, a);
}

function readPort(message: string, at: number, a: FtpAnnouncement): boolean {
  const text = digits(message, at, EXTENDED_PORT_DIGITS + 1);
  if (text === '' || Number(text) > 0xffff) return false;
  a.port = Number(text);
  return true;
}

/** The run of at most `most` digits at `at`. */
function digits(message: string, at: number, most: number): string {
  let end = at;
  while (end - at < most && isDigit(message, end)) end++;
  return message.slice(at, end);
}

function isDigit(message: string, at: number): boolean {
  return at < message.length && message[at] >= '0' && message[at] <= '9';
}

/** Place of the first digit from `at` on, or -1. */
function nextDigit(message: string, at: number): number {
  for (let i = at; i < message.length; i++) if (isDigit(message, i)) return i;
  return -1;
}
