/** Addresses as text. */

/** Dotted quad of an address in host order. */
export function formatIpv4(a: number): string {
  return `${a >>> 24}.${(a >>> 16) & 0xff}.${(a >>> 8) & 0xff}.${a & 0xff}`;
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
