/** Plays policies to a running Open vSwitch: what the model forbids, Open vSwitch must not send either. So the model is judged by
 *  the program whose manuals it was written from. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { playOvs, type Step } from '../differential/live.js';
import { Ovs } from '../differential/ovs.js';
import { answer } from '../support/nat-traffic.js';
import { ethernet, Random, unhex } from '../support/packets.js';
import { Model } from './model.js';
import { traffic } from './play.js';
import { KINDS, policy } from './policy.js';
import { readFrame } from './read.js';

/** Policies that one Open vSwitch plays before it is started anew. */
const POLICIES_A_SWITCH = 20;
/** Such that the fragments of the policy before are gone. */
const MS_BETWEEN = 60_000;

/** Plays policies from `seed` on to Open vSwitch of `bindir`. False if it does what one forbids. */
export async function judgeModel(
  bindir: string,
  { seed, policies, packets }: { seed: number; policies: number; packets: number },
): Promise<boolean> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-policy-'));
  const sums = { packets: 0, passed: 0, translated: 0, wrong: 0 };
  let ovs: Ovs | null = null;
  let startMs = 0;
  try {
    for (let n = 0; n < policies; n++) {
      if (n % POLICIES_A_SWITCH === 0) {
        await ovs?.stop();
        ovs = await Ovs.start(bindir, 4);
        startMs = 0;
      }
      const r = new Random(seed + n);
      const drawn = policy(r, KINDS[(seed + n) % KINDS.length]);
      const steps = answered(r, drawn.kind === 'nat' || drawn.kind === 'edge', packets);
      const played = await playOvs(ovs!, { ...drawn, ports: 4, steps }, { dir, startMs });
      startMs += steps[steps.length - 1].us / 1000 + MS_BETWEEN;
      const model = new Model(drawn.rules);
      for (const [i, came] of played.in.entries()) {
        if (came === null) continue;
        const all = played.out[i].map(([port, text]) => ({ port, frame: unhex(text) }));
        // Whole datagrams of fragments may come with any later packet (docs/ovs-differences.md, "Fragments").
        const sent = all.filter((s) => [null, fragmentOf(came.frame)].includes(fragmentOf(s.frame)));
        sums.packets++;
        if (sent.length > 0) sums.passed++;
        if (sent.length === 1 && Buffer.compare(sent[0].frame, came.frame) !== 0) sums.translated++;
        if (model.allows(came.port, steps[i].us / 1e6, came.frame, sent)) continue;
        sums.wrong++;
        const frames = sent.map((s) => `  ${s.port} ${Buffer.from(s.frame).toString('hex')}`).join('\n');
        console.log(`seed ${seed + n}, ${drawn.kind}: packet ${i + 1} from port ${came.port}:`);
        console.log(`  ${Buffer.from(came.frame).toString('hex')}\n${frames}\n${drawn.flows}${drawn.groups}`);
        break;
      }
    }
  } finally {
    await ovs?.stop();
    rmSync(dir, { recursive: true, force: true });
  }
  console.log(
    `Open vSwitch, ${policies} policies from ${seed} on: ${sums.packets} packets, ${sums.passed} went out, ` +
      `${sums.translated} of them translated; ${sums.wrong} policies violated`,
  );
  return sums.wrong === 0;
}

/** The identification of a fragment. */
function fragmentOf(frame: Uint8Array): string | null {
  return readFrame(frame)?.datagram?.split(' ')[2] ?? null;
}

/** Packets as `traffic` draws them; answers to what comes out of Open vSwitch where it translates, and answers to these. */
function answered(r: Random, translates: boolean, n: number): Step[] {
  const packets = traffic(r, translates, n);
  const first = packets[0].sec;
  const steps: Step[] = [];
  let us = 0;
  for (const p of packets) {
    us = Math.max(us, (p.sec - first) * 1e6 + Math.floor(p.nsec / 1000));
    steps.push({ us, note: '', packet: () => p });
    while (translates && steps.length < n && r.once(3)) {
      const of = Math.max(0, steps.length - 1 - r.int(6));
      steps.push({
        us,
        note: '',
        packet: (seen) => {
          const [sent] = seen(of);
          const frame = unhex(sent?.[1] ?? '');
          const l3 = frame.length < 14 ? null : answer(r, frame[12] === 0x86, frame);
          return l3 === null ? null : { port: sent[0], frame: ethernet({ src: 9 }, l3) };
        },
      });
    }
    if (steps.length >= n) break;
  }
  return steps;
}
