/** dpctl/ipf-*: settings and status of reassembly, in the words of ovs-vswitchd(8). */
import type { FragmentCounters, Reassembly } from '../conntrack/ipf.js';
import type { Command } from './appctl.js';
import { UsageProblem } from './ct-match.js';

/** Least size that can be asked for, and most fragments. */
export const LEAST_MIN_FRAGMENT = 400;
export const MOST_FRAGMENTS = 5000;

/** dpctl/ipf-set-enabled, -disabled */
export function setFragmentsEnabled(version: string, on: boolean): Command {
  const own = ofVersion(version);
  return ({ fabric }) => {
    own(fabric.reassembly).enabled = on;
    return `${on ? 'enabling' : 'disabling'} fragmentation reassembly successful`;
  };
}

/** dpctl/ipf-set-min-frag; `bytes` is not below LEAST_MIN_FRAGMENT. */
export function setMinFragment(version: string, bytes: number): Command {
  const own = ofVersion(version);
  return ({ fabric }) => {
    own(fabric.reassembly).minSize = bytes;
    return 'setting minimum fragment size successful';
  };
}

/** dpctl/ipf-set-max-nfrags; `n` is not above MOST_FRAGMENTS. */
export function setMaxFragments(n: number): Command {
  return ({ fabric }) => {
    fabric.reassembly.maxFragments = n;
    return 'setting maximum fragments successful';
  };
}

/** dpctl/ipf-get-status; `verbose` (-m) shows the incomplete datagrams. */
export function showFragments(verbose: boolean): Command {
  return ({ fabric, clock }) => {
    const r = fabric.reassembly;
    r.purge(clock);
    const rows = [
      'Fragmentation Module Status',
      '---------------------------',
      `v4 enabled: ${Number(r.v4.enabled)}`,
      `v6 enabled: ${Number(r.v6.enabled)}`,
      `max num frags (v4/v6): ${r.maxFragments}`,
      `num frag: ${r.held}`,
      ...counted('v4', r.v4),
      ...counted('v6', r.v6),
    ];
    let text = rows.map((row) => `        ${row}\n`).join('');
    if (verbose) {
      text += '\n        Fragment Lists:\n\n';
      for (const list of r.describeLists()) text += `${list}\n`;
    }
    return text;
  };
}

function ofVersion(version: string): (r: Reassembly) => FragmentCounters {
  if (version !== 'v4' && version !== 'v6') {
    throw new UsageProblem(`"${version}" is no version of IP; expected 'v4' for IPv4 or 'v6' for IPv6`);
  }
  return version === 'v4' ? (r) => r.v4 : (r) => r.v6;
}

function counted(version: string, c: FragmentCounters): string[] {
  return [
    `min ${version} frag size: ${c.minSize}`,
    `${version} frags accepted: ${c.accepted}`,
    `${version} frags completed: ${c.completed}`,
    `${version} frags expired: ${c.expired}`,
    `${version} frags too small: ${c.tooSmall}`,
    `${version} frags overlapped: ${c.overlapped}`,
    `${version} frags purged: ${c.purged}`,
  ];
}
