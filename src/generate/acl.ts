/** Access lists as firewalls have them: made, always the same.
 *
 *  Networks nest: /16s of a site, /24s in them, hosts in these, so that rules overlap as real ones do. */
import { formatIpv4 } from '../wire/address.js';
import type { Random } from './random.js';

export const SERVICES = [22, 25, 53, 80, 110, 143, 161, 389, 443, 993, 3306, 5432, 8080, 8443, 9090];
/** Port ranges as masks. */
const RANGES = ['0x8000/0x8000', '0x400/0xfc00', '0x1f90/0xfff0', '0x2710/0xfffe'];

/** A host of one of 16 sites of 32 networks. */
export function host(r: Random): number {
  return (10 << 24) | (r.below(16) << 16) | (r.below(32) << 8) | (1 + r.below(200)) | 0;
}

function network(r: Random): string {
  const address = host(r);
  const bits = [16, 20, 24, 24, 24, 28, 32, 32, 32, 32][r.below(10)];
  return `${formatIpv4(address & (-1 << (32 - bits)))}/${bits}`;
}

/** Priority and match of a rule. */
function line(r: Random, sector: string): string {
  const match: string[] = [];
  const kind = r.below(10);
  const proto = kind < 6 ? 'tcp' : kind < 8 ? 'udp' : kind < 9 ? 'icmp' : 'ip';
  if (r.below(4) > 0) match.push(`nw_src=${network(r)}`);
  if (r.below(4) > 1 || match.length === 0) match.push(`nw_dst=${network(r)}`);
  if (proto === 'tcp' || proto === 'udp') {
    match.push(
      `tp_dst=${r.below(5) === 0 ? RANGES[r.below(RANGES.length)] : SERVICES[r.below(SERVICES.length)]}`,
    );
  }
  return `priority=${100 + r.below(50)},${proto},${sector}${match}`;
}

/** Priorities and matches of `n` rules that differ. With `sectors` above 1 each belongs to one value of reg5, as
 *  rules of a virtual machine do. */
export function* accessLines(r: Random, n: number, sectors = 1): Generator<string> {
  const seen = new Set<string>();
  while (seen.size < n) {
    const text = line(r, sectors > 1 ? `reg5=${r.below(sectors)},` : '');
    if (seen.has(text)) continue;
    seen.add(text);
    yield text;
  }
}
