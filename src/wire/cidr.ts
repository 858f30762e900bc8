/** Sets of IP prefixes, and which side of them a frame comes from (`--inside`). */
import { isIP } from 'node:net';
import { ETH_TYPE_ARP, ETH_TYPE_IP, ETH_TYPE_IPV6, ETH_TYPE_QINQ, ETH_TYPE_VLAN } from './extract.js';

interface Prefix {
  words: Int32Array;
  masks: Int32Array;
}

export class PrefixSet {
  private readonly v4: Prefix[] = [];
  private readonly v6: Prefix[] = [];
  /** As it was given. */
  readonly text: string;

  /** "10.0.0.0/8,fd00::/8"; a bare address is a prefix of full length. Throws RangeError naming what is
   *  wrong. */
  constructor(text: string) {
    this.text = text;
    for (const part of text.split(',')) {
      const [address, length, more] = part.trim().split('/');
      const version = isIP(address);
      const most = version === 6 ? 128 : 32;
      if (version === 0 || more !== undefined || (length !== undefined && !/^\d{1,3}$/.test(length))) {
        throw new RangeError(
          `"${part}" is not an address prefix; expected one such as 10.0.0.0/8 or fd00::/8`,
        );
      }
      const bits = length === undefined ? most : Number(length);
      if (bits > most) throw new RangeError(`"${part}": a prefix of IPv${version} has at most ${most} bits`);
      const words = version === 6 ? words6(address) : Int32Array.of(word4(address));
      const masks = words.map((_, i) => {
        const left = Math.max(0, Math.min(32, bits - i * 32));
        return left === 0 ? 0 : -1 << (32 - left);
      });
      (version === 6 ? this.v6 : this.v4).push({ words: words.map((w, i) => w & masks[i]), masks });
    }
  }

  /** Whether the source of the frame at `off` is in the set: of IP, or the sender of ARP. */
  holdsSource(view: DataView, off: number, len: number): boolean {
    const end = off + len;
    let at = off + 12;
    if (end - at < 2) return false;
    let type = view.getUint16(at);
    while ((type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ) && end - at >= 6) {
      at += 4;
      type = view.getUint16(at);
    }
    at += 2;
    if (type === ETH_TYPE_IP && end - at >= 20) return holds(this.v4, view, at + 12);
    if (type === ETH_TYPE_IPV6 && end - at >= 40) return holds(this.v6, view, at + 8);
    if (type === ETH_TYPE_ARP && end - at >= 28) return holds(this.v4, view, at + 14);
    return false;
  }
}

function holds(prefixes: readonly Prefix[], view: DataView, at: number): boolean {
  return prefixes.some(({ words, masks }) =>
    words.every((w, i) => (view.getInt32(at + i * 4) & masks[i]) === w),
  );
}

function word4(address: string): number {
  return address.split('.').reduce((word, part) => (word << 8) | Number(part), 0);
}

/** The four words of IPv6 text that isIP() accepts. */
function words6(address: string): Int32Array {
  let text = address.replace(/%.*$/, '');
  const dotted = /(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (dotted !== null) {
    const word = word4(dotted[1]);
    text = text.slice(0, -dotted[1].length) + `${(word >>> 16).toString(16)}:${(word & 0xffff).toString(16)}`;
  }
  const [head, tail] = text.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  const groups = [...left, ...new Array<string>(zeros).fill('0'), ...right].map((g) =>
    Number.parseInt(g, 16),
  );
  return Int32Array.from({ length: 4 }, (_, i) => (groups[2 * i] << 16) | groups[2 * i + 1]);
}
