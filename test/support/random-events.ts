/** Draws control events that fall between the packets of a run: flushes of every kind, limits, timeout policies,
 *  settings, questions. Some are refused; the log says the same of them for any number of workers. */
import { EventError, parseEvents } from '../../src/coordinator/events.js';
import type { Packet, Random } from './packets.js';

const ZONES = [0, 1, 2, 5, 10, 20, 65535];
const TIMERS = [
  'udp_first',
  'udp_single',
  'udp_multiple',
  'icmp_first',
  'icmp_reply',
  'tcp_syn_sent',
  'tcp_syn_recv',
  'tcp_established',
  'tcp_fin_wait',
  'tcp_time_wait',
  'tcp_close',
];

/** Lines of an events file. */
export function randomEvents(r: Random, packets: readonly Packet[], n: number): string {
  const lines: string[] = [];
  for (let i = 0; i < n; i++) {
    const at = r.pick(packets);
    const nsec = r.once(3) ? r.int(1_000_000_000) : at.nsec;
    const what = r.once(4) ? { vsctl: randomVsctl(r) } : { appctl: randomAppctl(r) };
    lines.push(`{"t": ${at.sec}.${String(nsec).padStart(9, '0')}, ${JSON.stringify(what).slice(1)}`);
  }
  return lines.join('\n');
}

/** Lines of an events file that change the flow and group tables, and ask about them. `rules` are drawn flows. */
export function randomFlowMods(r: Random, packets: readonly Packet[], n: number, rule: () => string): string {
  const lines: string[] = [];
  for (let i = 0; i < n; i++) {
    const at = r.pick(packets);
    const flow = rule();
    const [match, actions] = flow.split(/,?actions=/);
    const bare = match.replace(/,?priority=\d+/, '');
    const timeout = r.pick(['', '', 'idle_timeout=1,', 'hard_timeout=2,', 'send_flow_rem,idle_timeout=3,']);
    const ofctl = r.pick([
      ['add-flow', `${timeout}${flow}`],
      ['add-flow', `check_overlap,${flow}`],
      ['add-flow', `reset_counts,${flow}`],
      ['mod-flows', `${bare},actions=${actions}`],
      ['--strict', 'mod-flows', flow],
      ['del-flows', bare],
      ['del-flows', `out_port=${1 + r.int(4)}`],
      ['--strict', 'del-flows', match],
      ['add-group', `group_id=${1 + r.int(3)},type=all,bucket=output:${1 + r.int(4)},bucket=output:3`],
      [
        'mod-group',
        `group_id=${1 + r.int(3)},type=ff,bucket=watch_port:2,output:2,bucket=watch_port:4,output:4`,
      ],
      [
        'insert-buckets',
        `group_id=1,command_bucket_id=last,bucket=bucket_id:${5 + r.int(4)},actions=output:1`,
      ],
      ['add-flow', `priority=${r.int(200)},in_port=${1 + r.int(4)},actions=group:${1 + r.int(3)}`],
      ['mod-port', `${1 + r.int(4)}`, r.pick(['up', 'down'])],
      ['dump-flows'],
      ['dump-group-stats'],
      ['dump-aggregate', `table=${r.int(4)}`],
    ]);
    const line = `{"t": ${at.sec}.${String(at.nsec).padStart(9, '0')}, ${JSON.stringify({ ofctl }).slice(1)}`;
    if (taken(line)) lines.push(line);
  }
  return lines.join('\n');
}

/** Whether the line is right: a drawn flow may not be, as a modification of any flow. */
function taken(line: string): boolean {
  try {
    parseEvents(line, 'drawn', { ports: [1, 2, 3, 4] });
    return true;
  } catch (error) {
    if (error instanceof EventError) return false;
    throw error;
  }
}

function randomVsctl(r: Random): string[] {
  const zone = `zone=${r.pick(ZONES)}`;
  switch (r.int(4)) {
    case 0:
      return ['del-zone-tp', 'netdev', zone];
    case 1:
      return ['list-zone-tp', 'netdev'];
    default: {
      const timers = Array.from(
        { length: 1 + r.int(5) },
        () => `${r.pick(TIMERS)}=${r.int(r.once(2) ? 4 : 60)}`,
      );
      return ['add-zone-tp', 'netdev', zone, ...timers];
    }
  }
}

function randomAppctl(r: Random): string[] {
  const zone = r.pick(ZONES);
  switch (r.int(12)) {
    case 0:
      return ['dpctl/flush-conntrack', ...(r.once(3) ? [] : [`zone=${zone}`])];
    case 1:
      return ['dpctl/flush-conntrack', `mark=${r.int(3)}/0x${r.pick(['1', '3', 'ffffffff'])}`];
    case 2:
      return ['dpctl/flush-conntrack', `ct_nw_src=10.0.0.${1 + r.int(6)},ct_nw_proto=${r.pick([6, 17])}`];
    case 3: {
      const ends = `ct_nw_src=10.0.0.${1 + r.int(3)},ct_nw_dst=10.0.0.${1 + r.int(3)}`;
      return ['dpctl/flush-conntrack', `zone=${zone}`, `${ends},ct_nw_proto=17,ct_tp_src=40000,ct_tp_dst=53`];
    }
    case 4:
    case 5:
      return ['dpctl/ct-set-limits', `default=${1 + r.int(6)}`];
    case 6:
      return ['dpctl/ct-set-limits', `zone=${zone},limit=${r.int(8)}`];
    case 7:
      return ['dpctl/ct-del-limits', r.once(3) ? 'default' : `zone=${zone}`];
    case 8:
      return ['dpctl/ct-set-maxconns', String(r.once(2) ? 100_000 : r.int(10))];
    case 9:
      return r.once(2) ? ['dpctl/ct-disable-tcp-seq-chk'] : ['dpctl/ct-enable-tcp-seq-chk'];
    case 10:
      return ['dpctl/ct-get-limits', `zone=${ZONES.join(',')}`];
    default:
      return r.pick([
        ['dpctl/dump-conntrack', '-m', '-s'],
        ['dpctl/ct-get-nconns'],
        ['dpctl/ct-stats-show', '-m'],
        ['fdb/show'],
        ['fdb/flush'],
      ]);
  }
}
