/** What does an upcall cost: one walk through the firewall's tables? */
import fs from 'node:fs';
import { CS_EST, CS_TRK, FLOW, KEY_WORDS } from '../../src/classifier/flow-key.js';
import { OP_CT, OP_OUTPUT, OP_RECIRC } from '../../src/datapath/program.js';
import { parseFlows } from '../../src/openflow/parser.js';
import { Pipeline } from '../../src/openflow/tables.js';
import { Translator } from '../../src/openflow/translate.js';
import { FIREWALL } from '../peers/workloads.js';
import { must, type Variant } from './variant.js';

const N = 256;

function key(recirc: number, ctState: number): Int32Array {
  const k = new Int32Array(KEY_WORDS);
  k[FLOW.IN_PORT] = 1;
  k[FLOW.RECIRC_ID] = recirc;
  k[FLOW.CT_STATE] = ctState;
  k[FLOW.ETH_TYPE] = 0x0800;
  k[FLOW.NW_SRC] = 0x0a000001;
  k[FLOW.NW_DST] = 0xc0a80001 | 0;
  k[FLOW.NW] = (64 << 8) | 17;
  k[FLOW.TP] = (1024 << 16) | 53;
  return k;
}

function translator(): Translator {
  const rules = parseFlows(fs.readFileSync(FIREWALL, 'utf8'), FIREWALL);
  return new Translator(new Pipeline({ rules, ports: [1, 2] }));
}

const timed = (t: Translator, k: Int32Array) => () => {
  let x = 0;
  for (let i = 0; i < N; i++) x += t.translate(k).program.length;
  return x;
};

export const TRANSLATION: readonly Variant[] = [
  {
    name: 'translation/first-pass',
    what: 'untracked packet: to ct(table=1)',
    operations: N,
    unit: 'ns/call',
    prepare() {
      const t = translator();
      const { program, mask } = t.translate(key(0, 0));
      must(program.includes(OP_CT) && program.includes(OP_RECIRC), `program ${program}`);
      must(mask[FLOW.TP] === 0 && mask[FLOW.CT_STATE] !== 0, 'mask');
      return timed(t, key(0, 0));
    },
  },
  {
    name: 'translation/second-pass',
    what: 'packet of a known connection: output',
    operations: N,
    unit: 'ns/call',
    prepare() {
      const t = translator();
      t.translate(key(0, 0)); // makes recirculation id 1
      const k = key(1, CS_TRK | CS_EST);
      const { program } = t.translate(k);
      must(program[2] === OP_OUTPUT && program[3] === 2, `program ${program}`);
      return timed(t, k);
    },
  },
  {
    name: 'translation/parse',
    what: 'parseFlows: the whole table from text',
    operations: 16,
    unit: 'ns/call',
    prepare() {
      const text = fs.readFileSync(FIREWALL, 'utf8');
      must(parseFlows(text, FIREWALL).length === 8, 'number of rules');
      return () => {
        let x = 0;
        for (let i = 0; i < 16; i++) x += parseFlows(text, FIREWALL).length;
        return x;
      };
    },
  },
];
