/** The TCP state machine, segment by segment: what the tracker says, and the states that it keeps. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  TCP_STATE_NAMES,
  tcpInvalidFlags,
  tcpNew,
  tcpUpdate,
  tcpValidNew,
  WSCALE_KNOWN,
  WSCALE_UNKNOWN,
} from '../../../src/conntrack/tcp.js';
import {
  allocateTimeouts,
  DEFAULT_TIMEOUTS_MS,
  setPolicy,
  TM_TCP_CLOSE,
  TM_TCP_ESTABLISHED,
  TM_TCP_FIN_WAIT,
  TM_TCP_SYN_RECV,
  TM_TCP_SYN_SENT,
  TM_TCP_TIME_WAIT,
} from '../../../src/conntrack/timeouts.js';
import {
  UPDATE_INVALID,
  UPDATE_NEW,
  UPDATE_VALID,
  UPDATE_VALID_NEW,
} from '../../../src/conntrack/verdict.js';
import { CONN, STATE_HAS_META, STATE_HAS_POLICY } from '../../../src/shm/layouts.js';
import { ACK, data, FIN, PSH, RST, SYN, tcp, URG, view, windowScale } from '../../support/packets.js';

const { STATE, WINS, SEQLO_0, SEQHI_0, SEQLO_1, SEQHI_1, EXPIRES } = CONN.at;
const VERDICTS = ['valid', 'valid-new', 'new', 'invalid'];
assert.deepEqual([UPDATE_VALID, UPDATE_VALID_NEW, UPDATE_NEW, UPDATE_INVALID], [0, 1, 2, 3]);

const TIMEOUTS = new Float64Array(allocateTimeouts());
const left = (timer: number) => DEFAULT_TIMEOUTS_MS[timer];

interface Segment {
  flags: number;
  seq: number;
  ack?: number;
  len?: number;
  win?: number;
  options?: number[];
}

/** One connection in slot 3 of a small slab. */
class Connection {
  readonly hot = new Int32Array(CONN.words * 8).fill(0x0bad0bad);
  readonly hotF64 = new Float64Array(this.hot.buffer);
  readonly c = 3 << CONN.shift;
  now = 1000;
  checkSequence = true;

  private segment(s: Segment): { v: DataView; payload: number } {
    const payload = s.len ?? 0;
    const bytes = tcp({
      flags: s.flags,
      seq: s.seq >>> 0,
      ack: (s.ack ?? 0) >>> 0,
      window: s.win ?? 1000,
      options: s.options ?? [],
      data: data(payload),
    }).bytes(() => new Uint8Array());
    return { v: view(bytes), payload };
  }

  open(s: Segment): this {
    const { v, payload } = this.segment(s);
    for (let w = 0; w < CONN.words; w++) this.hot[this.c + w] = 0;
    tcpNew(this.hot, this.hotF64, this.c, v, 0, payload, this.now);
    return this;
  }

  /** Direction 0 is that of the opening segment. */
  send(direction: 0 | 1, s: Segment): string {
    const { v, payload } = this.segment(s);
    return VERDICTS[
      tcpUpdate(this.hot, this.hotF64, 3, direction, v, 0, payload, this.now, this.checkSequence, TIMEOUTS)
    ];
  }

  get states(): string {
    const s = this.hot[this.c + STATE];
    return `${TCP_STATE_NAMES[s & 15]}/${TCP_STATE_NAMES[(s >>> 4) & 15]}`;
  }

  /** Time left, in ms. */
  get left(): number {
    return this.hotF64[(this.c + EXPIRES) >> 1] - this.now;
  }

  word(w: number): number {
    return this.hot[this.c + w];
  }

  /** Three segments: `a` and `b` are the first sequence numbers of the ends. */
  handshake(
    a = 100,
    b = 900,
    options: [number[], number[]] = [[], []],
    win: [number, number] = [1000, 1000],
  ): this {
    this.open({ flags: SYN, seq: a, win: win[0], options: options[0] });
    assert.equal(
      this.send(1, { flags: SYN | ACK, seq: b, ack: a + 1, win: win[1], options: options[1] }),
      'valid',
    );
    assert.equal(this.send(0, { flags: ACK, seq: a + 1, ack: b + 1, win: win[0] }), 'valid');
    assert.equal(this.states, 'ESTABLISHED/ESTABLISHED');
    return this;
  }
}

test('tcp: a handshake goes from SYN_SENT to ESTABLISHED on both sides, with the timeouts of each step', () => {
  const c = new Connection().open({ flags: SYN, seq: 100 });
  assert.equal(c.states, 'SYN_SENT/CLOSED');
  assert.equal(c.left, left(TM_TCP_SYN_SENT));
  assert.equal(c.send(1, { flags: SYN | ACK, seq: 900, ack: 101 }), 'valid');
  assert.equal(c.states, 'ESTABLISHED/SYN_SENT');
  assert.equal(c.left, left(TM_TCP_SYN_RECV));
  assert.equal(c.send(0, { flags: ACK, seq: 101, ack: 901 }), 'valid');
  assert.equal(c.states, 'ESTABLISHED/ESTABLISHED');
  assert.equal(c.left, left(TM_TCP_ESTABLISHED));
});

test('tcp: a SYN that is sent again is still new, and starts the time anew', () => {
  const c = new Connection().open({ flags: SYN, seq: 100 });
  c.now += 20_000;
  assert.equal(c.send(0, { flags: SYN, seq: 100 }), 'valid-new');
  assert.equal(c.left, left(TM_TCP_SYN_SENT));
  assert.equal(c.states, 'SYN_SENT/CLOSED');
});

test('tcp: SYNs that cross open the connection from both sides', () => {
  const c = new Connection().open({ flags: SYN, seq: 100 });
  assert.equal(c.send(1, { flags: SYN, seq: 900 }), 'valid-new');
  assert.equal(c.states, 'SYN_SENT/SYN_SENT');
});

test('tcp: a close by FIN from both sides goes through the closing states', () => {
  const c = new Connection().handshake();
  assert.equal(c.send(0, { flags: FIN | ACK, seq: 101, ack: 901 }), 'valid');
  assert.equal(c.states, 'CLOSING/ESTABLISHED');
  assert.equal(c.left, left(TM_TCP_FIN_WAIT));
  assert.equal(c.send(1, { flags: ACK, seq: 901, ack: 102 }), 'valid');
  assert.equal(c.states, 'FIN_WAIT_2/ESTABLISHED');
  assert.equal(c.send(1, { flags: FIN | ACK, seq: 901, ack: 102 }), 'valid');
  assert.equal(c.states, 'FIN_WAIT_2/CLOSING');
  assert.equal(c.left, left(TM_TCP_TIME_WAIT));
  assert.equal(c.send(0, { flags: ACK, seq: 102, ack: 902 }), 'valid');
  assert.equal(c.states, 'FIN_WAIT_2/FIN_WAIT_2');
  assert.equal(c.left, left(TM_TCP_CLOSE));
});

test('tcp: a SYN after both sides have closed starts a new connection', () => {
  const c = new Connection().handshake();
  assert.equal(c.send(0, { flags: RST, seq: 101 }), 'valid');
  assert.equal(c.send(0, { flags: SYN, seq: 5000 }), 'new');
  assert.equal(c.states, 'CLOSED/CLOSED');
});

test('tcp: a SYN on an established connection is judged like any segment: not a new one', () => {
  const c = new Connection().handshake();
  assert.equal(c.send(0, { flags: SYN, seq: 70_000_000 }), 'invalid');
  assert.equal(c.states, 'ESTABLISHED/ESTABLISHED');
});

test('tcp: a RST in place ends both sides, one elsewhere is invalid', () => {
  const c = new Connection().handshake();
  assert.equal(c.send(1, { flags: RST, seq: 1500 }), 'invalid');
  assert.equal(c.states, 'ESTABLISHED/ESTABLISHED');
  assert.equal(c.send(1, { flags: RST, seq: 901 }), 'valid');
  assert.equal(c.states, 'TIME_WAIT/TIME_WAIT');
  assert.equal(c.left, left(TM_TCP_CLOSE));
});

test('tcp: a RST one off the expected sequence number still counts', () => {
  for (const off of [-1, 0, 1]) {
    const c = new Connection().handshake();
    assert.equal(c.send(1, { flags: RST, seq: 901 + off }), 'valid', `off by ${off}`);
  }
  for (const off of [-2, 2]) {
    const c = new Connection().handshake();
    assert.equal(c.send(1, { flags: RST, seq: 901 + off }), 'invalid', `off by ${off}`);
  }
});

test('tcp: data up to the window passes, a byte more does not', () => {
  const c = new Connection().handshake(100, 900, [[], []], [1000, 500]);
  assert.equal(c.send(0, { flags: ACK, seq: 101, ack: 901, len: 500 }), 'valid');
  const d = new Connection().handshake(100, 900, [[], []], [1000, 500]);
  assert.equal(d.send(0, { flags: ACK, seq: 101, ack: 901, len: 501 }), 'invalid');
});

test('tcp: data sent again passes as long as it reaches back no more than a window', () => {
  const c = new Connection().handshake();
  for (let i = 0; i < 3; i++) {
    assert.equal(c.send(0, { flags: ACK, seq: 101 + i * 1000, ack: 901, len: 1000 }), 'valid');
    assert.equal(c.send(1, { flags: ACK, seq: 901, ack: 1101 + i * 1000 }), 'valid');
  }
  assert.equal(c.send(0, { flags: ACK, seq: 2101, ack: 901, len: 1000 }), 'valid', 'the last one again');
  assert.equal(c.send(0, { flags: ACK, seq: 2100, ack: 901, len: 1000 }), 'invalid', 'a byte before');
});

test('tcp: segments without data are not judged by their sequence number', () => {
  const c = new Connection().handshake();
  assert.equal(c.send(0, { flags: ACK, seq: 0x70000000, ack: 901 }), 'valid');
});

test('tcp: an acknowledgement of what was never sent is invalid beyond the window and the fudge factor', () => {
  const limit = 0xffff + 1500;
  const c = new Connection().handshake();
  assert.equal(c.send(0, { flags: ACK, seq: 101, ack: 901 + limit }), 'valid');
  const d = new Connection().handshake();
  assert.equal(d.send(0, { flags: ACK, seq: 101, ack: 901 + limit + 1 }), 'invalid');
});

test('tcp: sequence numbers that wrap round behave as any others', () => {
  const c = new Connection().handshake(0xfffffff0, 0xfffffffe);
  assert.equal(c.send(0, { flags: ACK | PSH, seq: 0xfffffff1, ack: 0xffffffff, len: 100 }), 'valid');
  assert.equal(c.send(1, { flags: ACK, seq: 0xffffffff, ack: 0x55 }), 'valid');
  assert.equal(c.send(1, { flags: ACK, seq: 0xffffffff, ack: 0x55, len: 10 }), 'valid');
  assert.equal(c.send(0, { flags: ACK, seq: 0x55, ack: 9, len: 1 }), 'valid');
  assert.equal(c.word(SEQLO_0), 0x56);
  assert.equal(c.word(SEQLO_1), 9);
});

test('tcp: windows are scaled when both sides offered to', () => {
  const c = new Connection().handshake(100, 900, [windowScale(2), windowScale(7)]);
  // The peer may have 1000 << 7 bytes in flight, and once it has said so in a segment of its own.
  assert.equal(c.send(1, { flags: ACK, seq: 901, ack: 101, win: 1000 }), 'valid');
  assert.equal(c.send(0, { flags: ACK, seq: 101, ack: 901, len: 1400 }), 'valid');
  assert.equal((c.word(SEQHI_0) - 101) >>> 0, 1000 << 7);
});

test('tcp: windows are not scaled when only one side offered to', () => {
  const c = new Connection().handshake(100, 900, [windowScale(7), []]);
  assert.equal((c.word(STATE) >>> 8) & 0xff, 0, 'the offer is taken back');
  assert.equal(c.send(1, { flags: ACK, seq: 901, ack: 101, win: 1000 }), 'valid');
  assert.equal((c.word(SEQHI_0) - 101) >>> 0, 1000);
});

test('tcp: a shift above 14 counts as 14, and an option list that lies is survived', () => {
  const c = new Connection().open({ flags: SYN, seq: 1, options: windowScale(200) });
  assert.equal((c.word(STATE) >>> 8) & 0xff, WSCALE_KNOWN | 14);
  for (const options of [
    [3, 0, 9],
    [1, 1, 1, 1],
    [0, 3, 3, 7],
    [2, 4, 5, 6, 3, 3, 7, 0],
    [3, 3],
    [5, 255, 1, 1],
    [3, 3, 7, 3, 0, 0, 0, 0],
  ]) {
    new Connection().open({ flags: SYN, seq: 1, options });
  }
  const padded = new Connection().open({ flags: SYN, seq: 1, options: [2, 4, 5, 0xb4, 1, 3, 3, 7] });
  assert.equal((padded.word(STATE) >>> 8) & 0xff, WSCALE_KNOWN | 7, 'behind MSS and NOP');
});

test('tcp: a stream picked up in the middle is tracked with an unknown scale, generously', () => {
  const c = new Connection().open({ flags: ACK, seq: 5000, ack: 800, len: 10 });
  assert.equal((c.word(STATE) >>> 8) & 0xff, WSCALE_UNKNOWN);
  assert.equal((c.word(STATE) >>> 16) & 0xff, WSCALE_UNKNOWN);
  assert.equal(c.send(1, { flags: ACK, seq: 800, ack: 5010, len: 100 }), 'valid');
  assert.equal(c.send(0, { flags: ACK, seq: 5010, ack: 900, len: 10 }), 'valid');
  assert.equal(c.states, 'ESTABLISHED/ESTABLISHED');
});

test('tcp: an invalid segment leaves windows and time as they were', () => {
  const c = new Connection().handshake();
  const before = [SEQLO_0, SEQHI_0, SEQLO_1, SEQHI_1, WINS, EXPIRES, EXPIRES + 1].map((w) => c.word(w));
  c.now += 5000;
  assert.equal(c.send(0, { flags: ACK, seq: 0x40000000, ack: 901, len: 10 }), 'invalid');
  assert.deepEqual(
    [SEQLO_0, SEQHI_0, SEQLO_1, SEQHI_1, WINS, EXPIRES, EXPIRES + 1].map((w) => c.word(w)),
    before,
  );
});

test('tcp: without the sequence check anything in sane flags passes', () => {
  const c = new Connection().handshake();
  c.checkSequence = false;
  assert.equal(c.send(0, { flags: ACK, seq: 0x40000000, ack: 1, len: 1000 }), 'valid');
  assert.equal(c.send(0, { flags: SYN | FIN, seq: 101 }), 'invalid', 'flags are checked all the same');
});

test('tcp: what the record says besides TCP survives every segment', () => {
  const c = new Connection().handshake();
  c.hot[c.c + STATE] |= STATE_HAS_META;
  const [src, dst] = [c.word(CONN.at.SRC), c.word(CONN.at.PKTS_0)];
  c.send(0, { flags: ACK, seq: 101, ack: 901, len: 5 });
  c.send(1, { flags: RST, seq: 901 });
  assert.ok(c.word(STATE) & STATE_HAS_META);
  assert.deepEqual([c.word(CONN.at.SRC), c.word(CONN.at.PKTS_0)], [src, dst]);
  // Records beside it, too.
  assert.ok(c.hot.subarray(0, c.c).every((w) => w === 0x0bad0bad));
  assert.ok(c.hot.subarray(c.c + CONN.words).every((w) => w === 0x0bad0bad));
});

test('tcp: flag combinations that are invalid, and those that may open a connection', () => {
  const rows: [number, boolean, boolean][] = [
    [SYN, false, true],
    [SYN | ACK, false, false],
    [ACK, false, true],
    [ACK | FIN, false, true],
    [ACK | PSH | URG, false, true],
    [RST, false, true],
    [RST | ACK, false, true],
    [0, true, false],
    [FIN, true, false],
    [PSH, true, false],
    [URG, true, false],
    [SYN | RST, true, false],
    [SYN | FIN, true, false],
    [SYN | ACK | FIN, true, false],
    [FIN | PSH | URG, true, false],
    [RST | FIN, true, false],
  ];
  for (const [flags, invalid, opens] of rows) {
    assert.equal(tcpInvalidFlags(flags), invalid, `flags ${flags.toString(2)}`);
    assert.equal(tcpValidNew(flags), opens, `flags ${flags.toString(2)}`);
  }
});

test('tcp: a connection goes by the timeout policy of its zone while it is flagged, in every state', () => {
  const zone = 5;
  setPolicy(
    TIMEOUTS,
    zone,
    new Map([TM_TCP_SYN_SENT, TM_TCP_SYN_RECV, TM_TCP_ESTABLISHED, TM_TCP_CLOSE].map((t) => [t, t + 1])),
  );
  const c = new Connection().open({ flags: SYN, seq: 100 });
  c.hot[c.c + CONN.at.ZONE_PROTO] |= zone << 16;
  c.hot[c.c + STATE] |= STATE_HAS_POLICY;
  c.send(0, { flags: SYN, seq: 100 });
  assert.equal(c.left, 1000);
  c.send(1, { flags: SYN | ACK, seq: 500, ack: 101 });
  assert.equal(c.left, 2000);
  c.send(0, { flags: ACK, seq: 101, ack: 501 });
  assert.equal(c.left, 3000);
  c.send(0, { flags: FIN | ACK, seq: 101, ack: 501 });
  assert.equal(c.left, left(TM_TCP_FIN_WAIT), 'what the policy does not name has its default');
  c.hot[c.c + STATE] &= ~STATE_HAS_POLICY;
  c.send(1, { flags: ACK, seq: 501, ack: 102 });
  assert.equal(c.left, left(TM_TCP_FIN_WAIT));
  c.hot[c.c + STATE] |= STATE_HAS_POLICY;
  c.send(0, { flags: RST | ACK, seq: 102, ack: 501 });
  assert.equal(c.left, 6000);
});
