/** Receive-side scaling: the Toeplitz hash and the indirection table of a multi-queue NIC (Microsoft,
 *  "RSS hashing types"; Woo and Park, "Scalable TCP session monitoring with symmetric RSS", 2012).
 *
 *  Both directions of a connection must come to one worker. With the default key, whose period is 16
 *  bits, the hash is symmetric by itself; so that any key will do, the caller also hands over the two
 *  ends in a fixed order. */

import { drawKeys } from '../conntrack/hash.js';

/** 40 bytes of 0x6d5a: symmetric (Woo and Park). */
export const DEFAULT_RSS_KEY = new Uint8Array(40).map((_, i) => (i & 1 ? 0x5a : 0x6d));

/** 40 random bytes. Under a key that is known, all connections can be made to come to one worker. */
export function drawRssKey(): Uint8Array {
  return new Uint8Array(drawKeys(10).buffer);
}

export const INDIRECTION_ENTRIES = 128;

export class Toeplitz {
  /** Hash contribution of each byte value at each of 36 input positions. */
  private readonly tables: Int32Array;

  /** `key`: 40 bytes. */
  constructor(key: Uint8Array) {
    if (key.length !== 40) throw new RangeError(`rss: a key has 40 bytes, not ${key.length}`);
    this.tables = new Int32Array(36 * 256);
    for (let position = 0; position < 36; position++) {
      for (let bit = 0; bit < 8; bit++) {
        // The 32 key bits that line up with this input bit.
        let window = 0;
        for (let i = 0; i < 32; i++) {
          const at = position * 8 + bit + i;
          window = (window << 1) | ((key[at >> 3] >>> (7 - (at & 7))) & 1);
        }
        for (let value = 0; value < 256; value++) {
          if (value & (0x80 >>> bit)) this.tables[position * 256 + value] ^= window;
        }
      }
    }
  }

  /** `hash` of the three words of an IPv4 tuple. */
  hash3(src: number, dst: number, ports: number): number {
    const { tables } = this;
    return (
      tables[src >>> 24] ^
      tables[256 + ((src >>> 16) & 0xff)] ^
      tables[512 + ((src >>> 8) & 0xff)] ^
      tables[768 + (src & 0xff)] ^
      tables[1024 + (dst >>> 24)] ^
      tables[1280 + ((dst >>> 16) & 0xff)] ^
      tables[1536 + ((dst >>> 8) & 0xff)] ^
      tables[1792 + (dst & 0xff)] ^
      tables[2048 + (ports >>> 24)] ^
      tables[2304 + ((ports >>> 16) & 0xff)] ^
      tables[2560 + ((ports >>> 8) & 0xff)] ^
      tables[2816 + (ports & 0xff)]
    );
  }

  /** Hash of `n` words in network order from `words[0]` (3 for IPv4 with ports, 9 for IPv6). */
  hash(words: Int32Array, n: number): number {
    const { tables } = this;
    let h = 0;
    for (let i = 0; i < n; i++) {
      const w = words[i];
      const t = i << 10;
      h ^=
        tables[t + (w >>> 24)] ^
        tables[t + 256 + ((w >>> 16) & 0xff)] ^
        tables[t + 512 + ((w >>> 8) & 0xff)] ^
        tables[t + 768 + (w & 0xff)];
    }
    return h;
  }
}

/** 128 entries over `workers` queues in turn, as drivers set them up. */
export function defaultIndirection(workers: number): Int32Array {
  return Int32Array.from({ length: INDIRECTION_ENTRIES }, (_, i) => i % workers);
}
