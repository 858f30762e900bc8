/** Drives a private Open vSwitch: userspace datapath on "dummy" ports, no privileges, unix sockets in a temporary
 *  directory, its clock stopped and stepped by us (ovs-vswitchd(8); facts found by experiment are in ../../fixtures/README.md).
 *
 *  When is a packet done? A turn of ovs-vswitchd's main loop first polls every dummy port (one packet of each, run to
 *  completion with its upcalls, recirculations and transmissions) and then serves the control connections in the order
 *  in which they were accepted. The answer to netdev-dummy/receive only says "queued". So the packet goes through the
 *  later of two connections; an empty request through the earlier one, sent after that, can only be answered in a
 *  following turn, behind the packet. What it caused is then what the ports' tx_pcap files have grown by. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
} from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { LOCAL, type Outputs } from './fixture.js';

const exec = promisify(execFile);
const sleep = promisify(setTimeout);

/** Open vSwitch is not there, or can't be started. */
export class OvsMissing extends Error {}

const TOOLS = ['ovsdb-server', 'ovsdb-tool', 'ovs-vswitchd', 'ovs-vsctl', 'ovs-ofctl'] as const;
type Tool = (typeof TOOLS)[number];

/** Where a build tree, an installation below a prefix or a system keeps them. */
const SUBDIRS = ['', 'vswitchd', 'ovsdb', 'utilities', 'sbin', 'bin', 'usr/sbin', 'usr/bin'];

function executable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function findTools(bindir: string | undefined): { tools: Record<Tool, string>; schema: string } {
  const dirs = bindir
    ? SUBDIRS.map((s) => path.join(bindir, s))
    : [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/sbin', '/sbin', '/usr/local/sbin'];
  const tools = {} as Record<Tool, string>;
  for (const t of TOOLS) {
    const dir = dirs.find((d) => executable(path.join(d, t)));
    if (dir === undefined) {
      throw new OvsMissing(
        bindir
          ? `${t} is not below ${bindir}`
          : `${t} is not installed; on Debian: apt-get install openvswitch-switch`,
      );
    }
    tools[t] = path.resolve(dir, t);
  }
  const near = path.dirname(tools['ovs-vswitchd']);
  const schema = [
    ...(bindir
      ? ['vswitchd', '', 'share/openvswitch', 'usr/share/openvswitch'].map((s) => path.resolve(bindir, s))
      : []),
    near,
    path.join(near, '../share/openvswitch'),
    '/usr/share/openvswitch',
  ]
    .map((d) => path.join(d, 'vswitch.ovsschema'))
    .find((f) => existsSync(f));
  if (!schema)
    throw new OvsMissing(
      'vswitch.ovsschema is not beside ovs-vswitchd; on Debian: apt-get install openvswitch-switch',
    );
  return { tools, schema };
}

const GONE = 'ovs-vswitchd closed its control connection: did it crash?';

/** A connection to ovs-vswitchd's control socket: JSON-RPC, one request at a time. */
class Control {
  #socket: net.Socket;
  #buffer = '';
  #id = 0;
  #waiting: {
    resolve: (v: { result: string | null; error: string | null }) => void;
    reject: (e: Error) => void;
  } | null = null;
  /** Whether the other end has closed it. */
  ended = false;

  constructor(file: string) {
    this.#socket = net.createConnection(file);
    this.#socket.setEncoding('utf8');
    this.#socket.on('data', (d: string) => this.#take(d));
    const gone = () => {
      this.ended = true;
      this.#waiting?.reject(new Error(GONE));
      this.#waiting = null;
    };
    this.#socket.on('error', gone);
    this.#socket.on('close', gone);
  }

  #take(d: string): void {
    this.#buffer += d;
    if (!this.#buffer.trimEnd().endsWith('}')) return;
    let answer: { result: string | null; error: string | null };
    try {
      answer = JSON.parse(this.#buffer) as typeof answer;
    } catch {
      return; // a brace inside the text: there is more to come
    }
    this.#buffer = '';
    const w = this.#waiting;
    this.#waiting = null;
    w?.resolve(answer);
  }

  call(
    method: string,
    ...params: (string | number)[]
  ): Promise<{ result: string | null; error: string | null }> {
    if (this.ended) return Promise.reject(new Error(GONE));
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(JSON.stringify({ id: this.#id++, method, params: params.map(String) }));
    });
  }

  close(): void {
    this.#waiting = null;
    this.#socket.destroy();
  }
}

/** Whether somebody listens there: the socket is there a little earlier. */
function listens(file: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.createConnection(file, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** Follows a pcap file that another process appends to. */
class Tail {
  readonly port: number;
  #file: string;
  #fd = -1;
  #rest: Buffer = Buffer.alloc(0);
  #header = false;

  constructor(port: number, file: string) {
    this.port = port;
    this.#file = file;
  }

  /** Frames written since the last call. */
  poll(): string[] {
    if (this.#fd < 0) {
      if (!existsSync(this.#file)) return [];
      this.#fd = openSync(this.#file, 'r');
    }
    const block = Buffer.alloc(1 << 18);
    for (let n = readSync(this.#fd, block); n > 0; n = readSync(this.#fd, block)) {
      this.#rest = Buffer.concat([this.#rest, block.subarray(0, n)]);
    }
    let o = 0;
    if (!this.#header) {
      if (this.#rest.length < 24) return [];
      this.#header = true;
      o = 24;
    }
    const frames: string[] = [];
    while (this.#rest.length - o >= 16) {
      const n = this.#rest.readUInt32LE(o + 8);
      if (this.#rest.length - o - 16 < n) break;
      frames.push(this.#rest.toString('hex', o + 16, o + 16 + n));
      o += 16 + n;
    }
    this.#rest = this.#rest.subarray(o);
    return frames;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
  }
}

/** netdev-dummy/receive allocates half as many bytes as the text is long and skips blanks when it decodes it:
 *  trailing blanks give the packet the tail room that a packet from a real device has. */
const TAIL_ROOM = ' '.repeat(256);

export class Ovs {
  version = '';
  #tools!: Record<Tool, string>;
  #dir = '';
  #env: NodeJS.ProcessEnv = {};
  #children: ChildProcess[] = [];
  #first!: Control;
  #second!: Control;
  #tails: Tail[] = [];
  #db = '';
  /** How far the clock has been stepped. */
  #nowMs = 0;
  #purge = false;

  /** A running switch with ports 1 to `ports` and a stopped clock. */
  static async start(bindir: string | undefined, ports: number): Promise<Ovs> {
    const o = new Ovs();
    try {
      await o.#start(bindir, ports);
      return o;
    } catch (e) {
      await o.stop();
      throw e;
    }
  }

  async #start(bindir: string | undefined, ports: number): Promise<void> {
    const found = findTools(bindir);
    this.#tools = found.tools;
    this.#dir = mkdtempSync(path.join(os.tmpdir(), 'ovs-record-'));
    const d = this.#dir;
    this.#env = {
      ...process.env,
      OVS_RUNDIR: d,
      OVS_LOGDIR: d,
      OVS_DBDIR: d,
      OVS_SYSCONFDIR: d,
      LC_ALL: 'C',
    };
    const [dbFile, dbSock, ctl] = ['conf.db', 'db.sock', 'vswitchd.ctl'].map((n) => path.join(d, n));
    await this.#run('ovsdb-tool', 'create', dbFile, found.schema);
    this.#spawn('ovsdb-server', dbFile, `--remote=punix:${dbSock}`, `--unixctl=${path.join(d, 'db.ctl')}`);
    await this.#wait('ovsdb-server', () => listens(dbSock));
    this.#db = `--db=unix:${dbSock}`;
    await this.#run('ovs-vsctl', this.#db, '--no-wait', 'init');
    this.#spawn(
      'ovs-vswitchd',
      ...[
        '--enable-dummy',
        '--disable-system',
        '--disable-system-route',
        `--unixctl=${ctl}`,
        '-vconsole:off',
      ],
      ...[`--log-file=${path.join(d, 'vswitchd.log')}`, `unix:${dbSock}`],
    );
    await this.#wait('ovs-vswitchd', () => listens(ctl));
    const config = [
      ...[
        '--',
        'set',
        'Open_vSwitch',
        '.',
        'other_config:n-handler-threads=1',
        'other_config:n-revalidator-threads=1',
      ],
      ...['--', 'add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=dummy', 'fail-mode=secure'],
      ...['other-config:datapath-id=0000000000000001', 'other-config:hwaddr=aa:55:aa:55:00:00'],
      'protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15',
      ...['--', 'set', 'interface', 'br0', `options:tx_pcap=${this.#pcap(LOCAL)}`],
    ];
    const numbers = Array.from({ length: ports }, (_, k) => k + 1);
    for (const n of numbers) {
      config.push('--', 'add-port', 'br0', `p${n}`, '--', 'set', 'interface', `p${n}`, 'type=dummy');
      config.push(`ofport_request=${n}`, `options:tx_pcap=${this.#pcap(n)}`, 'mtu_request=65500');
    }
    await this.#run('ovs-vsctl', this.#db, '--timeout=30', ...config);
    await this.#wait('the ports', () => numbers.every((n) => existsSync(this.#pcap(n))));
    this.#first = new Control(ctl);
    this.version = ((await this.#first.call('version')).result ?? '').trim();
    this.#second = new Control(ctl); // accepted after the first, so served after it
    await this.#second.call('version');
    this.#tails = [...numbers, LOCAL].map((n) => new Tail(n, this.#pcap(n)));
    this.#collect();
    const { error } = await this.#second.call('time/stop');
    if (error) throw new Error(`time/stop: ${error}`);
  }

  async stop(): Promise<void> {
    this.#first?.close();
    this.#second?.close();
    for (const t of this.#tails) t.close();
    for (const c of this.#children.reverse()) {
      if (c.exitCode !== null || c.signalCode !== null) continue;
      const ended = new Promise((r) => c.once('exit', r));
      c.kill('SIGTERM');
      const late = setTimeout(() => c.kill('SIGKILL'), 5000);
      await ended;
      clearTimeout(late);
    }
    if (this.#dir) rmSync(this.#dir, { recursive: true, force: true });
  }

  #pcap(port: number): string {
    return path.join(this.#dir, `tx-${port}.pcap`);
  }

  #spawn(tool: Tool, ...args: string[]): void {
    this.#children.push(spawn(this.#tools[tool], args, { cwd: this.#dir, env: this.#env, stdio: 'ignore' }));
  }

  async #wait(what: string, ready: () => boolean | Promise<boolean>): Promise<void> {
    for (let n = 0; !(await ready()); n++) {
      const dead = this.#children.find((c) => c.exitCode !== null);
      if (dead) throw new Error(`${dead.spawnfile} ended (${dead.exitCode}) while we waited for ${what}`);
      if (n > 1500) throw new Error(`no sign of ${what} after 15 s`);
      await sleep(10);
    }
  }

  async #run(tool: Tool, ...args: string[]): Promise<string> {
    try {
      return (await exec(this.#tools[tool], args, { cwd: this.#dir, env: this.#env, timeout: 60_000 }))
        .stdout;
    } catch (e) {
      const { stderr, message } = e as Error & { stderr?: string };
      throw new Error(`${tool}: ${stderr?.trim() || message}`);
    }
  }

  #collect(): Outputs {
    return this.#tails.flatMap((t) => t.poll().map((h): [number, string] => [t.port, h]));
  }

  async addGroups(file: string): Promise<void> {
    const { error } = await this.ofctl(['add-groups', path.resolve(file)]);
    if (error !== null) throw new Error(error);
  }

  /** An ovs-ofctl command while packets flow. Counters of cached flows reach the tables, and changes of the
   *  tables cached flows, when these are forgotten. */
  async change(argv: readonly string[]): Promise<{ result: string | null; error: string | null }> {
    await this.#second.call('revalidator/purge');
    const { result, error } = await this.ofctl(argv);
    await this.#second.call('revalidator/purge');
    return { result, error: error === null ? null : error.replace(/^ovs-ofctl: (?=OFPT_)/, '') };
  }

  /** Has ovs-vswitchd ended by itself? */
  get ended(): boolean {
    return this.#first.ended || this.#second.ended;
  }

  /** Forgets the cached flows. */
  async purge(): Promise<void> {
    await this.#second.call('revalidator/purge');
  }

  /** `purge`: whether cached flows are forgotten after each packet; by default where something is learned. */
  async addFlows(file: string, text: string, purge?: 'never'): Promise<void> {
    await this.#run(
      'ovs-ofctl',
      '-O',
      'OpenFlow15',
      'add-flows',
      `unix:${path.join(this.#dir, 'br0.mgmt')}`,
      path.resolve(file),
    );
    // What is learned reaches cached datapath flows late; forgetting them after each packet makes it immediate.
    this.#purge = purge !== 'never' && /\b(normal|learn)\b/i.test(text.replace(/^\s*#.*$/gm, ''));
    await this.purge();
  }

  /** An ovs-ofctl command in OpenFlow 1.5: options, command, and arguments after the bridge, which is put in. */
  async ofctl(argv: readonly string[]): Promise<{ result: string | null; error: string | null }> {
    const at = argv.findIndex((word) => !word.startsWith('-')) + 1;
    const bridge = `unix:${path.join(this.#dir, 'br0.mgmt')}`;
    try {
      const args = ['-O', 'OpenFlow15', ...argv.slice(0, at), bridge, ...argv.slice(at)];
      return { result: await this.#run('ovs-ofctl', ...args), error: null };
    } catch (e) {
      return { result: null, error: (e as Error).message };
    }
  }

  /** Steps the clock to `ms` after its stop. Beyond 15 s in up to ten steps, so that the sweeper gets to run. */
  async clock(ms: number): Promise<void> {
    const lag = ms - this.#nowMs;
    if (lag <= 0) return;
    const steps = lag > 15_000 ? [lag, Math.max(15_000, Math.ceil(lag / 10))] : [lag];
    const { error } = await this.#second.call('time/warp', ...steps);
    if (error) throw new Error(`time/warp: ${error}`);
    this.#nowMs = ms;
  }

  async packet(port: number, hex: string): Promise<Outputs> {
    const { error } = await this.#second.call('netdev-dummy/receive', `p${port}`, hex + TAIL_ROOM);
    if (error) {
      if (hex.length < 28) return []; // shorter than an Ethernet header: OVS takes no such frame
      throw new Error(`netdev-dummy/receive p${port}: ${error.trim()}`);
    }
    await this.#first.call('version');
    if (this.#purge) await this.#second.call('revalidator/purge');
    return this.#collect();
  }

  command(argv: readonly string[]): Promise<{ result: string | null; error: string | null }> {
    return this.#second.call(argv[0], ...argv.slice(1));
  }

  /** An ovs-vsctl command. One that gives a zone its first policy is preceded by another: main ignores the policy
   *  that a zone is created with, until it is changed. A repeat of add-zone-tp replaces the zone's policy. */
  async vsctl(argv: readonly string[]): Promise<{ result: string | null; error: string | null }> {
    const args = [this.#db, '--timeout=30'];
    try {
      if (!this.#datapath) {
        this.#datapath = true;
        const create = ['--id=@dp', 'create', 'Datapath', 'datapath_version=0'];
        await this.#run(
          'ovs-vsctl',
          ...args,
          '--',
          ...create,
          '--',
          'set',
          'Open_vSwitch',
          '.',
          'datapaths:dummy=@dp',
        );
      }
      if (argv[0] === 'add-zone-tp') {
        args.push('--may-exist');
        if (!this.#policies.has(argv[2]))
          await this.#run('ovs-vsctl', ...args, ...argv.slice(0, 3), 'icmp_first=4000000');
      }
      const result = await this.#run('ovs-vsctl', ...args, ...argv);
      if (argv[0] === 'add-zone-tp') this.#policies.add(argv[2]);
      if (argv[0] === 'del-zone-tp') this.#policies.delete(argv[2]);
      await this.#second.call('revalidator/purge');
      return { result, error: null };
    } catch (e) {
      return { result: null, error: (e as Error).message.replace(/^ovs-vsctl: (?=ovs-vsctl: )/, '') };
    }
  }
  #datapath = false;
  /** Zones that have a policy, as "zone=N". */
  readonly #policies = new Set<string>();

  /** Sorted: OVS's own order is that of a randomly seeded hash. */
  async table(...args: string[]): Promise<string[]> {
    const { result, error } = await this.command(['dpctl/dump-conntrack', '-m', ...args]);
    if (error) throw new Error(`dpctl/dump-conntrack: ${error}`);
    return (result ?? '').split('\n').filter(Boolean).sort();
  }
}
