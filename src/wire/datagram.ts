/** Which datagram a fragment belongs to, apart from where in the switch it is (RFC 791, section 3.2; RFC 8200,
 *  section 4.5). */

/** Of the IPv4 fragment at `l3`. */
export function datagramOf4(view: DataView, l3: number): string {
  const addresses = `${view.getInt32(l3 + 12)} ${view.getInt32(l3 + 16)}`;
  return `${addresses} ${view.getUint16(l3 + 4)} ${view.getUint8(l3 + 9)}`;
}

/** Of the IPv6 fragment at `l3` with its fragment header at `header`. */
export function datagramOf6(view: DataView, l3: number, header: number): string {
  let text = `${view.getInt32(header + 4)}`;
  for (let i = 8; i < 40; i += 4) text += ` ${view.getInt32(l3 + i)}`;
  return text;
}
