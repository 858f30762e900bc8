/** Word rings and the messages in them: wraps, full rings, messages cut in two by the end of the ring. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { MESSAGE_HEADER, MessageReader, MessageWriter, WordRing } from '../../../src/rings/words.js';

function ring(words: number): WordRing {
  return new WordRing(WordRing.allocate(words));
}

test('word ring: holds exactly what it was made for, and refuses a push as a whole', () => {
  const r = ring(8);
  assert.ok(r.empty());
  assert.ok(r.push(Int32Array.of(1, 2, 3, 4, 5, 6, 7), 7));
  assert.equal(r.push(Int32Array.of(8, 9), 2), false, 'two words where one fits');
  assert.ok(r.push(Int32Array.of(8), 1));
  assert.equal(r.push(Int32Array.of(9), 1), false);
  const got = new Int32Array(10).fill(-1);
  assert.equal(r.pop(got, 10), 8);
  assert.deepEqual([...got], [1, 2, 3, 4, 5, 6, 7, 8, -1, -1]);
  assert.ok(r.empty());
});

test('word ring: nothing pushed, nothing popped', () => {
  const r = ring(4);
  assert.ok(r.push(new Int32Array(0), 0));
  assert.equal(r.pop(new Int32Array(4), 4), 0);
});

test('word ring: pushes from the middle of an array and pops into the middle of one', () => {
  const r = ring(4);
  assert.ok(r.push(Int32Array.of(9, 9, 1, 2, 9), 2, 2));
  const got = new Int32Array(4);
  assert.equal(r.pop(got, 2, 1), 2);
  assert.deepEqual([...got], [0, 1, 2, 0]);
});

test('word ring: is a queue through any pushes and pops (property)', () => {
  const step = fc.record({ push: fc.boolean(), n: fc.integer({ min: 0, max: 9 }) });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.array(step, { maxLength: 60 }), (capacity, steps) => {
      const r = ring(capacity);
      const model: number[] = [];
      let next = 1;
      for (const { push, n } of steps) {
        if (push) {
          const words = Int32Array.from({ length: n }, (_, i) => next + i);
          const fits = model.length + n <= capacity;
          assert.equal(r.push(words, n), n === 0 || fits);
          if (!fits) continue;
          model.push(...words);
          next += n;
        } else {
          const got = new Int32Array(n);
          const popped = r.pop(got, n);
          assert.equal(popped, Math.min(n, model.length));
          assert.deepEqual([...got.subarray(0, popped)], model.splice(0, popped));
        }
        assert.equal(r.empty(), model.length === 0);
      }
    }),
  );
});

test('messages: one longer than the ring, and than the reader was told, goes through in pieces', () => {
  const r = ring(50);
  const writer = new MessageWriter(r);
  const reader = new MessageReader(r, 10);
  for (const [token, length] of [
    [1, 3],
    [2, 20_000],
    [3, 0],
    [4, 70],
  ]) {
    const at = writer.begin(9, token, length);
    for (let i = 0; i < length; i++) writer.words[at + i] = token * 100_000 + i;
  }
  const seen: number[] = [];
  for (let tries = 0; tries < 2000; tries++) {
    writer.flush();
    for (let m = reader.next(); m >= 0; m = reader.next()) {
      const { words } = reader;
      const token = words[m + 2];
      for (let i = m + MESSAGE_HEADER; i < m + words[m]; i++) {
        assert.equal(words[i], token * 100_000 + i - m - MESSAGE_HEADER);
      }
      seen.push(token, words[m] - MESSAGE_HEADER);
    }
    if (seen.length === 8) break;
  }
  assert.deepEqual(seen, [1, 3, 2, 20_000, 3, 0, 4, 70]);
  assert.equal(writer.pending, false);
});

test('messages: a batch that does not fit goes piece by piece, in order', () => {
  const r = ring(12);
  const writer = new MessageWriter(r);
  const reader = new MessageReader(r, 16);
  for (let i = 0; i < 5; i++) writer.words[writer.begin(7, i, 2)] = 100 + i;
  assert.equal(writer.flush(), false, '25 words into 12');
  const tokens: number[] = [];
  for (let tries = 0; tries < 20 && tokens.length < 5; tries++) {
    for (let m = reader.next(); m >= 0; m = reader.next()) {
      assert.equal(reader.words[m], MESSAGE_HEADER + 2);
      assert.equal(reader.words[m + 1], 7);
      tokens.push(reader.words[m + 2]);
      assert.equal(reader.words[m + MESSAGE_HEADER], 100 + reader.words[m + 2]);
    }
    writer.flush();
  }
  assert.deepEqual(tokens, [0, 1, 2, 3, 4]);
  assert.equal(writer.pending, false);
  assert.ok(reader.empty());
});

test('messages: gathering grows the buffer, and later messages may follow a flush that stopped half way', () => {
  const r = ring(6000);
  const writer = new MessageWriter(r);
  const reader = new MessageReader(r, 6000);
  const big = writer.begin(1, 1, 5000);
  writer.words[big + 4999] = 42;
  writer.begin(1, 2, 5000);
  assert.equal(writer.flush(), false);
  writer.begin(1, 3, 1);
  const seen: number[] = [];
  for (let i = 0; i < 10 && seen.length < 3; i++) {
    for (let m = reader.next(); m >= 0; m = reader.next()) {
      seen.push(reader.words[m + 2]);
      if (seen.length === 1) assert.equal(reader.words[m + MESSAGE_HEADER + 4999], 42);
    }
    writer.flush();
  }
  assert.deepEqual(seen, [1, 2, 3]);
});

test('messages: a reader that finds half a message waits for the rest', () => {
  const r = ring(16);
  const reader = new MessageReader(r, 16);
  assert.ok(r.push(Int32Array.of(5, 1, 9), 3));
  assert.equal(reader.next(), -1);
  assert.ok(r.push(Int32Array.of(11, 22, 4), 3));
  const m = reader.next();
  assert.deepEqual([...reader.words.subarray(m, m + 5)], [5, 1, 9, 11, 22]);
  assert.equal(reader.next(), -1);
  assert.ok(r.push(Int32Array.of(1, 8, 33), 3));
  const k = reader.next();
  assert.deepEqual([...reader.words.subarray(k, k + 4)], [4, 1, 8, 33]);
});

for (const capacity of [20, 33, 256]) {
  test(`messages: two threads and rings of ${capacity} words: every message comes back whole and in order`, async () => {
    const messages = 5000;
    const longest = 17;
    const there = WordRing.allocate(capacity);
    const back = WordRing.allocate(capacity);
    const worker = new Worker(new URL('./ring-worker.js', import.meta.url), {
      workerData: { there, back, longest, messages },
    });
    const exited = new Promise<number>((resolve, reject) => {
      worker.on('error', reject);
      worker.on('exit', resolve);
    });
    const writer = new MessageWriter(new WordRing(there));
    const reader = new MessageReader(new WordRing(back), longest);
    const length = (n: number) => (n * 7) % (longest - MESSAGE_HEADER + 1);
    let sent = 0;
    let got = 0;
    const deadline = Date.now() + 8000;
    while (got < messages) {
      for (let i = 0; i < 5 && sent < messages && !writer.pending; i++, sent++) {
        const n = length(sent);
        const at = writer.begin(sent & 3, sent, n);
        for (let w = 0; w < n; w++) writer.words[at + w] = Math.imul(sent + 1, w + 7);
      }
      writer.flush();
      for (let m = reader.next(); m >= 0; m = reader.next()) {
        const { words } = reader;
        assert.equal(words[m], length(got) + MESSAGE_HEADER, `length of message ${got}`);
        assert.equal(words[m + 1], got & 3);
        assert.equal(words[m + 2], got);
        for (let w = 0; w < length(got); w++) {
          assert.equal(words[m + MESSAGE_HEADER + w], Math.imul(got + 1, w + 7), `message ${got}, word ${w}`);
        }
        got++;
      }
      assert.ok(Date.now() < deadline, `stuck after ${got} of ${messages} messages`);
      await new Promise(setImmediate);
    }
    assert.equal(await exited, 0);
  });
}
