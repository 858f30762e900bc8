/** What does the TCP state machine cost a segment? */
import { tcpNew, tcpUpdate } from '../../src/conntrack/tcp.js';
import { allocateTimeouts } from '../../src/conntrack/timeouts.js';
import { UPDATE_INVALID, UPDATE_VALID } from '../../src/conntrack/verdict.js';
import { CONN } from '../../src/shm/layouts.js';
import { tcpFrames } from './frames.js';
import { must, type Variant } from './variant.js';

const CONNECTIONS = 256;
const TIMEOUTS = new Float64Array(allocateTimeouts());
const PER_CONNECTION = 8;
const L4 = 34;
const PAYLOAD = 46;
const FRAME = 100;
/** Segments 3 to 7 of each connection. */
const FIRST = 3 * CONNECTIONS;
const N = (PER_CONNECTION - 3) * CONNECTIONS;

export const TCP: readonly Variant[] = [
  {
    name: 'tcp/update',
    what: 'tcpUpdate: a segment of an established connection',
    operations: N,
    unit: 'ns/call',
    prepare() {
      const f = tcpFrames(CONNECTIONS * PER_CONNECTION, CONNECTIONS, FRAME);
      const memory = new SharedArrayBuffer(CONNECTIONS * CONN.words * 4);
      const hot = new Int32Array(memory);
      const hotF64 = new Float64Array(memory);
      const step = (i: number, payload: number) => {
        const l4 = f.off[i] + L4;
        const reply = f.view.getUint16(l4) < 1024 ? 1 : 0;
        return tcpUpdate(hot, hotF64, i % CONNECTIONS, reply, f.view, l4, payload, 1, true, TIMEOUTS);
      };
      for (let c = 0; c < CONNECTIONS; c++) {
        tcpNew(hot, hotF64, c * CONN.words, f.view, f.off[c] + L4, 0, 0);
      }
      for (let i = CONNECTIONS; i < FIRST; i++) must(step(i, 0) === UPDATE_VALID, `handshake, segment ${i}`);
      for (let i = FIRST; i < f.n; i++) must(step(i, PAYLOAD) === UPDATE_VALID, `segment ${i}`);
      // One far out of the window is not.
      const l4 = f.off[FIRST] + L4;
      const seq = f.view.getInt32(l4 + 4);
      f.view.setInt32(l4 + 4, seq ^ 0x40000000);
      must(step(FIRST, PAYLOAD) === UPDATE_INVALID, 'a segment out of the window is taken');
      f.view.setInt32(l4 + 4, seq);
      return () => {
        let x = 0;
        for (let i = FIRST; i < f.n; i++) x += step(i, PAYLOAD);
        return x;
      };
    },
  },
];
