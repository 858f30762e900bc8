/** Drives Debian's OVS-DPDK: one PMD thread, captures preloaded and replayed in a loop by DPDK's net_pcap.
 *
 *  Daemons run as children in the foreground with a run directory of their own, and DPDK keeps its files in
 *  memory, so that nothing is left but hugepages, which `Hugepages` gives back. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  firstRound,
  memoryFor,
  parseConnections,
  parsePmdStats,
  QUEUE_DESCRIPTORS,
  queuesFor,
  type Sample,
} from './numbers.js';

const run = promisify(execFile);

const SWITCH = '/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk';
const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
const HUGEPAGES = '/proc/sys/vm/nr_hugepages';
const COMPACT = '/proc/sys/vm/compact_memory';
const PAGE_MB = 2;
/** Between two looks at the counters. */
const SAMPLE_MS = 20;
/** A capture must have been through in this time. */
const PATIENCE_MS = 60_000;

const TOOLS = ['ovsdb-server', 'ovsdb-tool', 'ovs-vsctl', 'ovs-ofctl', 'ovs-appctl'];

/** What the shell would find. */
export function which(name: string): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(':')) {
    const file = path.join(folder, name);
    if (fs.existsSync(file)) return file;
  }
  return undefined;
}

/** Why OVS-DPDK can't be measured here, or null. */
export function whyNot(): string | null {
  if (!fs.existsSync(SWITCH) || !fs.existsSync(SCHEMA)) {
    return 'OVS-DPDK is not installed; on Debian: apt-get install openvswitch-switch-dpdk';
  }
  const missing = TOOLS.find((name) => which(name) === undefined);
  if (missing !== undefined) {
    return `${missing} is not on the PATH; on Debian: apt-get install openvswitch-switch openvswitch-common`;
  }
  if (process.getuid?.() !== 0) return 'OVS-DPDK needs hugepages, and reserving them needs root';
  try {
    fs.accessSync(HUGEPAGES, fs.constants.W_OK);
  } catch {
    return `OVS-DPDK needs hugepages, and ${HUGEPAGES} can't be written: in a container, give it --privileged`;
  }
  if (os.cpus().length < 2) return 'OVS-DPDK needs two cores: one for the PMD thread, one for the rest';
  return null;
}

/** 2 MiB pages, reserved until `release`. */
export class Hugepages {
  private before: string | null = null;

  /** Throws Error if the kernel does not have so much memory in one piece each. */
  reserve(mebibytes: number): void {
    this.release();
    const before = fs.readFileSync(HUGEPAGES, 'utf8').trim();
    this.before = before;
    const pages = Math.ceil(mebibytes / PAGE_MB) + 16;
    const want = Number(before) + pages;
    let got = 0;
    for (let attempt = 0; attempt < 3 && got < want; attempt++) {
      if (attempt > 0) fs.writeFileSync(COMPACT, '1\n');
      fs.writeFileSync(HUGEPAGES, `${want}\n`);
      got = Number(fs.readFileSync(HUGEPAGES, 'utf8'));
    }
    if (got < want) {
      this.release();
      throw new Error(
        `the kernel has ${Math.max(0, got - Number(before))} hugepages of ${PAGE_MB} MiB to spare, and OVS-DPDK needs ${pages} for this capture; free memory, or use a shorter one`,
      );
    }
  }

  /** Synchronous, for use on exit. */
  release(): void {
    if (this.before === null) return;
    fs.writeFileSync(HUGEPAGES, `${this.before}\n`);
    this.before = null;
  }
}

export interface OvsResult {
  mpps: number;
  cyclesPerPacket: number;
  connections: number;
}

/** A capture and the port that it arrives on. */
export interface Arrival {
  port: number;
  capture: string;
  packets: number;
}

export interface OvsRun {
  arrivals: readonly Arrival[];
  /** Ports that only send. */
  outputs: readonly number[];
  flows: string;
  groups?: string | undefined;
  /** Only the first time that each packet comes counts. */
  fresh: boolean;
  warmup: number;
  seconds: number;
}

/** "3.1.0", and that of DPDK. */
export interface Versions {
  ovs: string;
  dpdk: string;
}

export async function ovsVersion(): Promise<Versions> {
  const { stdout } = await run(SWITCH, ['--version']);
  return {
    ovs: /Open vSwitch\) ([\d.]+)/.exec(stdout)?.[1] ?? 'unknown',
    dpdk: /DPDK ([\d.]+)/.exec(stdout)?.[1] ?? 'unknown',
  };
}

export class OvsDpdk {
  private readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-ovs-'));
  private readonly hugepages = new Hugepages();
  private readonly children: ChildProcess[] = [];
  private readonly env = {
    ...process.env,
    OVS_RUNDIR: this.dir,
    OVS_LOGDIR: this.dir,
    OVS_DBDIR: this.dir,
    OVS_SYSCONFDIR: this.dir,
  };

  /** Throws Error with what the daemons say if they can't do it. */
  async measure(o: OvsRun): Promise<OvsResult> {
    const queues = o.arrivals.map((a) => queuesFor(a.packets));
    await this.start(memoryFor([...queues, ...o.outputs.map(() => 1)]));
    const db = `--db=unix:${this.dir}/db.sock`;
    const vsctl = (...args: string[]) => this.tool('ovs-vsctl', [db, '--timeout=60', ...args]);
    await vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev', 'fail_mode=secure');
    // What a port sends goes nowhere; a net_pcap port must read something, so it reads one ARP packet.
    const idle = path.join(this.dir, 'idle.pcap');
    fs.writeFileSync(idle, oneFrame());
    for (const port of o.outputs) await this.port(port, 1, `net_pcap${port},rx_pcap=${idle}`);
    // Flows before packets, so that none of them is dropped for want of a rule.
    const bridge = `unix:${this.dir}/br0.mgmt`;
    const ofctl = (...args: string[]) => this.tool('ovs-ofctl', ['-O', 'OpenFlow15', ...args]);
    if (o.groups !== undefined) await ofctl('add-groups', bridge, o.groups);
    await ofctl('add-flows', bridge, o.flows);
    await this.appctl('dpif-netdev/pmd-stats-clear');
    for (const [i, { port, capture }] of o.arrivals.entries()) {
      const file = path.resolve(capture);
      await this.port(port, queues[i], `net_pcap${port},rx_pcap=${file},infinite_rx=1`);
    }
    const packets = o.arrivals.reduce((n, a) => n + a.packets, 0);
    return o.fresh ? this.once(packets) : this.looped(packets, o.warmup, o.seconds);
  }

  /** After `warmup` seconds, and when all packets have come twice: the first time opens connections. */
  private async looped(packets: number, warmup: number, seconds: number): Promise<OvsResult> {
    await sleep(warmup * 1000);
    const patience = performance.now() + PATIENCE_MS;
    while ((await this.sample()).packets < 2 * packets) {
      if (performance.now() > patience) {
        throw new Error(`OVS-DPDK: ${packets} packets have not come twice after a minute\n${this.log()}`);
      }
      await sleep(100);
    }
    const from = await this.sample();
    await sleep(seconds * 1000);
    const to = await this.sample();
    const n = to.packets - from.packets;
    return {
      mpps: n / (to.at - from.at) / 1000,
      cyclesPerPacket: (to.busyCycles - from.busyCycles) / n,
      connections: await this.connections(),
    };
  }

  /** While the packets come for the first time. */
  private async once(packets: number): Promise<OvsResult> {
    const samples: Sample[] = [];
    const patience = performance.now() + PATIENCE_MS;
    for (;;) {
      const sample = await this.sample();
      samples.push(sample);
      if (sample.packets > packets || performance.now() > patience) break;
      await sleep(SAMPLE_MS);
    }
    return { ...firstRound(samples, packets), connections: await this.connections() };
  }

  private async sample(): Promise<Sample> {
    const began = performance.now();
    const stats = parsePmdStats(await this.appctl('dpif-netdev/pmd-stats-show'));
    return { ...stats, at: (began + performance.now()) / 2 };
  }

  private async connections(): Promise<number> {
    return parseConnections(await this.appctl('dpctl/ct-stats-show'));
  }

  /** Ends the daemons, removes their files and gives the hugepages back; returns when they are gone. */
  async stop(): Promise<void> {
    const gone = this.children.map(
      (child) =>
        new Promise<void>((done) => {
          if (child.exitCode !== null || child.signalCode !== null) done();
          else child.once('exit', () => done());
        }),
    );
    this.kill();
    await Promise.all(gone);
  }

  /** As `stop`, but at once, for use on exit. */
  kill(): void {
    for (const child of this.children) child.kill('SIGKILL');
    fs.rmSync(this.dir, { recursive: true, force: true });
    this.hugepages.release();
  }

  private async start(memory: number): Promise<void> {
    const { dir } = this;
    this.hugepages.reserve(memory);
    await this.tool('ovsdb-tool', ['create', `${dir}/conf.db`, SCHEMA]);
    this.daemon('ovsdb-server', [
      `${dir}/conf.db`,
      `--remote=punix:${dir}/db.sock`,
      `--pidfile=${dir}/db.pid`,
    ]);
    await this.until(() => fs.existsSync(`${dir}/db.sock`), 'ovsdb-server does not start');
    const settings = {
      'dpdk-init': 'true',
      'dpdk-extra': '--no-pci --in-memory',
      'dpdk-socket-mem': `${memory}`,
      'pmd-cpu-mask': '0x2',
      'dpdk-lcore-mask': '0x1',
      // Buffers of a port's own, as many as it asks for (see queuesFor).
      'per-port-memory': 'true',
    };
    const db = `--db=unix:${dir}/db.sock`;
    await this.tool('ovs-vsctl', [db, '--no-wait', 'init']);
    await this.tool('ovs-vsctl', [
      ...[db, '--no-wait', 'set', 'Open_vSwitch', '.'],
      ...Object.entries(settings).map(([name, value]) => `other_config:${name}="${value}"`),
    ]);
    this.daemon(SWITCH, [`unix:${dir}/db.sock`, `--pidfile=${dir}/vs.pid`, `--unixctl=${dir}/vs.ctl`]);
    await this.until(() => fs.existsSync(`${dir}/vs.ctl`), 'ovs-vswitchd does not start');
  }

  private async port(number: number, queues: number, devargs: string): Promise<void> {
    const name = `p${number}`;
    await this.tool('ovs-vsctl', [
      ...[`--db=unix:${this.dir}/db.sock`, '--timeout=120', 'add-port', 'br0', name],
      ...['--', 'set', 'Interface', name, 'type=dpdk', `ofport_request=${number}`],
      ...[`options:n_rxq=${queues}`, `options:n_rxq_desc=${QUEUE_DESCRIPTORS}`],
      `options:dpdk-devargs="${devargs}"`,
    ]);
    const { stdout } = await run(
      'ovs-vsctl',
      [`--db=unix:${this.dir}/db.sock`, 'get', 'Interface', name, 'error'],
      { env: this.env },
    );
    const error = stdout.trim();
    if (error !== '[]' && error !== '""') throw new Error(`OVS-DPDK: port ${name}: ${error}\n${this.log()}`);
  }

  private appctl(...args: string[]): Promise<string> {
    return this.tool('ovs-appctl', ['-t', `${this.dir}/vs.ctl`, ...args]);
  }

  private async tool(name: string, args: string[]): Promise<string> {
    try {
      return (await run(name, args, { env: this.env, maxBuffer: 1 << 24 })).stdout;
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${this.log()}`);
    }
  }

  private daemon(command: string, args: string[]): void {
    const log = fs.openSync(path.join(this.dir, 'log'), 'a');
    const child = spawn(command, [...args, '-vconsole:warn', '-vsyslog:off'], {
      env: this.env,
      stdio: ['ignore', log, log],
    });
    fs.closeSync(log);
    child.on('error', () => {});
    this.children.push(child);
  }

  private async until(ready: () => boolean, complaint: string): Promise<void> {
    for (let i = 0; i < 300; i++) {
      if (ready()) return;
      if (this.children.some((c) => c.exitCode !== null || c.signalCode !== null)) break;
      await sleep(100);
    }
    throw new Error(`OVS-DPDK: ${complaint}\n${this.log()}`);
  }

  /** The end of what the daemons have said. */
  private log(): string {
    try {
      return execFileSync('tail', ['-n', '20', path.join(this.dir, 'log')], { encoding: 'utf8' });
    } catch {
      return '';
    }
  }
}

/** A classic pcap with one ARP frame that asks for nothing. */
function oneFrame(): Uint8Array {
  const bytes = new Uint8Array(24 + 16 + 60);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xa1b2c3d4, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, 0xffff, true);
  view.setUint32(20, 1, true);
  view.setUint32(32, 60, true);
  view.setUint32(36, 60, true);
  view.setUint16(40 + 12, 0x0806);
  return bytes;
}
