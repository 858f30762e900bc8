/** The command line as a user meets it: child processes, files, pipes, signals, exit codes.
 *  SHARDTRACK_CLI names another main.js to test. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import zlib from 'node:zlib';
import {
  type Bytes,
  cat,
  data,
  ethernet,
  hex,
  ipv4,
  type Packet,
  packet,
  pcapFile,
  readPcap,
  udp,
  view,
} from '../support/packets.js';

const CLI = process.env.SHARDTRACK_CLI ?? fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const root = fileURLToPath(new URL('../../../', import.meta.url));

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-cli-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
let nFiles = 0;
/** A path that no other test uses. */
const fresh = (name: string) => path.join(folder, `${nFiles++}-${name}`);
function write(name: string, content: Bytes | string): string {
  const at = fresh(name);
  fs.writeFileSync(at, content);
  return at;
}

interface Outcome {
  code: number | null;
  out: Buffer;
  err: string;
}

function start(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [CLI, ...args], { stdio: 'pipe' });
}

function outcome(child: ChildProcess): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout!.on('data', (b: Buffer) => out.push(b));
    child.stderr!.on('data', (b: Buffer) => err.push(b));
    child.on('error', reject);
    child.on('close', (code) =>
      resolve({ code, out: Buffer.concat(out), err: Buffer.concat(err).toString() }),
    );
  });
}

function cli(args: readonly string[], input?: Bytes): Promise<Outcome> {
  const child = start(args);
  const done = outcome(child);
  // The program may end without having read all of it.
  child.stdin!.on('error', () => {});
  child.stdin!.end(input ?? '');
  return done;
}

const lines = (file: string | Buffer) =>
  (typeof file === 'string' ? fs.readFileSync(file) : file)
    .toString()
    .split('\n')
    .filter((line) => line !== '');

const there = (n: number) => ethernet({}, ipv4({}, udp({ sport: 1000 + n, data: data(n % 20) })));
const back = (n: number) =>
  ethernet(
    { src: 2, dst: 1 },
    ipv4({ src: '10.0.0.2', dst: '10.0.0.1' }, udp({ sport: 53, dport: 1000 + n })),
  );

/** Ten packets, there and back. */
const TEN: Packet[] = Array.from({ length: 10 }, (_, i) =>
  packet(1_700_000_000 + i, 1, i % 2 === 0 ? there(i >> 1) : back(i >> 1)),
);
const capture = write('ten.pcap', pcapFile(TEN));
const flows = write(
  'pass.txt',
  'ip,actions=ct(commit,table=1)\ntable=1,in_port=1,actions=2\ntable=1,in_port=2,actions=1\n',
);

const exists = (file: string) => fs.existsSync(file);
/** The output is there under its temporary name only. */
function assertPartial(file: string): void {
  assert.ok(!exists(file), `${file} looks whole`);
  assert.ok(exists(`${file}.partial`), `${file}.partial is not there`);
}

describe('command line', { concurrency: 2 }, () => {
  test('--version prints the version of package.json', async () => {
    const { version } = JSON.parse(fs.readFileSync(`${root}package.json`, 'utf8')) as { version: string };
    assert.deepEqual(await cli(['--version']), { code: 0, out: Buffer.from(`${version}\n`), err: '' });
  });

  test('--help explains the commands, replay --help the options, examples and exit codes', async () => {
    const top = await cli(['--help']);
    assert.equal(top.code, 0);
    assert.match(top.out.toString(), /replay/);
    const { code, out } = await cli(['replay', '--help']);
    assert.equal(code, 0);
    for (const option of [
      '--in',
      '--inside',
      '--ports',
      '--flows',
      '--events',
      '--out',
      '--comments',
      '--verdicts',
      '--conntrack',
      '--stats',
      '--workers',
      '--quiet',
    ]) {
      assert.ok(out.toString().includes(option), option);
    }
  });

  for (const [name, args, says] of [
    ['an unknown option', ['replay', capture, '--wokers', '2'], /unknown option '--wokers'/],
    ['an unknown command', ['repaly', capture], /unknown command 'repaly'/],
    ['no capture', ['replay'], /no capture given; expected a file, - for standard input, or --in PORT=FILE/],
    ['a number of workers that is none', ['replay', capture, '--workers', 'many'], /0 to 128, or auto/],
    ['a port that is none', ['replay', '--in', `0=${capture}`], /"0" is not a port/],
    ['a prefix that is none', ['replay', capture, '--inside', '10.0.0.0/40'], /at most 32 bits/],
    [
      'two outputs to one file',
      ['replay', capture, '--verdicts', fresh('x'), '--stats', '@same'],
      /is the file of two outputs/,
    ],
    [
      'two outputs to standard output',
      ['replay', capture, '--verdicts', '-', '--stats', '-'],
      /standard output \(-\) can be only one of the outputs/,
    ],
    [
      'standard input twice',
      ['replay', '-', '--in', '2=-'],
      /standard input \(-\) can be only one of the captures/,
    ],
    ['a flow table that is not there', ['replay', capture, '--flows', `${folder}/none.txt`], /none\.txt/],
    ['an events file with a mistake', ['replay', capture, '--events', '@events'], /:2: "t" is missing/],
  ] as [string, string[], RegExp][]) {
    test(`usage: ${name}: exit code 2, a message, no output`, async () => {
      const same = args[args.indexOf('--verdicts') + 1];
      const events = write('events.ndjson', '# events\n{"appctl": ["dpctl/flush-conntrack"]}\n');
      const full = args.map((a) => (a === '@same' ? same : a === '@events' ? events : a));
      const { code, out, err } = await cli(full);
      assert.match(err, says);
      assert.equal(code, 2);
      assert.equal(out.toString(), '');
      assert.ok(!exists(same) || same === capture);
    });
  }

  test('usage: a flow table with mistakes: all of them, with file, line and column', async () => {
    const bad = write(
      'bad.txt',
      'ip,actions=ct(table=1)\n\nin_port=1,actions=outptu:2\nnw_src=1.2.3.4,actions=2 # no ip\n',
    );
    const verdicts = fresh('v.ndjson');
    const { code, err } = await cli(['replay', capture, '--flows', bad, '--verdicts', verdicts]);
    assert.equal(code, 2);
    assert.ok(err.includes(`${bad}:3:19: `), err);
    assert.ok(err.includes(`${bad}:4:`), err);
    assert.match(err, /2 mistakes in the flow table; nothing was run/);
    assert.ok(!exists(verdicts) && !exists(`${verdicts}.partial`));
  });

  test('flows check: counts what is good, finds the mistakes of flow and group tables together', async () => {
    const good = write('good.txt', 'ip,actions=group:1\ntable=1,actions=drop\n');
    const groups = write('groups.txt', 'group_id=1,type=all,bucket=output:2\n');
    assert.deepEqual(await cli(['flows', 'check', good, '--groups', groups]), {
      code: 0,
      out: Buffer.from(`${good}: 2 flows in 2 tables\n${groups}: 1 group\n`),
      err: '',
    });
    const alone = await cli(['flows', 'check', good]);
    assert.equal(alone.code, 2);
    assert.match(
      alone.err,
      /:1:12: there is no group 1 \(OFPBAC_BAD_OUT_GROUP\)\n {2}ip,actions=group:1\n {13}\^{7}\n/,
    );
    const bad = write('bad.txt', 'ip,actions=outptu:2\n');
    const badGroups = write('bad-groups.txt', 'group_id=1,type=al,bucket=output:2\n');
    const { code, err } = await cli(['flows', 'check', bad, good, '--groups', badGroups]);
    assert.equal(code, 2);
    assert.ok(
      err.includes(`${badGroups}:1:17: unknown type "al"`) && err.includes(`${bad}:1:12: unknown action`),
      err,
    );
    assert.match(err, /2 mistakes in the flow table\n$/);
  });

  test('flows format: canonical, with comments, the same again', async () => {
    const file = write('f.txt', '# first\r\n\n add priority=5,tcp tp_dst=80 actions=strip_vlan,2#two\n');
    const once = await cli(['flows', 'format', file]);
    assert.equal(
      once.out.toString(),
      '# first\n\ntable=0, priority=5,tcp,tp_dst=80 actions=pop_vlan,output:2 #two\n',
    );
    const twice = await cli(['flows', 'format', '-'], new Uint8Array(once.out));
    assert.equal(twice.out.toString(), once.out.toString());
    assert.equal((await cli(['flows', 'format', write('b.txt', 'fnord\n')])).code, 2);
  });

  test('usage: an events file with mistakes: all of them, with file and line', async () => {
    const bad = write(
      'bad.ndjson',
      '{"t": 1, "appctl": ["dpctl/expolde"]}\n\n{"t": 2, "port": [9, "down"]}\n',
    );
    const log = fresh('log.ndjson');
    const { code, err } = await cli(['replay', capture, '--events', bad, '--events-log', log]);
    assert.equal(code, 2);
    assert.ok(err.includes(`${bad}:1: "dpctl/expolde" is not a valid command; expected one of`), err);
    assert.ok(
      err.includes(`${bad}:3: the switch has no port 9, only 1, LOCAL; expected one of these, or --ports 9`),
      err,
    );
    assert.match(err, /2 mistakes in the events file; nothing was run/);
    assert.ok(!exists(log) && !exists(`${log}.partial`));
  });

  test('events: the log has answers and refusals, a warning and the summary tell of the refused', async () => {
    const outputs = [];
    for (const workers of ['0', '2']) {
      const events = write(
        'events.ndjson',
        [
          { t: 0, appctl: ['dpctl/ct-set-limits', 'default=3'] },
          { t: 1e12, appctl: ['dpctl/ct-get-limits', 'zone=0'] },
          { t: 0, vsctl: ['del-zone-tp', 'netdev', 'zone=7'] },
          { t: 1, appctl: ['dpctl/ct-get-maxconns'] },
        ]
          .map((e) => JSON.stringify(e))
          .join('\n'),
      );
      const [log, stats] = [fresh('log.ndjson'), fresh('s.json')];
      const { code, out, err } = await cli([
        'replay',
        capture,
        ...['--inside', '10.0.0.1', '--flows', flows, '--workers', workers, '--strict', '--max-conns', '77'],
        ...['--events', events, '--events-log', log, '--stats', stats],
      ]);
      assert.equal(code, 0, err);
      assert.equal(
        err,
        `shardtrack: warning: ${events}:3: vsctl del-zone-tp netdev zone=7: ovs-vsctl: zone id 7 does not have a policy\n`,
      );
      assert.match(out.toString(), /events +3 done, 1 refused/);
      const { traffic } = JSON.parse(fs.readFileSync(stats, 'utf8')) as {
        traffic: { ct: { refused_by_reason: object }; drops: object; events: object };
      };
      assert.deepEqual(traffic.events, { done: 3, refused: 1 });
      outputs.push({ log: lines(log), traffic });
    }
    assert.deepEqual(outputs[1], outputs[0]);
    assert.deepEqual(outputs[0].log, [
      '{"t":0,"appctl":["dpctl/ct-set-limits","default=3"],"result":""}',
      '{"t":0,"vsctl":["del-zone-tp","netdev","zone=7"],"error":"ovs-vsctl: zone id 7 does not have a policy"}',
      '{"t":1,"appctl":["dpctl/ct-get-maxconns"],"result":"77\\n"}',
      '{"t":1000000000000,"appctl":["dpctl/ct-get-limits","zone=0"],"result":"default limit=3\\nzone=0,limit=3,count=0\\n"}',
    ]);
    assert.deepEqual(outputs[0].traffic.ct.refused_by_reason, {
      table_full: 0,
      zone_limit: 4,
      nat_exhausted: 0,
    });
    assert.deepEqual(outputs[0].traffic.drops, { 'commit-refused': 4 });
  });

  test('--conntrack FILE.ndjson: a line of JSON a connection, with times and counters', async () => {
    const [json, text] = [fresh('ct.ndjson'), fresh('ct.txt')];
    for (const file of [json, text]) {
      const { code } = await cli([
        'replay',
        capture,
        ...['--inside', '10.0.0.1', '--flows', flows, '--workers', '1', '--conntrack', file, '--quiet'],
      ]);
      assert.equal(code, 0);
    }
    const rows = lines(json).map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.equal(rows.length, lines(text).length);
    assert.deepEqual(rows[0], {
      protocol: 'udp',
      zone: 0,
      zone_limit: null,
      mark: 0,
      labels: '0x0',
      orig: { src: '10.0.0.1', dst: '10.0.0.2', sport: 1000, dport: 53, packets: 1, bytes: 28 },
      reply: { src: '10.0.0.2', dst: '10.0.0.1', sport: 53, dport: 1000, packets: 1, bytes: 36 },
      packet: 1,
      created: '1700000000.000000000',
      expires: '1700000031.000000000',
      timeout: 22,
    });
  });

  test('--connections: the records of analyze, with any number of workers', async () => {
    const common = [capture, '--inside', '10.0.0.1', '--flows', flows, '--quiet'];
    const analyzed = await cli(['analyze', ...common, '--cut-as-is', '-o', 'ndjson=-']);
    assert.equal(analyzed.code, 0, analyzed.err);
    for (const workers of ['0', '1', '4']) {
      const { code, out } = await cli(['replay', ...common, '--workers', workers, '--connections', '-']);
      assert.equal(code, 0);
      assert.ok(out.length > 0);
      assert.equal(`${out}`, `${analyzed.out}`);
    }
  });

  test('replay: verdicts, connection table, statistics and a summary, with and without workers alike', async () => {
    const outputs = [];
    for (const workers of ['0', '2']) {
      const [verdicts, conntrack, stats] = [fresh('v.ndjson'), fresh('ct.txt'), fresh('s.json')];
      const { code, out, err } = await cli([
        'replay',
        capture,
        '--inside',
        '10.0.0.1',
        '--flows',
        flows,
        '--workers',
        workers,
        '--verdicts',
        verdicts,
        '--conntrack',
        conntrack,
        '--stats',
        stats,
      ]);
      assert.equal(err, '');
      assert.equal(code, 0);
      assert.match(out.toString(), /packets +10 \(/);
      const got = JSON.parse(fs.readFileSync(stats, 'utf8')) as {
        traffic: { packets: number; ct: { commits: number } };
      };
      assert.equal(got.traffic.packets, 10);
      assert.equal(got.traffic.ct.commits, 5);
      outputs.push({ verdicts: lines(verdicts), conntrack: lines(conntrack), traffic: got.traffic });
    }
    assert.deepEqual(outputs[1], outputs[0]);
    assert.equal(outputs[0].conntrack.length, 5);
    assert.equal(
      outputs[0].verdicts[1],
      '{"packet":2,"ts":"1700000001.000000000","in_port":2,"ct":[{"zone":0,"state":"+est+rpl+trk"}],"out":[1],"reason":null}',
    );
  });

  test('replay: without --flows everything is tracked in zone 0', async () => {
    const { code, out } = await cli(['replay', capture, '--workers', '0', '--quiet', '--conntrack', '-']);
    assert.equal(code, 0);
    assert.equal(lines(out).length, 5);
  });

  test('replay: --quiet says nothing, and nothing but the output is on standard output', async () => {
    const quiet = await cli(['replay', capture, '--workers', '0', '--quiet']);
    assert.deepEqual([quiet.code, quiet.out.length, quiet.err], [0, 0, '']);
    const loud = await cli(['replay', capture, '--workers', '0', '--verdicts', '-']);
    assert.equal(lines(loud.out).length, 10);
    for (const line of lines(loud.out)) JSON.parse(line);
    assert.match(loud.err, /packets +10/);
  });

  test('replay: --in merges by time and gives the ports; --out PORT gets what the port sent', async () => {
    const one = write('1.pcap', pcapFile(TEN.filter((_, i) => i % 2 === 0)));
    const two = write(
      '2.pcap',
      pcapFile(
        TEN.filter((_, i) => i % 2 === 1),
        { nano: true, bigEndian: true },
      ),
    );
    const [to1, to2, verdicts] = [fresh('to1.pcap'), fresh('to2.pcap'), fresh('v.ndjson')];
    const { code, err } = await cli([
      'replay',
      '--in',
      `1=${one}`,
      '--in',
      `2=${two}`,
      '--flows',
      flows,
      '--workers',
      '0',
      '--quiet',
      '--out',
      `1=${to1}`,
      '--out',
      `2=${to2}`,
      '--verdicts',
      verdicts,
    ]);
    assert.equal(err, '');
    assert.equal(code, 0);
    assert.deepEqual(
      lines(verdicts).map((l) => (JSON.parse(l) as { in_port: number }).in_port),
      [1, 2, 1, 2, 1, 2, 1, 2, 1, 2],
    );
    const sent = (file: string) => readPcap(fs.readFileSync(file)).map((r) => hex(r.frame));
    assert.deepEqual(
      sent(to2),
      TEN.filter((_, i) => i % 2 === 0).map((p) => hex(p.frame)),
    );
    assert.deepEqual(
      sent(to1),
      TEN.filter((_, i) => i % 2 === 1).map((p) => hex(p.frame)),
    );
  });

  test('replay: --ports adds ports: without it output there is dropped by name', async () => {
    const to9 = write('to9.txt', 'actions=output:9\n');
    const reason = async (args: string[]) => {
      const { out } = await cli([
        'replay',
        capture,
        '--flows',
        to9,
        '--workers',
        '0',
        '--quiet',
        '--verdicts',
        '-',
        ...args,
      ]);
      const { out: ports, reason } = JSON.parse(lines(out)[0]) as { out: number[]; reason: string | null };
      return [ports, reason];
    };
    assert.deepEqual(await reason([]), [[], 'no-such-port']);
    assert.deepEqual(await reason(['--ports', '8,9']), [[9], null]);
  });

  test('input: from a pipe, gzip, and gzip from a pipe give the same verdicts as the file', async () => {
    const bytes = fs.readFileSync(capture);
    const packed = write('ten.pcap.gz', zlib.gzipSync(bytes));
    const args = ['--workers', '0', '--quiet', '--verdicts', '-'];
    const want = await cli(['replay', capture, ...args]);
    assert.equal(lines(want.out).length, 10);
    for (const [name, got] of [
      ['pipe', await cli(['replay', '-', ...args], bytes)],
      ['gzip', await cli(['replay', packed, ...args])],
      ['gzip from a pipe', await cli(['replay', '-', ...args], fs.readFileSync(packed))],
      ['nanoseconds from a pipe', await cli(['replay', '-', ...args], pcapFile(TEN, { nano: true }))],
    ] as const) {
      assert.equal(got.err, '', name);
      assert.equal(got.out.toString(), want.out.toString(), name);
    }
  });

  test('output: pcapng with comments reads back: interface k is port k + 1, the comment is the verdict', async () => {
    const all = fresh('all.pcapng');
    const { code } = await cli([
      'replay',
      capture,
      '--inside',
      '10.0.0.1',
      '--flows',
      flows,
      '--workers',
      '0',
      '--quiet',
      '--comments',
      '--out',
      all,
    ]);
    assert.equal(code, 0);
    const again = await cli(['replay', all, '--workers', '0', '--quiet', '--verdicts', '-']);
    assert.equal(again.code, 0);
    // What went to port 2 comes back on port 2: the switch had the ports 1, 2 and LOCAL.
    assert.deepEqual(
      lines(again.out).map((l) => (JSON.parse(l) as { in_port: number }).in_port),
      [2, 1, 2, 1, 2, 1, 2, 1, 2, 1],
    );
    const comments = pcapngComments(fs.readFileSync(all));
    assert.equal(comments.length, 10);
    assert.equal(comments[0], 'packet 1 from port 1; ct: zone 0 +new+trk; out: port 2');
    assert.equal(comments[1], 'packet 2 from port 2; ct: zone 0 +est+rpl+trk; out: port 1');
  });

  for (const [name, content, says] of [
    [
      'a file that is no capture',
      new TextEncoder().encode('GET / HTTP/1.1\r\nHost: example.com\r\n'),
      /: byte 0: /,
    ],
    ['an empty file', new Uint8Array(), /: byte 0: /],
    ['an unknown link type', pcapFile(TEN, { linkType: 105 }), /105/],
  ] as [string, Bytes, RegExp][]) {
    test(`damage: ${name}: exit code 1, the file and what is wrong, no output that looks whole`, async () => {
      const file = write('odd.pcap', content);
      const verdicts = fresh('v.ndjson');
      const { code, err } = await cli(['replay', file, '--workers', '0', '--verdicts', verdicts]);
      assert.equal(code, 1);
      assert.ok(err.includes(file), err);
      assert.match(err, says);
      assert.ok(!exists(verdicts));
    });
  }

  test('damage: a capture that is not there: exit code 1 and its name', async () => {
    const { code, err } = await cli(['replay', `${folder}/none.pcap`]);
    assert.equal(code, 1);
    assert.match(err, /none\.pcap/);
  });

  for (const workers of ['0', '2']) {
    for (const piped of [false, true]) {
      test(`damage: an absurd length ${piped ? 'in a pipe' : 'in a file'}, ${workers} workers: exit code 1, the offset, outputs left as .partial`, async () => {
        const good = pcapFile(TEN.slice(0, 3));
        const bad = cat(good, new Uint8Array(8), [0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f], data(100));
        const [verdicts, out, stats] = [fresh('v.ndjson'), fresh('o.pcapng'), fresh('s.json')];
        const { code, err } = await cli(
          [
            'replay',
            piped ? '-' : write('absurd.pcap', bad),
            '--workers',
            workers,
            '--quiet',
            '--verdicts',
            verdicts,
            '--out',
            out,
            '--stats',
            stats,
          ],
          piped ? bad : undefined,
        );
        assert.equal(code, 1);
        assert.ok(err.includes(`byte ${good.length}`), err);
        assert.match(err, /keep the ending \.partial/);
        for (const file of [verdicts, out, stats]) assertPartial(file);
        // What came before is in them.
        assert.equal(lines(`${verdicts}.partial`).length, 3);
      });
    }
  }

  test('damage: a capture cut off in mid-record is processed up to the cut: a warning with the offset, exit code 0', async () => {
    const whole = pcapFile(TEN);
    const last = whole.length - TEN[9].frame.length - 16;
    for (const piped of [false, true]) {
      const cut = whole.slice(0, whole.length - 5);
      const verdicts = fresh('v.ndjson');
      const { code, err } = await cli(
        ['replay', piped ? '-' : write('cut.pcap', cut), '--workers', '0', '--quiet', '--verdicts', verdicts],
        piped ? cut : undefined,
      );
      assert.equal(code, 0, err);
      assert.match(err, /warning/);
      assert.ok(err.includes(`byte ${last}`), err);
      assert.equal(lines(verdicts).length, 9);
    }
  });

  test('output: a folder that is not there, or that can not be written to: exit code 1 and the path', async () => {
    const nowhere = `${folder}/none/v.ndjson`;
    const { code, err } = await cli(['replay', capture, '--workers', '0', '--verdicts', nowhere]);
    assert.equal(code, 1);
    assert.ok(err.includes(nowhere), err);
    const asFolder = await cli(['replay', capture, '--workers', '0', '--verdicts', folder]);
    assert.equal(asFolder.code, 1);
    assert.match(asFolder.err, /it is a folder/);
  });

  test('output: an existing file is replaced only when the new one is whole', async () => {
    const verdicts = write('v.ndjson', 'old\n');
    const bad = write(
      'bad.pcap',
      cat(pcapFile(TEN.slice(0, 1)), new Uint8Array(8), new Uint8Array(8).fill(0x7f)),
    );
    assert.equal((await cli(['replay', bad, '--workers', '0', '--quiet', '--verdicts', verdicts])).code, 1);
    assert.equal(fs.readFileSync(verdicts, 'utf8'), 'old\n');
    assert.equal(
      (await cli(['replay', capture, '--workers', '0', '--quiet', '--verdicts', verdicts])).code,
      0,
    );
    assert.equal(lines(verdicts).length, 10);
  });

  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    for (const workers of ['0', '2']) {
      test(`${signal} while waiting for input, ${workers} workers: exit code ${code}, outputs left as .partial`, async () => {
        const verdicts = fresh('v.ndjson');
        const child = start(['replay', '-', '--workers', workers, '--verdicts', verdicts]);
        const done = outcome(child);
        child.stdin!.on('error', () => {});
        child.stdin!.write(pcapFile(TEN.slice(0, 4)));
        const deadline = Date.now() + 8000;
        while (!exists(`${verdicts}.partial`)) {
          assert.ok(Date.now() < deadline, 'it never began');
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        // What is done so far is in the buffer of the output file: give slow machines time for it.
        await new Promise((resolve) => setTimeout(resolve, 2000));
        child.kill(signal);
        const got = await done;
        assert.equal(got.code, code, got.err);
        assert.match(got.err, new RegExp(`interrupted by ${signal}`));
        assertPartial(verdicts);
        assert.equal(lines(`${verdicts}.partial`).length, 4);
      });
    }
  }

  for (const kind of ['throw', 'exit']) {
    test(`a worker that ends by ${kind}: exit code 1, its number, no output that looks whole`, async () => {
      const many = write(
        'many.pcap',
        pcapFile(Array.from({ length: 3000 }, (_, i) => packet(i / 1000, 1, there(i)))),
      );
      const [verdicts, stats] = [fresh('v.ndjson'), fresh('s.json')];
      const { code, err } = await cli([
        'replay',
        many,
        '--workers',
        '2',
        '--fault',
        `${kind}@500`,
        '--verdicts',
        verdicts,
        '--stats',
        stats,
      ]);
      assert.equal(code, 1, err);
      assert.match(err, /worker \d+ failed/);
      assertPartial(verdicts);
      assertPartial(stats);
    });
  }
});

/** opt_comment (1) of the enhanced packet blocks (6) of a little-endian pcapng file. */
function pcapngComments(file: Bytes): string[] {
  const v = view(file);
  const comments: string[] = [];
  for (let at = 0; at < file.length; at += v.getUint32(at + 4, true)) {
    if (v.getUint32(at, true) !== 6) continue;
    const end = at + v.getUint32(at + 4, true) - 4;
    let option = at + 28 + ((v.getUint32(at + 20, true) + 3) & ~3);
    while (option + 4 <= end) {
      const [code, length] = [v.getUint16(option, true), v.getUint16(option + 2, true)];
      if (code === 0) break;
      if (code === 1) comments.push(new TextDecoder().decode(file.subarray(option + 4, option + 4 + length)));
      option += 4 + ((length + 3) & ~3);
    }
  }
  return comments;
}
