/** Test only: a thread that does something wrong, when it is told to. */

/** What a thread does wrong when so many packets have come to it. */
export interface Fault {
  kind: 'throw' | 'exit' | 'hang' | 'memory';
  after: number;
}

/** Does not return. */
export function misbehave(kind: Fault['kind']): never {
  if (kind === 'exit') process.exit(3);
  const word = new Int32Array(1);
  while (kind === 'hang') Atomics.load(word, 0);
  const heap: number[][] = [];
  while (kind === 'memory') heap.push(new Array<number>(1 << 16).fill(heap.length));
  throw new Error('fault injected');
}
