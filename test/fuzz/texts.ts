/** Text that people write: flow, group and meter tables, events, address prefixes; and FTP's announcements, which
 *  attackers write. What is wrong is refused with a message that says where; what is taken can be printed and read
 *  again, and run. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { formatFlows } from '../../src/cli/flows.js';
import {
  announcesData,
  FtpAnnouncement,
  ftpMessage,
  readAnnouncement4,
  readAnnouncement6,
} from '../../src/conntrack/ftp.js';
import { EventError, parseEvents } from '../../src/coordinator/events.js';
import { parseMeters } from '../../src/openflow/flowmod.js';
import { formatGroup, parseGroups } from '../../src/openflow/groups.js';
import { parseFlows } from '../../src/openflow/parser.js';
import { FlowSyntaxError } from '../../src/openflow/types.js';
import { PrefixSet } from '../../src/wire/cidr.js';
import { ORACLE } from '../differential/fixture.js';
import { type Bytes, type Packet, Random } from '../support/packets.js';
import { randomEvents, randomFlowMods } from '../support/random-events.js';
import { GROUPS, randomFlow, randomTable } from '../support/random-tables.js';
import { randomTraffic } from '../support/random-traffic.js';
import { run } from '../support/run.js';
import { mutateText } from './mutate.js';
import { check, type MakeTarget, seedOf, type Target, type Work } from './target.js';

const MOST_TEXT = 8192;
export const NOTHING: Work = { files: 1, packets: 0 };

/** Of what says why a text is refused. */
const MOST_MESSAGE = 1 << 20;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Packets for what is taken: few, of all kinds. */
const PACKETS: readonly Packet[] = randomTraffic(new Random(99), { packets: 40, flows: 6 });

function refused(error: unknown, what: string): void {
  if (!(error instanceof FlowSyntaxError)) throw error;
  check(error.problems.length > 0, () => `${what} is refused without a reason`);
  check(error.message.length < MOST_MESSAGE, () => `${error.message.length} characters say what is wrong`);
  for (const p of error.problems)
    check(p.pos.line >= 1 && p.pos.column >= 1, () => `a mistake at ${p.pos.line}:${p.pos.column}`);
}

export function textTarget(
  name: string,
  about: string,
  seeds: () => string[],
  body: (text: string, input: Bytes, bug: boolean) => Work | Promise<Work>,
  most = MOST_TEXT,
): MakeTarget {
  return (bug): Target => ({
    name,
    about,
    seeds: () => seeds().map((s) => encoder.encode(s)),
    mutate: mutateText,
    guided: true,
    run: (input) => body(decoder.decode(input.subarray(0, most)), input, bug),
  });
}

/** The flow tables of the fixtures, the short ones, and made ones. */
function tables(): string[] {
  const shipped = readdirSync(ORACLE)
    .sort()
    .map((d) => readFileSync(path.join(ORACLE, d, 'flows.txt'), 'utf8'))
    .filter((t) => t.length < 3000);
  const made = Array.from({ length: 40 }, (_, i) =>
    randomTable(new Random(i), { groups: true, rewriteTuples: true }),
  );
  return [...shipped, ...made];
}

export const flowsTarget = textTarget(
  'flows',
  'flow tables: parsed, printed, parsed again, and run',
  tables,
  async (text, input, bug) => {
    try {
      parseFlows(text, 'flows');
    } catch (error) {
      refused(error, 'a flow table');
      return NOTHING;
    }
    let once = formatFlows(text, 'flows');
    // Priorities of five digits lose one.
    if (bug) once = once.replace(/priority=(\d{4})\d/g, 'priority=$1');
    const twice = formatFlows(once, 'flows');
    check(
      twice === formatFlows(text, 'flows'),
      () => `printed and read again it is another:\n${once}\n${twice}`,
    );
    if (seedOf(input) % 4 !== 0) return NOTHING;
    const groups = text.includes('group') ? GROUPS : '';
    const { verdicts } = await run(PACKETS, { flows: text, groups, maxConns: 100 });
    check(
      verdicts.length === PACKETS.length,
      () => `${verdicts.length} verdicts for ${PACKETS.length} packets`,
    );
    return { files: 1, packets: PACKETS.length };
  },
);

const METERS = `meter=1,kbps,burst,band=type=drop,rate=100,burst_size=10
meter=2,pktps,stats,band=type=drop,rate=5
meter=70000,kbps,bands=type=drop,rate=1\n`;

export const groupsTarget = textTarget(
  'groups',
  'group and meter tables',
  () => [GROUPS, ...GROUPS.split('\n').filter((l) => l !== ''), METERS],
  (text, _input, bug) => {
    let groups: ReturnType<typeof parseGroups> = [];
    try {
      groups = parseGroups(text, 'groups');
    } catch (error) {
      refused(error, 'a group table');
    }
    for (const group of groups) {
      const line = formatGroup(group);
      const again = formatGroup(
        parseGroups(bug ? line.replace(/(output|port|weight|bucket_id):[5-8]/, '$1:1') : line, 'again')[0],
      );
      check(again === line, () => `printed and read again it is another:\n${line}\n${again}`);
    }
    try {
      parseMeters(text, 'meters');
    } catch (error) {
      refused(error, 'a meter table');
    }
    return NOTHING;
  },
);

const PORTS = [1, 2, 3, 4];
const EVENTS_TABLE =
  'ip,actions=ct(commit,table=1)\nipv6,actions=ct(commit,table=1)\ntable=1,actions=normal\n';

export const eventsTarget = textTarget(
  'events',
  'events files: parsed, and what is taken is done between packets',
  () => {
    const r = new Random(5);
    return [
      ...Array.from({ length: 12 }, () => randomEvents(r, PACKETS, 6)),
      ...Array.from({ length: 6 }, () => randomFlowMods(r, PACKETS, 4, () => randomFlow(r))),
    ];
  },
  async (text, _input, bug) => {
    try {
      const events = parseEvents(text, 'events', { ports: PORTS });
      for (const e of events) {
        check(
          Number.isSafeInteger(e.sec) && e.nsec >= 0 && e.nsec < 1e9,
          () => `an event at ${e.sec}, ${e.nsec}`,
        );
        check(!bug || e.sec < 1e9 || e.kind !== 'vsctl', () => 'deliberate bug');
      }
      if (events.length === 0) return NOTHING;
      const most = Math.max(...events.map((e) => e.capacity));
      // Memory for millions of connections, for forty packets.
      if (most > 100_000) return NOTHING;
    } catch (error) {
      if (!(error instanceof EventError)) throw error;
      check(error.problems.length > 0, () => 'refused without a reason');
      return NOTHING;
    }
    const { log } = await run(PACKETS, { flows: EVENTS_TABLE, events: text, maxConns: 100 });
    for (const line of log) JSON.parse(line);
    return { files: 1, packets: PACKETS.length };
  },
);

export const prefixTarget = textTarget(
  'prefixes',
  'address prefixes of --inside',
  () => ['10.0.0.0/8', 'fd00::/8,192.168.0.0/16', '::ffff:1.2.3.4/120', '1.2.3.4', '0.0.0.0/0,::/0'],
  (text, _input, bug) => {
    const frame = new DataView(new ArrayBuffer(60));
    frame.setUint16(12, 0x0800);
    try {
      const holds = new PrefixSet(text).holdsSource(frame, 0, 60);
      check(!bug || !holds || !text.includes('/1'), () => 'deliberate bug');
      check(!holds || /(^|,)\s*0\.|\/0*\d+/.test(text), () => `"${text}" holds 0.0.0.0`);
    } catch (error) {
      if (!(error instanceof RangeError) || !/prefix/.test(error.message)) throw error;
    }
    return NOTHING;
  },
);

export const ftpTarget = textTarget(
  'ftp',
  'announcements of data connections: PORT, EPRT, 227 and 229, over IPv4 and IPv6',
  () => [
    'PORT 10,0,0,1,4,1\r\n',
    'EPRT |1|10.0.0.1|1025|\r\n',
    'EPRT |2|fd00::1|1025|\r\n',
    '227 Entering Passive Mode (10,0,0,2,200,10).\r\n',
    '229 Entering Extended Passive Mode (|||51210|)\r\n',
    'port 255,255,255,255,255,255',
  ],
  (text, input, bug) => {
    const a = new FtpAnnouncement();
    const view = new DataView(input.buffer, input.byteOffset, input.length);
    const message = ftpMessage(view, 0, input.length);
    check(
      message.length <= Math.max(0, input.length - 1),
      () => `${message.length} characters of ${input.length}`,
    );
    for (const six of [false, true]) {
      for (const m of [message, text]) {
        if (!announcesData(m, six)) continue;
        if (!(six ? readAnnouncement6(m, a) : readAnnouncement4(m, a))) continue;
        const port = bug && six ? a.port + (a.hasAddress ? 60_000 : 0) : a.port;
        check(
          port >= 0 && port <= 0xffff && Number.isInteger(port),
          () => `port ${port} in ${JSON.stringify(m)}`,
        );
        check(!a.hasAddress || (a.at > 0 && a.size > 0 && a.at + a.size <= m.length), () => {
          return `the address is at ${a.at} to ${a.at + a.size} of ${JSON.stringify(m)}`;
        });
      }
    }
    return { files: 0, packets: 1 };
  },
);
