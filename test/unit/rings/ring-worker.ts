/** Second thread of words.test.ts: takes messages from one ring, checks nothing, and sends them back through
 *  another, in pieces of its own. */
import { workerData } from 'node:worker_threads';
import { MESSAGE_HEADER, MessageReader, MessageWriter, WordRing } from '../../../src/rings/words.js';

const { there, back, longest, messages } = workerData as {
  there: SharedArrayBuffer;
  back: SharedArrayBuffer;
  longest: number;
  messages: number;
};
const reader = new MessageReader(new WordRing(there), longest);
const writer = new MessageWriter(new WordRing(back));
let random = 12345;
for (let n = 0; n < messages; ) {
  for (let m = reader.next(); m >= 0; m = reader.next()) {
    const { words } = reader;
    const length = words[m] - MESSAGE_HEADER;
    const at = writer.begin(words[m + 1], words[m + 2], length);
    for (let i = 0; i < length; i++) writer.words[at + i] = words[m + MESSAGE_HEADER + i];
    n++;
    random = (Math.imul(random, 1103515245) + 12345) | 0;
    if ((random >>> 16) % 3 === 0) writer.flush();
  }
  writer.flush();
}
while (!writer.flush());
