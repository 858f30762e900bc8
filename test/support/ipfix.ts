/** A reader of IPFIX Files for tests, from RFC 7011, 5103 and 5655 alone: it knows nothing of the writer. */
import assert from 'node:assert/strict';

interface Element {
  readonly id: string;
  readonly bytes: number;
}

/** Element number, with `r` before it if it is of the reverse direction, to its bytes in hexadecimal. */
export type IpfixRecord = Map<string, string>;

export interface IpfixMessage {
  bytes: Buffer;
  exportTime: number;
  sequence: number;
  records: IpfixRecord[];
}

export function readIpfix(file: Buffer): IpfixMessage[] {
  const templates = new Map<number, Element[]>();
  const messages: IpfixMessage[] = [];
  for (let at = 0; at < file.length; ) {
    assert.equal(file.readUInt16BE(at), 10, 'version');
    const length = file.readUInt16BE(at + 2);
    const bytes = file.subarray(at, at + length);
    assert.equal(bytes.length, length, 'the last message is whole');
    const records: IpfixRecord[] = [];
    for (let set = 16; set < length; ) {
      const id = bytes.readUInt16BE(set);
      const end = set + bytes.readUInt16BE(set + 2);
      assert.ok(end > set + 4 && end <= length, 'a set is in its message');
      if (id === 2) readTemplates(bytes.subarray(set + 4, end), templates);
      else records.push(...readRecords(bytes.subarray(set + 4, end), templates.get(id)));
      set = end;
    }
    messages.push({ bytes, exportTime: bytes.readUInt32BE(4), sequence: bytes.readUInt32BE(8), records });
    at += length;
  }
  return messages;
}

function readTemplates(set: Buffer, templates: Map<number, Element[]>): void {
  for (let at = 0; at < set.length; ) {
    const id = set.readUInt16BE(at);
    const n = set.readUInt16BE(at + 2);
    assert.ok(id >= 256, 'a template id');
    at += 4;
    const elements: Element[] = [];
    for (let i = 0; i < n; i++) {
      const element = set.readUInt16BE(at);
      const bytes = set.readUInt16BE(at + 2);
      at += 4;
      if (element & 0x8000) {
        assert.equal(set.readUInt32BE(at), 29305, 'enterprise');
        at += 4;
      }
      elements.push({ id: `${element & 0x8000 ? 'r' : ''}${element & 0x7fff}`, bytes });
    }
    templates.set(id, elements);
  }
}

function readRecords(set: Buffer, template: Element[] | undefined): IpfixRecord[] {
  assert.ok(template !== undefined, 'the template came before');
  const size = template.reduce((n, e) => n + e.bytes, 0);
  assert.equal(set.length % size, 0, 'whole records');
  const records: IpfixRecord[] = [];
  for (let at = 0; at < set.length; ) {
    const record: IpfixRecord = new Map();
    for (const { id, bytes } of template) {
      record.set(id, set.toString('hex', at, at + bytes));
      at += bytes;
    }
    records.push(record);
  }
  return records;
}
