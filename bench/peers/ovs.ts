/** Drives Debian's OVS-DPDK: one PMD thread, the capture preloaded and replayed in a loop by DPDK's net_pcap.
 *
 *  Daemons run as children in the foreground with a run directory of their own, and DPDK keeps its files in
 *  memory, so that nothing is left but hugepages, which `Hugepages` gives back. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { parseConnections, parsePmdCycles, parsePmdStats } from './numbers.js';
import type { Workload } from './workloads.js';

const run = promisify(execFile);

const SWITCH = '/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk';
const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
const HUGEPAGES = '/proc/sys/vm/nr_hugepages';
const HUGEPAGES_NEEDED = 1024; // of 2 MiB
const SOCKET_MEMORY_MB = 1024;
/** DPDK copies the capture into packet buffers and wraps around; more than this do not fit. */
export const OVS_MAX_PACKETS = 150_000;

/** Why OVS-DPDK can't be measured here, or null. */
export function whyNot(): string | null {
  if (!fs.existsSync(SWITCH) || !fs.existsSync(SCHEMA)) {
    return 'OVS-DPDK is not installed; on Debian: apt-get install openvswitch-switch-dpdk';
  }
  if (process.getuid?.() !== 0) return 'OVS-DPDK needs hugepages, and reserving them needs root';
  if (os.cpus().length < 2) return 'OVS-DPDK needs two cores: one for the PMD thread, one for the rest';
  return null;
}

/** 2 MiB pages, reserved until `release`. */
export class Hugepages {
  private before: string | null = null;

  reserve(): void {
    const before = fs.readFileSync(HUGEPAGES, 'utf8').trim();
    this.before = before;
    const want = Number(before) + HUGEPAGES_NEEDED;
    fs.writeFileSync(HUGEPAGES, `${want}\n`);
    const got = Number(fs.readFileSync(HUGEPAGES, 'utf8'));
    if (got < want) {
      this.release();
      throw new Error(
        `the kernel has ${got} hugepages of 2 MiB to spare; OVS-DPDK needs ${HUGEPAGES_NEEDED}`,
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

/** "3.1.0", and that of DPDK. */
export async function ovsVersion(): Promise<{ ovs: string; dpdk: string }> {
  const { stdout } = await run(SWITCH, ['--version']);
  return {
    ovs: /Open vSwitch\) ([\d.]+)/.exec(stdout)?.[1] ?? 'unknown',
    dpdk: /DPDK ([\d.]+)/.exec(stdout)?.[1] ?? 'unknown',
  };
}

export class OvsDpdk {
  private readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-ovs-'));
  private readonly children: ChildProcess[] = [];
  private readonly env = {
    ...process.env,
    OVS_RUNDIR: this.dir,
    OVS_LOGDIR: this.dir,
    OVS_DBDIR: this.dir,
    OVS_SYSCONFDIR: this.dir,
  };

  /** Runs the workload's tables over the capture for `seconds` after `warmup`; over its packets once, if each is to open
   *  a connection. */
  async measure(workload: Workload, capture: string, warmup: number, seconds: number): Promise<OvsResult> {
    await this.start();
    const db = `--db=unix:${this.dir}/db.sock`;
    const vsctl = (...args: string[]) => this.tool('ovs-vsctl', [db, '--timeout=60', ...args]);
    await vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev', 'fail_mode=secure');
    // Port 1 receives, port 2 sends into nothing; a net_pcap port must read something, so it reads ARP.
    const idle = path.join(this.dir, 'idle.pcap');
    fs.writeFileSync(idle, oneFrame());
    await this.port('p2', 2, `net_pcap1,rx_pcap=${idle}`);
    // Flows before packets, so that none of them is dropped for want of a rule.
    const bridge = `unix:${this.dir}/br0.mgmt`;
    const ofctl = (...args: string[]) => this.tool('ovs-ofctl', ['-O', 'OpenFlow15', ...args]);
    if (workload.groups !== undefined) await ofctl('add-groups', bridge, workload.groups);
    await ofctl('add-flows', bridge, workload.flows);
    const port = `net_pcap0,rx_pcap=${path.resolve(capture)}`;
    return workload.fresh ? this.once(port, seconds) : this.looped(port, warmup, seconds);
  }

  private async looped(port: string, warmup: number, seconds: number): Promise<OvsResult> {
    await this.port('p1', 1, `${port},infinite_rx=1`);
    await sleep(warmup * 1000);
    await this.appctl('dpif-netdev/pmd-stats-clear');
    const began = performance.now();
    await sleep(seconds * 1000);
    const { packets, cyclesPerPacket } = parsePmdStats(await this.appctl('dpif-netdev/pmd-stats-show'));
    const ms = performance.now() - began;
    const connections = parseConnections(await this.appctl('dpctl/ct-stats-show'));
    return { mpps: packets / ms / 1000, cyclesPerPacket, connections };
  }

  /** The capture once, read from its file while it runs. What that took is told by the cycles that went into packets, and
   *  by how many cycles a second has. */
  private async once(port: string, seconds: number): Promise<OvsResult> {
    const stats = () => this.appctl('dpif-netdev/pmd-stats-show');
    await this.appctl('dpif-netdev/pmd-stats-clear');
    await this.port('p1', 1, port);
    await sleep(seconds * 1000);
    const { cyclesPerPacket } = parsePmdStats(await stats());
    const connections = parseConnections(await this.appctl('dpctl/ct-stats-show'));
    await this.appctl('dpif-netdev/pmd-stats-clear');
    const began = performance.now();
    await sleep(1000);
    const hertz = (parsePmdCycles(await stats()) / (performance.now() - began)) * 1000;
    return { mpps: hertz / cyclesPerPacket / 1e6, cyclesPerPacket, connections };
  }

  /** Ends the daemons and removes their files; returns when they are gone. */
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
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  /** As `stop`, but at once, for use on exit. */
  kill(): void {
    for (const child of this.children) child.kill('SIGKILL');
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  private async start(): Promise<void> {
    const { dir } = this;
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
      'dpdk-socket-mem': `${SOCKET_MEMORY_MB}`,
      'pmd-cpu-mask': '0x2',
      'dpdk-lcore-mask': '0x1',
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

  private async port(name: string, number: number, devargs: string): Promise<void> {
    await this.tool('ovs-vsctl', [
      ...[`--db=unix:${this.dir}/db.sock`, '--timeout=60', 'add-port', 'br0', name],
      ...['--', 'set', 'Interface', name, 'type=dpdk', `ofport_request=${number}`],
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
