/** What goes wrong around a run, from outside, through the command line: workers that die or hang, disks that are full,
 *  pipes that are closed, files that change, processes that are stopped. A run ends with a clear message and code, or is
 *  as it would have been. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ethernet, ipv4, packet, pcapFile, udp } from '../support/packets.js';

const CLI = process.env.SHARDTRACK_CLI ?? fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-faults-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
let nFiles = 0;
const fresh = (name: string) => path.join(folder, `${nFiles++}-${name}`);

const N = 4000;
const capture = fresh('many.pcap');
fs.writeFileSync(
  capture,
  pcapFile(
    Array.from({ length: N }, (_, i) =>
      packet(
        1_700_000_000 + i / 1000,
        1,
        ethernet({}, ipv4({ src: `10.0.${i % 7}.${i % 97}` }, udp({ sport: 1000 + (i % 500) }))),
      ),
    ),
  ),
);

interface Outcome {
  code: number | null;
  out: string;
  err: string;
}

function start(args: readonly string[], node: readonly string[] = []): ChildProcess {
  return spawn(process.execPath, [...node, CLI, ...args], { stdio: 'pipe' });
}

function outcome(child: ChildProcess): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    let out = '';
    let err = '';
    child.stdout!.on('data', (b: Buffer) => {
      out += b.toString();
    });
    child.stderr!.on('data', (b: Buffer) => {
      err += b.toString();
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, out, err }));
  });
}

const cli = (args: readonly string[], node?: readonly string[]) => outcome(start(args, node));
const shell = (line: string) => {
  const { status, stdout, stderr } = spawnSync('bash', ['-c', line], {
    env: { ...process.env, CLI: `${process.execPath} ${CLI}`, CAPTURE: capture, FOLDER: folder },
  });
  return { code: status, out: stdout.toString(), err: stderr.toString() };
};

function assertPartial(file: string): void {
  assert.ok(!fs.existsSync(file), `${file} looks whole`);
  assert.ok(fs.existsSync(`${file}.partial`), `${file}.partial is not there`);
}

describe('faults', { concurrency: 2 }, () => {
  for (const [kind, at, says, ...node] of [
    ['throw', 1, /worker 0 failed: fault injected/],
    ['throw', 700, /worker 0 failed: fault injected/],
    ['exit', 300, /worker 0 failed: worker exited with code: 3/],
    [
      'hang',
      500,
      /no packet of \d+ in flight has been completed for 2 s: worker 0 is stuck; --watchdog SECONDS/,
    ],
    [
      'memory',
      500,
      /worker 0 failed: Worker terminated due to reaching memory limit/,
      '--max-old-space-size=64',
    ],
  ] as const) {
    test(`a worker that ends by ${kind} at packet ${at}: exit code 1, what happened, outputs left as .partial`, async () => {
      const [verdicts, stats] = [fresh('v.ndjson'), fresh('s.json')];
      const limit = kind === 'hang' ? '2' : '60';
      const { code, err } = await cli(
        [
          'replay',
          capture,
          ...['--workers', '2', '--fault', `${kind}@${at}`, '--watchdog', limit],
          ...['--verdicts', verdicts, '--stats', stats],
        ],
        node,
      );
      assert.match(err, says);
      assert.equal(code, 1);
      assertPartial(verdicts);
      assertPartial(stats);
      // What was written is the beginning of what would have been.
      const lines = fs.readFileSync(`${verdicts}.partial`, 'utf8').split('\n').slice(0, -1);
      for (const [i, line] of lines.entries()) {
        assert.equal((JSON.parse(line) as { packet: number }).packet, i + 1);
      }
    });
  }

  for (const [kind, at, says] of [
    ['throw', 900, /worker 0 failed: fault injected/],
    ['exit', 1500, /worker 0 failed: worker exited with code: 3/],
    ['hang', 1200, /no packet of \d+ in flight has been completed for 2 s: worker 0 is stuck/],
  ] as const) {
    test(`analyze, a worker that ends by ${kind}: exit code 1, outputs left as .partial; --resume goes on to the same`, async () => {
      const [whole, records, checkpoint] = [fresh('whole.ndjson'), fresh('c.ndjson'), fresh('checkpoint')];
      const analysis = (file: string) => ['analyze', capture, '--workers', '2', '--quiet', '--out', file];
      assert.equal((await cli(analysis(whole))).code, 0);
      const args = [...analysis(records), '--resume', checkpoint, '--checkpoint-every', '300'];
      const failed = await cli([...args, '--fault', `${kind}@${at}`, '--watchdog', '2']);
      assert.match(failed.err, says);
      assert.equal(failed.code, 1);
      assertPartial(records);
      const { code, err } = await cli(args);
      assert.equal(code, 0, err);
      assert.deepEqual(fs.readFileSync(records), fs.readFileSync(whole));
    });
  }

  test('SIGINT ends a run whose worker is stuck', async () => {
    const verdicts = fresh('v.ndjson');
    const child = start(['replay', capture, '--workers', '1', '--fault', 'hang@1', '--verdicts', verdicts]);
    const done = outcome(child);
    while (!fs.existsSync(`${verdicts}.partial`)) await new Promise((resolve) => setTimeout(resolve, 20));
    await new Promise((resolve) => setTimeout(resolve, 500));
    child.kill('SIGINT');
    const { code, err } = await done;
    assert.equal(code, 130, err);
    assertPartial(verdicts);
  });

  test('a process that is stopped for longer than the watchdog waits goes on as if nothing had been', async () => {
    const verdicts = fresh('v.ndjson');
    const child = start([
      'replay',
      '-',
      ...['--workers', '2', '--watchdog', '4', '--verdicts', verdicts, '--quiet'],
    ]);
    const done = outcome(child);
    const bytes = fs.readFileSync(capture);
    child.stdin!.write(bytes.subarray(0, bytes.length >> 1));
    while (!fs.existsSync(`${verdicts}.partial`)) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGSTOP');
    child.stdin!.end(bytes.subarray(bytes.length >> 1));
    await new Promise((resolve) => setTimeout(resolve, 6000));
    child.kill('SIGCONT');
    const { code, err } = await done;
    assert.equal(code, 0, err);
    assert.equal(fs.readFileSync(verdicts, 'utf8').split('\n').length, N + 1);
  });

  test('an input that pauses for longer than the watchdog waits is no fault', async () => {
    const child = start(['replay', '-', '--workers', '1', '--watchdog', '1']);
    const done = outcome(child);
    const bytes = fs.readFileSync(capture);
    child.stdin!.write(bytes.subarray(0, 10_000));
    await new Promise((resolve) => setTimeout(resolve, 2500));
    child.stdin!.end(bytes.subarray(10_000));
    const { code, out, err } = await done;
    assert.equal(code, 0, err);
    assert.match(out, /packets +4,000 /);
  });

  test('killed: nothing looks whole', async () => {
    const verdicts = fresh('v.ndjson');
    const child = start(['replay', '-', '--workers', '2', '--verdicts', verdicts]);
    const done = outcome(child);
    child.stdin!.on('error', () => {});
    child.stdin!.write(fs.readFileSync(capture).subarray(0, 50_000));
    while (!fs.existsSync(`${verdicts}.partial`)) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGKILL');
    await done;
    assertPartial(verdicts);
  });

  const posix = { skip: process.platform === 'win32' };

  test(
    'a reader that closes the pipe: no message, exit code 141; other outputs are left as .partial',
    posix,
    () => {
      const alone = shell(
        '$CLI replay $CAPTURE --workers 1 --verdicts - | head -1 | wc -l; echo $PIPESTATUS',
      );
      assert.deepEqual(alone, { code: 0, out: '1\n141\n', err: '' });
      // A thread of its own writes these.
      const records = shell(
        '$CLI analyze $CAPTURE --quiet --out ndjson=- | head -1 | wc -l; echo $PIPESTATUS',
      );
      assert.match(records.out, /^1\n(141|0)\n$/);
      assert.equal(records.err, '');
      const more = shell(
        '$CLI replay $CAPTURE --verdicts - --stats $FOLDER/p.json | head -1 >&2; echo $PIPESTATUS',
      );
      assert.equal(more.out, '141\n');
      assertPartial(path.join(folder, 'p.json'));
      const made = shell(
        '$CLI generate udp - --packets 100000 --quiet | head -c 9 | wc -c; echo $PIPESTATUS',
      );
      assert.deepEqual(made, { code: 0, out: '9\n141\n', err: '' });
      for (const command of ['replay $CAPTURE', '--help', 'generate --list', 'analyze $CAPTURE']) {
        const { out, err } = shell(`$CLI ${command} | true; echo $PIPESTATUS`);
        // Who is quick enough has written all before the pipe was closed.
        assert.match(out, /^(141|0)\n$/, command);
        assert.equal(err, '', command);
      }
    },
  );

  // Of a process that the shell has become, which so has a number that is known, and pipes for input and output.
  const stalled: [string, string, RegExp][] = [
    [
      'replay of a named pipe whose writer has stalled',
      'mkfifo $D/in; (head -c 9000 $CAPTURE; sleep 9) > $D/in & exec $CLI replay $D/in --workers 1 --verdicts $D/v',
      /interrupted by SIG/,
    ],
    [
      'analyze of a named pipe that nobody writes to',
      'mkfifo $D/in; exec $CLI analyze $D/in --out csv=$D/v',
      /stopped by SIG\w+ after 0 packets/,
    ],
    [
      'replay into a named pipe without a reader',
      'mkfifo $D/out; exec $CLI replay $CAPTURE --workers 1 --verdicts $D/out',
      /^$/,
    ],
    [
      'analyze into a named pipe without a reader',
      'mkfifo $D/out; exec $CLI analyze $CAPTURE --quiet --out csv=$D/out',
      /interrupted by SIG\w+: .*out: cannot open the output: nobody reads it/,
    ],
    [
      'replay into a named pipe whose reader has stalled',
      'mkfifo $D/out; (head -c 100; sleep 9) < $D/out > $D/read & exec $CLI replay $CAPTURE --workers 1 --verdicts $D/out',
      /^$/,
    ],
  ];
  for (const [i, [what, line, says]] of stalled.entries()) {
    const signal = i % 2 === 0 ? 'SIGTERM' : 'SIGINT';
    test(`${what}: ${signal} ends it`, posix, async () => {
      const D = fresh('stalled');
      fs.mkdirSync(D);
      const child = spawn('bash', ['-c', line], {
        env: { ...process.env, CLI: `${process.execPath} ${CLI}`, CAPTURE: capture, D },
        detached: true,
      });
      const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
      let err = '';
      child.stderr.on('data', (text) => {
        err += text;
      });
      // Until it can do nothing but wait.
      await new Promise((resolve) => setTimeout(resolve, 2000));
      child.kill(signal);
      const code = await exited;
      // Those who stall, if there are any.
      try {
        process.kill(-(child.pid as number), 'SIGKILL');
      } catch {
        // Nobody.
      }
      if (child.signalCode === null) assert.equal(code, signal === 'SIGINT' ? 130 : 143, err);
      else assert.equal(child.signalCode, signal);
      assert.match(err, says);
      assert.ok(!fs.existsSync(path.join(D, 'v')) || /are whole/.test(err), 'it looks whole');
    });
  }

  test('analyze of a pipe is that of the file', posix, () => {
    const [piped, plain] = [fresh('piped.csv'), fresh('plain.csv')];
    const { code, err } = shell(
      `$CLI analyze <(cat $CAPTURE) --quiet --out ${piped} && $CLI analyze $CAPTURE --quiet --out ${plain}`,
    );
    assert.equal(code, 0, err);
    assert.deepEqual(fs.readFileSync(piped), fs.readFileSync(plain));
  });

  for (const [kind, says, ...node] of [
    ['throw', /fault injected/],
    ['exit', /the thread of a slice ended with 3/],
    ['hang', /slice 1 of 2 has not got on for 2 s: its thread is stuck; --watchdog SECONDS/],
    ['memory', /Worker terminated due to reaching memory limit/, '--max-old-space-size=96'],
  ] as const) {
    test(`a slice of analyze that ends by ${kind}: exit code 1, and why; outputs left as .partial`, async () => {
      const records = fresh('c.csv');
      const { code, err } = await cli(
        [
          ...['analyze', capture, '--workers', '2', '--quiet', '--out', records],
          ...['--slice-fault', `${kind}@0`, '--watchdog', kind === 'hang' ? '2' : '60'],
        ],
        node,
      );
      assert.match(err, says);
      assert.equal(code, 1);
      assertPartial(records);
    });
  }

  test('too few files may be open: exit code 1, and what to do', posix, () => {
    const { code, err } = shell('ulimit -n 30; $CLI replay $CAPTURE --quiet --workers 1');
    assert.match(err, /^shardtrack: EMFILE: too many open files.*ulimit -n/);
    assert.equal(code, 1);
  });

  test('a history that is a device is not read for ever', { ...posix, timeout: 20_000 }, () => {
    const { code, err } = shell('$CLI bench udp --history /dev/zero');
    assert.match(err, /\/dev\/zero: cannot append to the history: it is no regular file/);
    assert.equal(code, 1);
  });

  const checkout = spawnSync('git', [
    '-C',
    fileURLToPath(new URL('../../..', import.meta.url)),
    'rev-parse',
    'HEAD',
  ]);
  test('compare, interrupted while it builds a commit: no process and no folder is left', {
    skip: checkout.status === 0 ? false : 'no checkout',
  }, async () => {
    const temporary = fresh('tmp');
    fs.mkdirSync(temporary);
    const child = spawn(process.execPath, [CLI, 'compare', 'HEAD', 'HEAD', '--only', 'results'], {
      env: { ...process.env, TMPDIR: temporary },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const done = outcome(child);
    await new Promise<void>((resolve) =>
      child.stderr!.on('data', (b) => /building/.test(`${b}`) && resolve()),
    );
    await new Promise((resolve) => setTimeout(resolve, 500));
    child.kill('SIGTERM');
    // The end of its outputs: whoever it has started has ended, too.
    const { code, err } = await done;
    assert.equal(code, 143, err);
    const left = fs.readdirSync(temporary, { recursive: true }).filter((name) => /\.\w{6}$/.test(`${name}`));
    assert.deepEqual(left, []);
  });

  const full = { skip: fs.existsSync('/dev/full') ? false : 'no /dev/full' };

  test('no space left: exit code 1, which output, and why', full, () => {
    const says =
      /^shardtrack: (\/dev\/full|<stdout>): cannot write the output: ENOSPC: no space left on device\n$/m;
    for (const line of [
      '$CLI replay $CAPTURE --workers 2 --verdicts /dev/full',
      '$CLI replay $CAPTURE --workers 0 --verdicts - > /dev/full',
      '$CLI replay $CAPTURE --workers 0 > /dev/full',
      '$CLI replay $CAPTURE --workers 0 --conntrack /dev/full',
      '$CLI replay $CAPTURE --workers 0 --out 1=/dev/full --flows <(echo actions=in_port)',
      '$CLI analyze $CAPTURE --quiet --out csv=/dev/full',
      '$CLI flows format <(echo actions=drop) > /dev/full',
      '$CLI generate udp /dev/full --packets 1000 --quiet',
      '$CLI generate udp - --packets 1000 --quiet > /dev/full',
      '$CLI generate udp $FOLDER/g.pcap --packets 100 --quiet --flows /dev/full',
    ]) {
      const { code, err } = shell(line);
      assert.match(err, says, line);
      assert.equal(code, 1, line);
    }
    // A summary that can't be said does not make the outputs worse.
    assert.equal(shell('$CLI replay $CAPTURE --quiet --verdicts $FOLDER/e.ndjson 2>/dev/full').code, 0);
  });

  test(
    'a file that may not be longer: exit code 1, which output, and why; it does not look whole',
    posix,
    () => {
      // bash counts in KiB.
      for (const [line, file] of [
        ['$CLI replay $CAPTURE --workers 1 --quiet --verdicts $FOLDER/long.ndjson', 'long.ndjson'],
        ['$CLI analyze $CAPTURE --quiet --out csv=$FOLDER/long.csv', 'long.csv'],
        ['$CLI generate udp $FOLDER/long.pcap --packets 20000 --quiet', 'long.pcap'],
      ]) {
        const { code, err } = shell(`ulimit -f 20; ${line}`);
        assert.equal(code, 1, line);
        assert.ok(
          err.includes(`${path.join(folder, file)}: cannot write the output: EFBIG: file too large`),
          err,
        );
        assertPartial(path.join(folder, file));
      }
    },
  );

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    test(`generate dies of ${signal}: the capture keeps .partial`, async () => {
      const capture = fresh('made.pcap');
      const child = start(['generate', 'udp', capture, '--packets', '30000000', '--quiet']);
      const done = outcome(child);
      while (!fs.existsSync(`${capture}.partial`)) await new Promise((resolve) => setTimeout(resolve, 20));
      child.kill(signal);
      await done;
      assert.equal(child.signalCode, signal);
      assertPartial(capture);
    });
  }

  test('a disk that fills up: the output that is not whole does not look so', full, (t) => {
    const mounted = shell('mkdir $FOLDER/small && mount -t tmpfs -o size=64k none $FOLDER/small');
    if (mounted.code !== 0) {
      t.skip('can mount nothing here');
      return;
    }
    try {
      const { code, err } = shell('$CLI replay $CAPTURE --workers 2 --verdicts $FOLDER/small/v.ndjson');
      assert.equal(code, 1);
      assert.match(err, /small\/v\.ndjson: cannot write the output: ENOSPC/);
      assertPartial(path.join(folder, 'small', 'v.ndjson'));
    } finally {
      shell('umount $FOLDER/small');
    }
  });

  test('a capture that grows while it is read is read to its end; one that is cut is told of', async () => {
    for (const cut of [false, true]) {
      const bytes = fs.readFileSync(capture);
      const file = fresh('changing.pcap');
      // Two arenas full: it waits for its reader in the middle.
      const header = bytes.subarray(0, 24);
      const records = bytes.subarray(24);
      const copies = Math.ceil(40_000_000 / records.length);
      fs.writeFileSync(file, Buffer.concat([header, ...Array.from({ length: copies }, () => records)]));
      const verdicts = fresh('pipe');
      assert.equal(spawnSync('mkfifo', [verdicts]).status, 0);
      const child = start(['replay', file, '--workers', '1', '--verdicts', verdicts]);
      const done = outcome(child);
      // Its output waits for us, so it can't be far.
      const fd = await new Promise<number>((resolve, reject) =>
        fs.open(verdicts, 'r', (error, n) => (error === null ? resolve(n) : reject(error))),
      );
      if (cut) fs.truncateSync(file, 24 + records.length * (copies - 1));
      else fs.appendFileSync(file, records);
      let lines = 0;
      for await (const chunk of fs.createReadStream('', { fd })) {
        for (const byte of chunk as Buffer) if (byte === 10) lines++;
      }
      const { code, err } = await done;
      assert.equal(code, 0, err);
      assert.equal(lines, N * (cut ? copies - 1 : copies + 1));
      if (cut) assert.match(err, /the file was cut from \d+ to \d+ bytes while it was read/);
      else assert.equal(err, '');
    }
  });

  test('a capture that can not be read: exit code 1, its name, and why', async () => {
    const { code, err } = await cli(['replay', folder]);
    assert.equal(code, 1);
    assert.match(err, /it is a folder/);
    if (!fs.existsSync('/proc/self/mem')) return;
    const broken = await cli(['replay', '/proc/self/mem']);
    assert.equal(broken.code, 1);
    assert.match(broken.err, /\/proc\/self\/mem: byte 0: cannot read the file: EIO/);
  });

  test('an output that would replace what is read is refused', async () => {
    const folder = fresh('same');
    fs.mkdirSync(folder);
    const input = path.join(folder, 'in.pcap');
    const bytes = fs.readFileSync(capture);
    fs.writeFileSync(input, bytes);
    fs.symlinkSync('in.pcap', path.join(folder, 'link.csv'));
    fs.writeFileSync(path.join(folder, 'o.csv.partial'), bytes);
    for (const [says, ...args] of [
      [
        /output would replace .*in\.pcap/,
        'replay',
        input,
        '--out',
        `1=${folder}/../${path.basename(folder)}/in.pcap`,
      ],
      [/output would replace .*in\.pcap/, 'analyze', folder, '--out', `${folder}/link.csv`],
      [/output would replace .*in\.pcap/, 'analyze', input, '-o', `${folder}/o.csv`, '--resume', input],
      [/output would replace .*\.partial/, 'analyze', `${folder}/o.csv.partial`, '-o', `${folder}/o.csv`],
      [
        /is the file of two outputs/,
        'analyze',
        input,
        '-o',
        `${folder}/o.csv`,
        '--resume',
        `${folder}/./o.csv`,
      ],
    ] as const) {
      const { code, err } = await cli(args);
      assert.match(err, says);
      assert.equal(code, 2);
    }
    assert.deepEqual(fs.readFileSync(input), bytes);
  });

  test('outputs of earlier runs outlive one that fails, and a folder that is gone', async () => {
    const folder = fresh('earlier');
    fs.mkdirSync(folder);
    const verdicts = path.join(folder, 'v.ndjson');
    fs.writeFileSync(verdicts, 'earlier');
    const args = ['replay', '-', '--workers', '0', '--quiet', '--verdicts', verdicts];
    const failed = await cli([...args.with(1, capture).with(3, '1'), '--fault', 'throw@100']);
    assert.equal(failed.code, 1);
    assert.equal(fs.readFileSync(verdicts, 'utf8'), 'earlier');
    fs.rmSync(`${verdicts}.partial`);
    const child = start(args);
    const done = outcome(child);
    const bytes = fs.readFileSync(capture);
    child.stdin!.write(bytes.subarray(0, 50_000));
    while (!fs.existsSync(`${verdicts}.partial`)) await new Promise((resolve) => setTimeout(resolve, 20));
    fs.renameSync(folder, `${folder}-moved`);
    child.stdin!.end(bytes.subarray(50_000));
    const { code, err } = await done;
    assert.match(err, /v\.ndjson: cannot finish the output: ENOENT/);
    assert.equal(code, 1);
    assert.equal(fs.readFileSync(path.join(`${folder}-moved`, 'v.ndjson'), 'utf8'), 'earlier');
  });

  test('of two runs with one output the later one writes it; the other fails', async () => {
    const verdicts = fresh('v.ndjson');
    const bytes = fs.readFileSync(capture);
    const begin = async () => {
      const child = start(['replay', '-', '--workers', '0', '--quiet', '--verdicts', verdicts]);
      const done = outcome(child);
      const ino = () => fs.statSync(`${verdicts}.partial`, { throwIfNoEntry: false })?.ino;
      const before = ino();
      child.stdin!.write(bytes.subarray(0, 50_000));
      while (ino() === before) await new Promise((resolve) => setTimeout(resolve, 20));
      return { child, done };
    };
    const first = await begin();
    const second = await begin();
    first.child.stdin!.end(bytes.subarray(50_000));
    const { code, err } = await first.done;
    assert.match(err, /cannot finish the output: another process has begun to write it/);
    assert.equal(code, 1);
    assert.ok(!fs.existsSync(verdicts));
    second.child.stdin!.end(bytes.subarray(50_000));
    assert.equal((await second.done).code, 0);
    assert.equal(fs.readFileSync(verdicts, 'utf8').split('\n').length, N + 1);
  });

  test('a checkpoint: of one process at a time, and of outputs as they were', {
    skip: process.platform !== 'linux',
  }, async () => {
    const [whole, records, checkpoint] = [fresh('whole.csv'), fresh('c.csv'), fresh('checkpoint')];
    const analysis = (file: string) => ['analyze', capture, '--workers', '1', '--quiet', '--out', file];
    assert.equal((await cli(analysis(whole))).code, 0);
    const args = [...analysis(records), '--resume', checkpoint, '--checkpoint-every', '300'];
    assert.equal((await cli([...args, '--fault', 'throw@2000'])).code, 1);
    const partial = `${records}.partial`;
    const was = fs.readFileSync(partial);

    // Somebody who lives, and somebody who does not any more.
    const { pid } = process;
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    const began = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    fs.writeFileSync(`${checkpoint}.lock`, `${pid} ${began}\n`);
    const both = await cli(args);
    assert.match(both.err, new RegExp(`checkpoint.lock: process ${pid} is at it`));
    assert.equal(both.code, 1);
    fs.writeFileSync(`${checkpoint}.lock`, `${pid} 1\n`);

    // An output that somebody has changed, or put another file in the place of.
    for (const other of [Buffer.from(was).fill(48, 100, 101), was.subarray(0, 200)]) {
      fs.writeFileSync(partial, other);
      const { code, err } = await cli(args);
      assert.match(
        err,
        /c\.csv: cannot open the output: it is not what the checkpoint is of any more; remove/,
      );
      assert.equal(code, 1);
      assert.deepEqual(fs.readFileSync(partial), other);
    }
    fs.rmSync(partial);
    const old = Buffer.concat([was, was]).fill(49);
    fs.writeFileSync(records, old);
    assert.equal((await cli(args)).code, 1);
    assert.deepEqual(fs.readFileSync(records), old);

    fs.writeFileSync(partial, was);
    const { code, err } = await cli(args);
    assert.equal(code, 0, err);
    assert.deepEqual(fs.readFileSync(records), fs.readFileSync(whole));
    for (const left of [partial, checkpoint, `${checkpoint}.lock`, `${checkpoint}.next`])
      assert.ok(!fs.existsSync(left), left);
  });

  test('memory that is not there: exit code 1, and what to do', posix, (t) => {
    if (process.platform !== 'linux') {
      t.skip('ulimit -v');
      return;
    }
    const { code, err } = shell('ulimit -v 3000000; $CLI replay $CAPTURE --workers 2 --quiet');
    assert.equal(code, 1);
    assert.match(err, /no room for a table of \d+ MiB of shared memory; a smaller --max-conns/);
    // V8 would end the process without a word of ours.
    const thread = shell('ulimit -v 3000000; $CLI replay $CAPTURE --workers 8 --quiet --max-conns 1000');
    assert.equal(thread.code, 1);
    assert.match(
      thread.err,
      /no room for 8 more threads: of the address space \(ulimit -v\) \d+ MiB are left/,
    );
  });
});
