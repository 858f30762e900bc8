/** `shardtrack trace`, and what goes to the controller, on the command line. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { hex, readPcap } from '../support/packets.js';

const CLI = process.env.SHARDTRACK_CLI ?? fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const root = fileURLToPath(new URL('../../../', import.meta.url));
const capture = path.join(root, 'fixtures/captures/web-client.pcap');
const firewall = path.join(root, 'fixtures/flows/firewall.txt');
const OFFICE = ['--inside', '192.168.100.0/24'];

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-trace-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

function write(name: string, text: string): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, text);
  return file;
}

function cli(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], { encoding: 'utf8' });
  return { code: status, out: stdout, err: stderr };
}

test('trace: a packet in the middle of a connection, with and without workers', () => {
  const args = ['trace', capture, ...OFFICE, '--flows', firewall, '--packet', '12', '--workers'];
  const { code, out, err } = cli(...args, '0');
  assert.equal(code, 0, err);
  assert.match(out, /^Packet 12, after 11 packets/);
  assert.match(out, /^ 0\. ct_state=-trk,ip, priority 100$/m);
  assert.match(out, /^ct\(zone=0\): ct_state=\+est\+rpl\+trk$/m);
  assert.match(out, /TCP goes from SYN_SENT\/CLOSED to ESTABLISHED\/SYN_SENT/);
  assert.match(out, /^Megaflow: recirc_id=0,ct_state=-trk,ip,in_port=2,nw_frag=no$/m);
  assert.match(out, /^Datapath actions: ct,recirc\(0x\d+\)$/m);
  assert.match(out, /^Verdict: to port 1, 54 bytes, unchanged$/m);
  // Which recirculation id a table gets may differ.
  const plain = (text: string) => text.replaceAll(/recirc(_id=|\()0x[0-9a-f]+/g, 'recirc$1N');
  assert.equal(plain(cli(...args, '2').out), plain(out));
});

test('trace: a flow given as text, and why it is dropped', () => {
  const flow = 'in_port=2,tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=1000,tp_dst=80';
  const { code, out, err } = cli('trace', '--flows', firewall, '--ports', '1', '--flow', flow);
  assert.equal(code, 0, err);
  assert.match(out, /no connection of zone 0 has its tuple/);
  assert.match(out, /new: it may open a connection, once committed/);
  assert.match(out, /^Verdict: dropped: drop-action$/m);
});

test('trace: groups say which bucket, changed frames what they are', () => {
  const flows = write('group.txt', 'ip,actions=group:7\n');
  const groups = write('groups.txt', 'group_id=7,type=indirect,bucket=set_field:10.9.9.9->ip_dst,output:2\n');
  const flow = 'in_port=1,udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=1000,tp_dst=53';
  const { out } = cli('trace', '--flows', flows, '--groups', groups, '--ports', '1,2', '--flow', flow);
  assert.match(out, /group 7, type indirect/);
  assert.match(out, /-> ip_dst is now 10\.9\.9\.9/);
  assert.match(out, /^Verdict: to port 2, 42 bytes: udp,.*nw_dst=10\.9\.9\.9/m);
});

test('trace: what is wrong with the question', () => {
  const none = cli('trace', capture, '--flows', firewall);
  assert.equal(none.code, 2);
  assert.match(none.err, /--packet K or --flow FLOW/);
  const far = cli('trace', capture, ...OFFICE, '--flows', firewall, '--packet', '99999');
  assert.equal(far.code, 1);
  assert.match(far.err, /no packet 99999: .*web-client\.pcap has 3138 packets/);
  const state = cli('trace', '--flows', firewall, '--flow', 'ip,ct_state=+trk+new');
  assert.equal(state.code, 2);
  assert.match(state.err, /ct_ fields/);
  const typo = cli('trace', '--flows', firewall, '--flow', 'tcp,tp_dest=80');
  assert.equal(typo.code, 2);
  assert.match(typo.err, /did you mean tp_dst\?/);
});

test('controller: counted, shown in verdicts, and written cut to its length', () => {
  const flows = write('controller.txt', 'actions=controller(max_len=20)\n');
  const file = path.join(folder, 'controller.pcap');
  const args = ['replay', capture, '--flows', flows, '--controller', file, '--verdicts', '-'];
  const { code, out, err } = cli(...args);
  assert.equal(code, 0, err);
  const verdicts = out.trim().split('\n');
  assert.ok(
    verdicts.every((v) => v.endsWith('"out":[],"reason":"controller-only","controller":1}')),
    verdicts[0],
  );
  const sent = readPcap(fs.readFileSync(file));
  const came = readPcap(fs.readFileSync(capture));
  assert.deepEqual(
    sent.map((p) => hex(p.frame)),
    came.map((p) => hex(p.frame.subarray(0, 20))),
  );
  assert.match(err, /controller 3,138/);
});
