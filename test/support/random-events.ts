/** Draws control events that fall between the packets of a run: flushes of every kind, limits, timeout policies,
 *  settings, questions. Some are refused; the log says the same of them for any number of workers. */
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
