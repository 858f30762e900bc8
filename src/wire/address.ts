/** Addresses as text. */

/** Dotted quad of an address in host order. */
export function formatIpv4(a: number): string {
  return `${a >>> 24}.${(a >>> 16) & 0xff}.${(a >>> 8) & 0xff}.${a & 0xff}`;
}

/** Where the text of an IPv4 address comes among all of them. A dot comes before the digits, as does the end of a text: so
 *  of two addresses the first octet decides that is not the same. */
export function ipv4TextRank(address: number): number {
  return (
    ((RANKS[address >>> 24] << 24) |
      (RANKS[(address >>> 16) & 0xff] << 16) |
      (RANKS[(address >>> 8) & 0xff] << 8) |
      RANKS[address & 0xff]) >>>
    0
  );
}
/** Of each octet: its place among all texts of octets. */
const RANKS = new Uint8Array(256);
Array.from({ length: 256 }, (_, octet) => String(octet))
  .sort()
  .forEach((text, rank) => {
    RANKS[Number(text)] = rank;
  });

/** Texts that were made lately, by a hash of the address: few addresses have many connections. */
const TEXTS = 1 << 13;
const keys4 = new Int32Array(TEXTS);
const texts4 = new Array<string>(TEXTS).fill('');
const keys6 = new Int32Array(4 * TEXTS);
const texts6 = new Array<string>(TEXTS).fill('');

/** `formatIpv4`; the same text for the same address most of the time. */
export function ipv4Text(a: number): string {
  const at = Math.imul(a, 0x9e3779b1 | 0) >>> 19;
  if (keys4[at] !== a || texts4[at] === '') {
    keys4[at] = a;
    texts4[at] = formatIpv4(a);
  }
  return texts4[at];
}

/** `formatIpv6`, in the same way. */
export function ipv6Text(words: Int32Array, at: number): string {
  const [a, b, c, d] = [words[at], words[at + 1], words[at + 2], words[at + 3]];
  const mixed = Math.imul(a ^ Math.imul(b, 0x85ebca6b | 0), 0xc2b2ae35 | 0) ^ Math.imul(c, 0x27d4eb2f) ^ d;
  const i = Math.imul(mixed, 0x9e3779b1 | 0) >>> 19;
  const k = 4 * i;
  if (keys6[k] !== a || keys6[k + 1] !== b || keys6[k + 2] !== c || keys6[k + 3] !== d || texts6[i] === '') {
    keys6[k] = a;
    keys6[k + 1] = b;
    keys6[k + 2] = c;
    keys6[k + 3] = d;
    texts6[i] = formatIpv6(words, at);
  }
  return texts6[i];
}

/** RFC 5952 text of the 4 words at `words[at]`, with the last 32 bits dotted where inet_ntop(3) does. */
export function formatIpv6(words: Int32Array, at: number): string {
  const groups: number[] = [];
  for (let i = 0; i < 4; i++) groups.push(words[at + i] >>> 16, words[at + i] & 0xffff);
  // The longest run of at least two zero groups, the first of equals, becomes "::".
  let best = -1;
  let bestLen = 1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && groups[i + n] === 0) n++;
    if (n > bestLen) {
      best = i;
      bestLen = n;
    }
    if (n > 0) i += n;
  }
  // IPv4-compatible and IPv4-mapped addresses.
  const dotted = best === 0 && (bestLen === 6 || (bestLen === 5 && groups[5] === 0xffff));
  const text = (from: number, to: number) =>
    groups
      .slice(from, to)
      .map((g) => g.toString(16))
      .join(':');
  if (dotted) return `::${bestLen === 5 ? 'ffff:' : ''}${formatIpv4(words[at + 3])}`;
  if (best < 0) return text(0, 8);
  return `${text(0, best)}::${text(best + bestLen, 8)}`;
}

/** The address in a dotted quad, or null; as strict as inet_pton(3): no leading zeros. */
export function parseIpv4Strict(text: string): number | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  let address = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
    address = (address << 8) | Number(part);
  }
  return address;
}

/** Writes the address that an IPv6 text stands for to 4 words; false if it is none (RFC 4291, 2.2). */
export function parseIpv6Strict(text: string, words: Int32Array): boolean {
  let head = text;
  const dotted = /^(.*:)([0-9.]+)$/.exec(text);
  if (dotted?.[2].includes('.')) {
    const v4 = parseIpv4Strict(dotted[2]);
    if (v4 === null) return false;
    head = `${dotted[1]}${(v4 >>> 16).toString(16)}:${(v4 & 0xffff).toString(16)}`;
  }
  const sides = head.split('::');
  if (sides.length > 2) return false;
  const [left, right] = sides.map((side) => (side === '' ? [] : side.split(':')));
  const given = left.length + (right?.length ?? 0);
  if (right === undefined ? given !== 8 : given > 7) return false;
  const groups = [...left, ...new Array<string>(8 - given).fill('0'), ...(right ?? [])];
  if (!groups.every((g) => /^[0-9a-f]{1,4}$/i.test(g))) return false;
  for (let i = 0; i < 4; i++) {
    words[i] = (Number.parseInt(groups[2 * i], 16) << 16) | Number.parseInt(groups[2 * i + 1], 16);
  }
  return true;
}
