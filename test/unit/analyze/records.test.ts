import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CATEGORY } from '../../../src/datapath/recorder.js';
import { RECORD } from '../../../src/shm/layouts.js';
import {
  ACK,
  arp,
  data,
  ethernet,
  FIN,
  fragmentIpv4,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  type Layer3,
  type Packet,
  PSH,
  packet,
  RST,
  SYN,
  sctp,
  type Tag,
  type TcpOptions,
  tcp,
  udp,
} from '../../support/packets.js';
import { type RunOptions, run } from '../../support/run.js';

const CLIENT = '10.0.0.1';
const SERVER = '10.0.0.2';
const TRACK = 'ip,actions=ct(commit),in_port\nipv6,actions=ct(commit),in_port\n';

// biome-ignore lint/suspicious/noExplicitAny: columns by name
type Row = Record<string, any>;

async function rows(packets: readonly Packet[], o: Partial<RunOptions> = {}): Promise<Row[]> {
  const got = await run(packets, { flows: TRACK, records: true, ...o });
  const again = await run(packets, { flows: TRACK, records: true, workers: 2, ...o });
  assert.deepEqual(again.records, got.records);
  return got.records.map((line) => JSON.parse(line) as Row);
}

/** The fields of `row` that `want` has. */
function matches(row: Row, want: Row): void {
  assert.deepEqual(Object.fromEntries(Object.keys(want).map((k) => [k, row[k]])), want);
}

/** A conversation between port 40000 of the client and port 80 of the server. */
class Talk {
  readonly packets: Packet[] = [];
  private readonly tags: readonly Tag[];
  constructor(tags: readonly Tag[] = []) {
    this.tags = tags;
  }
  client(at: number, o: TcpOptions): this {
    return this.add(at, 1, ipv4({ src: CLIENT, dst: SERVER }, tcp({ sport: 40000, dport: 80, ...o })));
  }
  server(at: number, o: TcpOptions): this {
    return this.add(at, 2, ipv4({ src: SERVER, dst: CLIENT }, tcp({ sport: 80, dport: 40000, ...o })));
  }
  add(at: number, port: number, l3: Layer3): this {
    this.packets.push(packet(1000 + at, port, ethernet({ tags: this.tags }, l3)));
    return this;
  }
  /** A handshake that takes 30 ms to the SYN-ACK and 50 ms in all. */
  open(at = 0): this {
    this.client(at, { flags: SYN, seq: 100 });
    this.server(at + 0.03, { flags: SYN | ACK, seq: 500, ack: 101 });
    return this.client(at + 0.05, { flags: ACK, seq: 101, ack: 501 });
  }
}

test('record: the layout keeps pairs at even words and is 256 bytes', () => {
  assert.equal(RECORD.words * 4, 256);
  for (const [name, word] of Object.entries(RECORD.at)) {
    if (name.endsWith('_HI') && !name.startsWith('HOLE')) {
      assert.equal(word % 2, 1, name);
      assert.equal(RECORD.at[name.slice(0, -3) as keyof typeof RECORD.at], word - 1, name);
    }
  }
});

test('record: a TCP connection from its handshake to its end', async () => {
  const t = new Talk([7]).open();
  t.client(0.06, { flags: ACK | PSH, seq: 101, ack: 501, data: data(10) });
  t.server(0.07, { flags: ACK, seq: 501, ack: 111, data: data(1000) });
  t.client(0.08, { flags: ACK | FIN, seq: 111, ack: 1501 });
  t.server(0.09, { flags: ACK | FIN, seq: 1501, ack: 112 });
  t.client(0.1, { flags: ACK, seq: 112, ack: 1502 });
  const [row, ...more] = await rows(t.packets);
  assert.equal(more.length, 0);
  matches(row, {
    start: '1000.000000000',
    end: '1000.100000000',
    duration: 0.1,
    protocol: 'tcp',
    src: CLIENT,
    sport: 40000,
    dst: SERVER,
    dport: 80,
    nat: null,
    state: 'TIME_WAIT',
    conn_state: 'SF',
    ending: 'open',
    history: 'ShADdFf',
    orig_packets: 5,
    reply_packets: 3,
    orig_bytes: 5 * 40 + 10,
    reply_bytes: 3 * 40 + 1000,
    orig_frame_bytes: 5 * 58 + 10,
    orig_payload_bytes: 10,
    reply_payload_bytes: 1000,
    orig_stream_bytes: 10,
    reply_stream_bytes: 1000,
    reply_missed_bytes: 0,
    orig_tcp_flags: 'SPAF',
    reply_tcp_flags: 'SAF',
    orig_retransmissions: 0,
    syn_ack_time: 0.03,
    handshake_time: 0.05,
    vlan: 7,
    inner_vlan: null,
    in_port: 1,
    first_packet: 1,
    last_packet: 8,
    dropped_packets: 0,
    drop_reason: null,
    drop_rule: null,
  });
});

test('record: repetitions, holes that are filled and holes that stay, keep-alives', async () => {
  const t = new Talk().open();
  const send = (at: number, seq: number, n: number, flags = ACK): Talk =>
    t.client(at, { flags, seq, ack: 501, data: data(n) });
  send(0.1, 101, 100);
  send(0.2, 101, 100); //  all of it again
  send(0.3, 301, 100); //  201 to 300 are missing
  send(0.4, 201, 50); //   half of them
  send(0.5, 351, 100); //  50 bytes again, 50 new ones
  send(0.6, 450, 1); //    keep-alive: the last byte
  send(0.7, 251, 50); //   the other half
  send(0.8, 551, 10); //   and 451 to 550 never come
  const [row] = await rows(t.packets);
  matches(row, {
    orig_packets: 10,
    orig_retransmissions: 2,
    orig_out_of_order: 2,
    orig_stream_bytes: 100 + 100 + 50 + 50 + 50 + 10,
    orig_missed_bytes: 100,
    orig_payload_bytes: 511,
    conn_state: 'S1',
  });
});

test('record: the handshake is measured from the last SYN before its answer, and only if there was one', async () => {
  const t = new Talk().client(0, { flags: SYN, seq: 100 }).client(1, { flags: SYN, seq: 100 });
  t.server(1.25, { flags: SYN | ACK, seq: 500, ack: 101 }).client(1.5, { flags: ACK, seq: 101, ack: 501 });
  matches((await rows(t.packets))[0], {
    orig_retransmissions: 1,
    syn_ack_time: 0.25,
    handshake_time: 0.5,
  });
  const half = new Talk().client(0, { flags: ACK, seq: 5, ack: 9 }).server(1, { flags: ACK, seq: 9, ack: 5 });
  matches((await rows(half.packets))[0], { syn_ack_time: null, handshake_time: null, conn_state: 'OTH' });
});

test('record: conn_state as Zeek names it', async () => {
  const cases: [string, Talk][] = [
    ['S0', new Talk().client(0, { flags: SYN, seq: 100 })],
    [
      'REJ',
      new Talk().client(0, { flags: SYN, seq: 100 }).server(0.1, { flags: RST | ACK, seq: 0, ack: 101 }),
    ],
    [
      'SH',
      new Talk().client(0, { flags: SYN, seq: 100 }).client(0.1, { flags: FIN | ACK, seq: 101, ack: 1 }),
    ],
    ['S1', new Talk().open()],
    ['S2', new Talk().open().client(1, { flags: FIN | ACK, seq: 101, ack: 501 })],
    ['S3', new Talk().open().server(1, { flags: FIN | ACK, seq: 501, ack: 101 })],
    ['RSTO', new Talk().open().client(1, { flags: RST | ACK, seq: 101, ack: 501 })],
    ['RSTR', new Talk().open().server(1, { flags: RST | ACK, seq: 501, ack: 101 })],
    // A reset after both have sent a FIN, or after its own, is no abort.
    [
      'SF',
      new Talk()
        .open()
        .client(1, { flags: FIN | ACK, seq: 101, ack: 501 })
        .server(2, { flags: FIN | ACK, seq: 501, ack: 102 })
        .client(3, { flags: RST, seq: 102 }),
    ],
    [
      'SF',
      new Talk()
        .open()
        .client(1, { flags: FIN | ACK, seq: 101, ack: 501 })
        .client(1.5, { flags: RST | ACK, seq: 102, ack: 501 })
        .server(2, { flags: FIN | ACK, seq: 501, ack: 102 }),
    ],
    // From the middle on.
    [
      'SF',
      new Talk()
        .client(1, { flags: PSH | ACK, seq: 101, ack: 501, data: data(9) })
        .server(2, { flags: FIN | ACK, seq: 501, ack: 110 })
        .client(3, { flags: FIN | ACK, seq: 110, ack: 502 }),
    ],
    ['OTH', new Talk().client(1, { flags: PSH | ACK, seq: 101, ack: 501, data: data(9) })],
  ];
  for (const [state, t] of cases) assert.equal((await rows(t.packets))[0].conn_state, state);
});

test('record: UDP, ICMP and SCTP; Community IDs as the specification has them', async () => {
  const ip = (src: string, dst: string, l4: Parameters<typeof ipv4>[1]): Uint8Array =>
    ethernet({}, ipv4({ src, dst }, l4));
  // From the baseline of github.com/corelight/community-id-spec.
  const cases: [Uint8Array, string, Row][] = [
    [
      ip('128.232.110.120', '66.35.250.204', tcp({ sport: 34855, dport: 80, flags: SYN })),
      '1:LQU9qZlK+B5F3KDmev6m5PMibrg=',
      { protocol: 'tcp', state: 'SYN_SENT' },
    ],
    [
      ip('192.168.1.52', '8.8.8.8', udp({ sport: 54585, dport: 53 })),
      '1:d/FP5EW3wiY1vCndhwleRRKHowQ=',
      { protocol: 'udp', state: 'NEW', conn_state: 'S0', history: 'D', orig_tcp_flags: null },
    ],
    [
      ip('192.168.0.89', '192.168.0.1', icmp({ type: 8, rest: 0x30001 })),
      '1:X0snYXpgwiv9TZtqg64sgzUn6Dk=',
      { protocol: 'icmp', sport: null, icmp_type: 8, icmp_id: 3, conn_state: 'OTH' },
    ],
    [
      ip('192.168.170.8', '192.168.170.56', sctp({ sport: 7, dport: 80 })),
      '1:jQgCxbku+pNGw8WPbEc/TS/uTpQ=',
      { protocol: 'sctp' },
    ],
  ];
  for (const [frame, id, want] of cases) {
    const [row] = await rows([packet(5, 1, frame)]);
    assert.equal(row.community_id, id);
    matches(row, { ...want, ip_version: 4, duration: 0, reply_packets: 0 });
  }
  const ping = [
    packet(1, 1, ethernet({}, ipv6({ src: 'fd00::1', dst: 'fd00::2' }, icmp6({ type: 128 })))),
    packet(2, 2, ethernet({}, ipv6({ src: 'fd00::2', dst: 'fd00::1' }, icmp6({ type: 129 })))),
  ];
  const [forth] = await rows(ping);
  const [back] = await rows([packet(1, 2, ethernet({}, ipv6({ src: 'fd00::2', dst: 'fd00::1' }, icmp6())))]);
  matches(forth, { protocol: 'icmpv6', ip_version: 6, state: 'ESTABLISHED', reply_packets: 1, duration: 1 });
  assert.notEqual(forth.community_id, back.community_id);
});

test('record: how a connection ended: its time, another with its tuple, a flush, the end of the input', async () => {
  const at = (s: number, sport: number): Packet =>
    packet(s, 1, ethernet({}, ipv4({ src: CLIENT, dst: SERVER }, udp({ sport }))));
  const t = new Talk().open(0);
  t.client(1, { flags: FIN | ACK, seq: 101, ack: 501 }).server(1.1, { flags: FIN | ACK, seq: 501, ack: 102 });
  t.client(1.2, { flags: ACK, seq: 102, ack: 502 }).client(2, { flags: SYN, seq: 70_000 });
  const packets = [at(999, 1), at(999.5, 2), ...t.packets, at(1300, 3), at(1301, 4)];
  const events = '{"t":1300.5,"appctl":["dpctl/flush-conntrack"]}';
  const got = await rows(packets, { events });
  // In the order of their creation.
  assert.deepEqual(
    got.map((r) => [r.protocol, r.sport, r.ending]),
    [
      ['udp', 1, 'timeout'],
      ['udp', 2, 'timeout'],
      ['tcp', 40000, 'replaced'],
      ['tcp', 40000, 'timeout'],
      ['udp', 3, 'flushed'],
      ['udp', 4, 'open'],
    ],
  );
});

test('record: zones have records of their own, with mark and label; drops with reason and rule', async () => {
  const flows = [
    'table=0,priority=1,ip,ct_state=-trk,actions=ct(commit,zone=5,exec(set_field:7->ct_mark,set_field:0xab->ct_label)),ct(commit,zone=6,table=1)',
    'table=1,priority=2,ct_state=+new,actions=2',
    'table=1,priority=1,udp,actions=drop',
  ].join('\n');
  const client = ethernet({}, ipv4({ src: CLIENT, dst: SERVER }, udp({ sport: 9 })));
  const server = ethernet({}, ipv4({ src: SERVER, dst: CLIENT }, udp({ sport: 53, dport: 9 })));
  const packets = [packet(1, 1, client), packet(2, 2, server), packet(3, 1, client)];
  const got = await rows(packets, { flows });
  const drop = {
    dropped_packets: 2,
    drop_reason: 'drop-action',
    drop_rule: 'table=1, priority=1,udp actions=drop',
  };
  matches(got[0], { zone: 5, mark: 7, label: '0xab', orig_packets: 2, reply_packets: 1, ...drop });
  matches(got[1], { zone: 6, mark: 0, label: null, orig_packets: 2, reply_packets: 1, ...drop });
  const { result } = await run(packets, { flows, records: true });
  assert.equal(result.tallies.packets[CATEGORY.CONNECTION], 3);
  assert.equal(result.tallies.repeatedPackets, 3);
});

test('record: what translation does to the tuple', async () => {
  const flows = 'in_port=1,ip,actions=ct(commit,nat(dst=10.9.9.9:8080)),2\nin_port=2,ip,actions=ct(nat),1';
  const [row] = await rows(new Talk().open().packets.slice(0, 1), { flows });
  matches(row, {
    nat: 'dst',
    dst: SERVER,
    dport: 80,
    reply_src: '10.9.9.9',
    reply_sport: 8080,
    reply_dst: CLIENT,
  });
  const both = 'ip,actions=ct(commit,nat(src=10.8.8.8)),2';
  matches((await rows(new Talk().open().packets.slice(0, 1), { flows: both }))[0], {
    nat: 'src',
    reply_dst: '10.8.8.8',
  });
});

test('record: packets about a connection that it does not count; and all that belong to none', async () => {
  const t = new Talk().open();
  t.client(1, { flags: ACK, seq: 0x40000000, ack: 501, data: data(4) }); // far out of the window
  const inner = ipv4({ src: CLIENT, dst: SERVER }, tcp({ sport: 40000, dport: 80, seq: 101, flags: ACK }));
  t.add(2, 2, ipv4({ src: '10.0.0.9', dst: CLIENT }, icmp({ type: 3, code: 1, rest: 0, data: inner.bytes })));
  t.packets.push(packet(1003, 1, ethernet({}, arp())), packet(1004, 1, data(9)));
  t.add(5, 1, ipv4({ src: CLIENT, dst: SERVER }, udp({ sport: 1, spoil: 1 })));
  t.add(6, 1, ipv4({ src: CLIENT, dst: SERVER }, icmp({ type: 0 })));
  for (const part of fragmentIpv4(
    ipv4({ src: CLIENT, dst: SERVER, id: 7 }, udp({ sport: 3, data: data(2000) })),
    1300,
  )) {
    t.add(7, 1, part);
  }
  const got = await run(t.packets, { flows: TRACK, records: true });
  const [first, last] = got.records.map((line) => JSON.parse(line) as Row);
  matches(first, { orig_packets: 2, reply_packets: 1, invalid_packets: 1, icmp_errors: 1 });
  matches(last, { sport: 3, orig_packets: 1, orig_payload_bytes: 2000 });
  const { packets } = got.result.tallies;
  assert.deepEqual(
    [...packets].flatMap((n, i) => (n > 0 ? [[i, n]] : [])),
    [
      [CATEGORY.CONNECTION, 4],
      [CATEGORY.ERROR, 1],
      [CATEGORY.OUT_OF_WINDOW, 1],
      [CATEGORY.NOT_IP, 1],
      [CATEGORY.TOO_SHORT, 1],
      [CATEGORY.FRAGMENT, 1],
      [CATEGORY.INVALID_0 + 6, 1],
      [CATEGORY.INVALID_0 + 12, 1],
    ],
  );
});
