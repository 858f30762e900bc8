/** Columns of a Parquet row group: values in typed arrays as they come, encoded when the group is full.
 *
 *  What is kept of a column is what a PLAIN page has, so that a page is a copy; text is kept as numbers in a dictionary.
 *  Encodings: a dictionary with RLE or bit-packed indexes where that is shorter, else PLAIN; pages of version 2, compressed
 *  with Snappy where it helps. Page headers and Snappy are hyparquet-writer's. */
import type { ColumnChunk, Encoding, SchemaElement } from 'hyparquet';
import type { Writer } from 'hyparquet-writer';
import { writePageHeader } from 'hyparquet-writer/src/datapage.js';
import { snappyCompress } from 'hyparquet-writer/src/snappy.js';
import { formatIpv4, ipv4TextRank } from '../../wire/address.js';
import { Codes } from './codes.js';

/** Values that a column has room for at first. */
const FIRST_ROOM = 256;
/** Different numbers in a dictionary at most, and slots of the table that finds them. */
const MOST_NUMBERS = 256;
const TABLE = 1024;
/** Pages shorter than this are not compressed. */
const LEAST_COMPRESSED = 128;
/** Bytes of the longest text of an IPv4 address. */
const LONGEST_IPV4 = 15;
/** Half of 2^64 by 2^32. */
const TWO_32 = 2 ** 32;

type Bound = number | bigint | string;
interface Bounds {
  min: Bound | undefined;
  max: Bound | undefined;
}

/** Plain data. */
export interface ColumnState {
  levels: Uint8Array;
  words: Int32Array;
  dictionary: (string | number)[];
}

/** A column of a row group that is being filled. `element` says how it is called and typed. */
export abstract class ChunkColumn {
  private readonly element: SchemaElement;
  /** 1: there is a value; 0: it is null. */
  private levels = new Uint8Array(FIRST_ROOM);
  private nRows = 0;
  /** Of values, without nulls. */
  protected words = new Int32Array(FIRST_ROOM);
  protected nWords = 0;

  constructor(element: SchemaElement) {
    this.element = element;
  }

  /** A null. */
  skip(): void {
    this.level(0);
  }

  protected level(there: 0 | 1): void {
    if (this.nRows === this.levels.length) {
      const grown = new Uint8Array(2 * this.nRows);
      grown.set(this.levels);
      this.levels = grown;
    }
    this.levels[this.nRows++] = there;
  }

  /** Doubles the room for values. */
  protected grow(): void {
    const grown = new Int32Array(2 * this.words.length);
    grown.set(this.words);
    this.words = grown;
  }

  save(): ColumnState {
    return {
      levels: this.levels.slice(0, this.nRows),
      words: this.words.slice(0, this.nWords),
      dictionary: [],
    };
  }

  restore({ levels, words }: ColumnState): void {
    this.nRows = levels.length;
    this.nWords = words.length;
    this.levels = new Uint8Array(Math.max(FIRST_ROOM, levels.length));
    this.levels.set(levels);
    this.words = new Int32Array(Math.max(FIRST_ROOM, words.length));
    this.words.set(words);
  }

  /** Writes the chunk and begins the next one. */
  write(out: Writer): ColumnChunk {
    const { element, nRows, levels } = this;
    const from = out.offset;
    let nulls = 0;
    for (let i = 0; i < nRows; i++) nulls += 1 - levels[i];
    const { dictionary, page, encoding, size } = this.encode(nRows - nulls);
    const bounds = this.bounds();
    const packed = [dictionary, page].map((bytes) => (bytes === null ? null : compressed(bytes)));
    // One codec for all pages of a chunk.
    const small = dictionary !== null && dictionary.length > page.length ? packed[0] : packed[1];
    const codec = small === null ? 'UNCOMPRESSED' : 'SNAPPY';
    const put = (bytes: Uint8Array, i: number): Uint8Array =>
      codec === 'SNAPPY' ? (packed[i] ?? snappyCompress(bytes)) : bytes;
    let uncompressed = 0;
    let dictionaryAt: bigint | undefined;
    if (dictionary !== null) {
      dictionaryAt = BigInt(out.offset);
      const bytes = put(dictionary, 0);
      const header = out.offset;
      writePageHeader(out, {
        type: 'DICTIONARY_PAGE',
        uncompressed_page_size: dictionary.length,
        compressed_page_size: bytes.length,
        dictionary_page_header: { num_values: size, encoding: 'PLAIN' },
      });
      uncompressed += out.offset - header + dictionary.length;
      out.appendBytes(bytes);
    }
    const bits = new Bits(nRows >> 2);
    bits.hybrid(levels, nRows, 1);
    const bytes = put(page, 1);
    const pageAt = BigInt(out.offset);
    const header = out.offset;
    writePageHeader(out, {
      type: 'DATA_PAGE_V2',
      uncompressed_page_size: bits.length + page.length,
      compressed_page_size: bits.length + bytes.length,
      data_page_header_v2: {
        num_values: nRows,
        num_nulls: nulls,
        num_rows: nRows,
        encoding,
        definition_levels_byte_length: bits.length,
        repetition_levels_byte_length: 0,
        is_compressed: codec === 'SNAPPY',
      },
    });
    uncompressed += out.offset - header + bits.length + page.length;
    out.appendBytes(bits.bytes);
    out.appendBytes(bytes);
    this.nRows = this.nWords = 0;
    return {
      meta_data: {
        type: element.type!,
        encodings: dictionary === null ? [encoding] : ['PLAIN', encoding],
        path_in_schema: [element.name],
        codec,
        num_values: BigInt(nRows),
        total_compressed_size: BigInt(out.offset - from),
        total_uncompressed_size: BigInt(uncompressed),
        data_page_offset: pageAt,
        dictionary_page_offset: dictionaryAt,
        statistics: { min_value: bounds.min, max_value: bounds.max, null_count: BigInt(nulls) },
      },
      file_offset: BigInt(from),
    };
  }

  /** Pages of the `n` values. */
  protected abstract encode(n: number): Encoded;
  protected abstract bounds(): Bounds;
}

interface Encoded {
  /** null: PLAIN. */
  dictionary: Uint8Array | null;
  /** Entries of the dictionary. */
  size: number;
  page: Uint8Array;
  encoding: Encoding;
}

/** Null if that makes it no shorter. */
function compressed(bytes: Uint8Array): Uint8Array | null {
  if (bytes.length < LEAST_COMPRESSED) return null;
  const shorter = snappyCompress(bytes);
  return shorter.length < bytes.length - (bytes.length >> 3) ? shorter : null;
}

/** INT32. */
export class Int32Column extends ChunkColumn {
  push(value: number): void {
    if (this.nWords === this.words.length) this.grow();
    this.words[this.nWords++] = value;
    this.level(1);
  }

  protected encode(): Encoded {
    return encodeWords(this.words, this.nWords, 1);
  }

  protected bounds(): Bounds {
    const { words, nWords } = this;
    let min = words[0];
    let max = min;
    for (let i = 1; i < nWords; i++) {
      const v = words[i];
      if (v < min) min = v;
      if (v > max) max = v;
    }
    return nWords === 0 ? NO_BOUNDS : { min, max };
  }
}

/** INT64. */
export class Int64Column extends ChunkColumn {
  /** A whole number that a double holds. */
  push(value: number): void {
    this.put(value >>> 0, Math.floor(value / TWO_32));
  }

  /** `sec` · 10^9 + `nsec`. */
  pushTime(sec: number, nsec: number): void {
    // sec = high · 2^16 + low: no product is above 2^53.
    const high = Math.floor(sec / 0x10000);
    const above = high * 1e9;
    const carry = Math.floor(above / 0x10000);
    const rest = (above - carry * 0x10000) * 0x10000 + (sec - high * 0x10000) * 1e9 + nsec;
    this.put(rest >>> 0, carry + Math.floor(rest / TWO_32));
  }

  private put(low: number, high: number): void {
    if (this.nWords + 2 > this.words.length) this.grow();
    this.words[this.nWords++] = low;
    this.words[this.nWords++] = high;
    this.level(1);
  }

  protected encode(): Encoded {
    return encodeWords(this.words, this.nWords >> 1, 2);
  }

  protected bounds(): Bounds {
    const { words, nWords } = this;
    let min = 0;
    let max = 0;
    for (let i = 2; i < nWords; i += 2) {
      if (this.isLess(i, min)) min = i;
      if (this.isLess(max, i)) max = i;
    }
    const at = (i: number): bigint => (BigInt(words[i + 1]) << 32n) + BigInt(words[i] >>> 0);
    return nWords === 0 ? NO_BOUNDS : { min: at(min), max: at(max) };
  }

  private isLess(i: number, j: number): boolean {
    const { words } = this;
    const a = words[i + 1];
    const b = words[j + 1];
    return a < b || (a === b && words[i] >>> 0 < words[j] >>> 0);
  }
}

const NO_BOUNDS: Bounds = { min: undefined, max: undefined };
const double = new Float64Array(1);
const doubleWords = new Int32Array(double.buffer);

/** DOUBLE; no NaN. */
export class DoubleColumn extends ChunkColumn {
  push(value: number): void {
    if (this.nWords + 2 > this.words.length) this.grow();
    double[0] = value;
    this.words[this.nWords++] = doubleWords[0];
    this.words[this.nWords++] = doubleWords[1];
    this.level(1);
  }

  protected encode(): Encoded {
    return encodeWords(this.words, this.nWords >> 1, 2);
  }

  protected bounds(): Bounds {
    const values = new Float64Array(this.words.buffer, 0, this.nWords >> 1);
    let min = Number.POSITIVE_INFINITY;
    let max = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < values.length; i++) {
      if (values[i] < min) min = values[i];
      if (values[i] > max) max = values[i];
    }
    // Zeros are bounds of either sign (parquet.thrift, Statistics).
    return values.length === 0 ? NO_BOUNDS : { min: min === 0 ? -0 : min, max: max === 0 ? 0 : max };
  }
}

/** UTF8, whose values repeat. An IPv4 address is its word, and no text before it is written. */
export class TextColumn extends ChunkColumn {
  /** Of texts, and by the ids of `addresses`: ids in the dictionary. */
  private ids = new Map<string, number>();
  private readonly addresses = new Codes();
  private addressIds: number[] = [];
  /** By id. */
  private dictionary: (string | number)[] = [];
  private last = '';
  private lastId = -1;

  push(value: string): void {
    if (value !== this.last || this.lastId < 0) {
      let id = this.ids.get(value);
      if (id === undefined) {
        id = this.dictionary.push(value) - 1;
        this.ids.set(value, id);
      }
      this.last = value;
      this.lastId = id;
    }
    this.put(this.lastId);
  }

  /** The text of an IPv4 address, which no text that is given to `push` has. */
  pushIpv4(address: number): void {
    const code = this.addresses.idOf(address);
    if (code === this.addressIds.length) this.addressIds.push(this.dictionary.push(address) - 1);
    this.put(this.addressIds[code]);
  }

  private put(id: number): void {
    if (this.nWords === this.words.length) this.grow();
    this.words[this.nWords++] = id;
    this.level(1);
  }

  override save(): ColumnState {
    return { ...super.save(), dictionary: this.dictionary };
  }

  override restore(state: ColumnState): void {
    super.restore(state);
    this.dictionary = state.dictionary;
    state.dictionary.forEach((value, id) => {
      if (typeof value === 'string') this.ids.set(value, id);
      else this.addressIds[this.addresses.idOf(value)] = id;
    });
  }

  protected encode(): Encoded {
    const { dictionary, words, nWords } = this;
    if (nWords === 0) return NOTHING;
    const bits = new Bits(nWords << 1);
    bits.indexes(words, nWords, dictionary.length);
    return {
      dictionary: plainText(dictionary),
      size: dictionary.length,
      page: bits.bytes,
      encoding: 'RLE_DICTIONARY',
    };
  }

  protected bounds(): Bounds {
    let min: string | undefined;
    let max: string | undefined;
    const consider = (text: string): void => {
      if (min === undefined || text < min) min = text;
      if (max === undefined || text > max) max = text;
    };
    let lowest: number | null = null;
    let highest: number | null = null;
    for (const value of this.dictionary) {
      if (typeof value === 'string') consider(value);
      else {
        const rank = ipv4TextRank(value);
        if (lowest === null || rank < ipv4TextRank(lowest)) lowest = value;
        if (highest === null || rank > ipv4TextRank(highest)) highest = value;
      }
    }
    if (lowest !== null) consider(formatIpv4(lowest));
    if (highest !== null) consider(formatIpv4(highest));
    this.ids = new Map();
    this.addresses.clear();
    this.addressIds = [];
    this.dictionary = [];
    this.lastId = -1;
    return { min, max };
  }
}

/** UTF8, with next to no value twice. */
export class NamesColumn extends ChunkColumn {
  private texts: string[] = [];

  push(value: string): void {
    this.texts.push(value);
    this.level(1);
  }

  override save(): ColumnState {
    return { ...super.save(), dictionary: this.texts };
  }

  override restore(state: ColumnState): void {
    super.restore(state);
    this.texts = state.dictionary as string[];
  }

  protected encode(n: number): Encoded {
    return { dictionary: null, size: n, page: plainText(this.texts), encoding: 'PLAIN' };
  }

  protected bounds(): Bounds {
    let [min, max] = [this.texts[0], this.texts[0]];
    for (const text of this.texts) {
      if (text < min) min = text;
      if (text > max) max = text;
    }
    this.texts = [];
    return { min, max };
  }
}

const NOTHING: Encoded = { dictionary: null, size: 0, page: new Uint8Array(0), encoding: 'PLAIN' };

/** Writes the text of an IPv4 address to `bytes`; returns its end. */
function writeIpv4(bytes: Uint8Array, at: number, address: number): number {
  for (let shift = 24; shift >= 0; shift -= 8) {
    const octet = (address >>> shift) & 0xff;
    if (octet >= 100) bytes[at++] = 0x30 + Math.floor(octet / 100);
    if (octet >= 10) bytes[at++] = 0x30 + (Math.floor(octet / 10) % 10);
    bytes[at++] = 0x30 + (octet % 10);
    if (shift > 0) bytes[at++] = 0x2e;
  }
  return at;
}

/** BYTE_ARRAY values, each behind its length: texts, and IPv4 addresses. */
function plainText(texts: readonly (string | number)[]): Uint8Array {
  let bytes = Buffer.allocUnsafe(1 << 12);
  let n = 0;
  const room = (size: number): void => {
    if (n + 4 + size <= bytes.length) return;
    const grown = Buffer.allocUnsafe(2 * bytes.length + size);
    bytes.copy(grown, 0, 0, n);
    bytes = grown;
  };
  for (const text of texts) {
    if (typeof text === 'number') {
      room(LONGEST_IPV4);
      const end = writeIpv4(bytes, n + 4, text);
      bytes.writeUInt32LE(end - n - 4, n);
      n = end;
      continue;
    }
    // A UTF-16 unit takes three bytes at most.
    room(3 * text.length);
    let at = n + 4;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (unit > 0x7f) {
        at = n + 4 + bytes.write(text, n + 4);
        break;
      }
      bytes[at++] = unit;
    }
    bytes.writeUInt32LE(at - n - 4, n);
    n = at;
  }
  return bytes.subarray(0, n);
}

/** Numbers of `stride` words each: by a dictionary if there are few different ones. */
function encodeWords(words: Int32Array, n: number, stride: 1 | 2): Encoded {
  if (n === 0) return NOTHING;
  const plain = new Uint8Array(words.buffer, 0, n * stride * 4);
  const ids = new Uint16Array(n);
  const table = new Int16Array(TABLE).fill(-1);
  const known = new Int32Array(MOST_NUMBERS * stride);
  let size = 0;
  for (let i = 0; i < n; i++) {
    const low = words[i * stride];
    const high = stride === 2 ? words[i * stride + 1] : 0;
    let at = (Math.imul(low ^ Math.imul(high, 0x85ebca6b | 0), 0x9e3779b1 | 0) >>> 22) & (TABLE - 1);
    for (;;) {
      const id = table[at];
      if (id < 0) {
        if (size === MOST_NUMBERS) return { dictionary: null, size: 0, page: plain, encoding: 'PLAIN' };
        known[size * stride] = low;
        if (stride === 2) known[size * stride + 1] = high;
        table[at] = size;
        ids[i] = size++;
        break;
      }
      if (known[id * stride] === low && (stride === 1 || known[id * stride + 1] === high)) {
        ids[i] = id;
        break;
      }
      at = (at + 1) & (TABLE - 1);
    }
  }
  const bits = new Bits(n);
  bits.indexes(ids, n, size);
  const dictionary = new Uint8Array(known.buffer, 0, size * stride * 4);
  if (dictionary.length + bits.length >= plain.length)
    return { dictionary: null, size: 0, page: plain, encoding: 'PLAIN' };
  return { dictionary, size, page: bits.bytes, encoding: 'RLE_DICTIONARY' };
}

/** The hybrid of run lengths and bit packing (Parquet, Encodings: RLE = 3). */
class Bits {
  private u8: Uint8Array;
  length = 0;

  constructor(room: number) {
    this.u8 = new Uint8Array(Math.max(64, room));
  }

  get bytes(): Uint8Array {
    return this.u8.subarray(0, this.length);
  }

  /** Indexes below `size`, behind their width. */
  indexes(values: Int32Array | Uint16Array, n: number, size: number): void {
    const width = 32 - Math.clz32(size - 1);
    this.u8[this.length++] = width;
    this.hybrid(values, n, width);
  }

  hybrid(values: Int32Array | Uint16Array | Uint8Array, n: number, width: number): void {
    let packed = 0;
    let i = 0;
    while (i < n) {
      const first = values[i];
      let run = 1;
      while (i + run < n && values[i + run] === first) run++;
      if (run < 8) {
        i += 8;
        continue;
      }
      this.pack(values, packed, i, n, width);
      this.need(10);
      this.varint(run << 1);
      for (let left = width, v = first; left > 0; left -= 8, v >>>= 8) this.u8[this.length++] = v;
      i += run;
      packed = i;
    }
    this.pack(values, packed, Math.min(i, n), n, width);
  }

  /** Values `from` to `to`, in groups of eight; what is missing in the last is 0. */
  private pack(
    values: Int32Array | Uint16Array | Uint8Array,
    from: number,
    to: number,
    n: number,
    width: number,
  ): void {
    if (to <= from) return;
    const groups = (to - from + 7) >> 3;
    this.need(10 + groups * width);
    this.varint((groups << 1) | 1);
    const { u8 } = this;
    let at = this.length;
    let bits = 0;
    let used = 0;
    for (let i = from; i < from + groups * 8; i++) {
      bits |= (i < n ? values[i] : 0) << used;
      used += width;
      while (used >= 8) {
        u8[at++] = bits;
        bits >>>= 8;
        used -= 8;
      }
    }
    this.length = at;
  }

  private varint(value: number): void {
    let left = value;
    while (left > 0x7f) {
      this.u8[this.length++] = left | 0x80;
      left >>>= 7;
    }
    this.u8[this.length++] = left;
  }

  private need(n: number): void {
    if (this.length + n <= this.u8.length) return;
    const grown = new Uint8Array(2 * this.u8.length + n);
    grown.set(this.u8);
    this.u8 = grown;
  }
}
