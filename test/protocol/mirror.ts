/** A copy of the product in which threads can be stopped between any two steps: its real code, as it was compiled, with
 *
 *  - a second form of every method of the files that threads meet in (rings, a worker's loop, the main thread's side): a
 *    generator that yields before each atomic operation, and runs the other methods in this form, too;
 *  - `Atomics` everywhere replaced by those of sched.ts, which know which thread runs;
 *  - small tables, so that a run begins in less than a millisecond and limits are reached with a few packets.
 *
 *  What is not in these files runs as it is, without being interrupted: the engine, the tracker, the coordinator. Where they
 *  touch memory that another thread changes without atomics, the index and the records, the generators yield too (LOOKS).
 *
 *  `MUTANTS` are deliberate mistakes in the copy, each of which the exploration has to find. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { type Change, changed, SMALL_TABLES } from '../support/small.js';

const SRC = fileURLToPath(new URL('../../src/', import.meta.url));
const SCHED = new URL('./sched.js', import.meta.url).href;

/** What is copied: all that threads in the model need. */
const FOLDERS = [
  'classifier',
  'conntrack',
  'coordinator',
  'datapath',
  'openflow',
  'pcap',
  'rings',
  'rss',
  'shm',
  'wire',
];
/** Files whose methods get a second form. */
const STEPPED = ['rings/words.js', 'datapath/shard.js', 'datapath/vectors.js', 'coordinator/fabric.js'];
/** Files whose methods run as they are, in the hands of one thread after the other, and of which is noted which are called. */
const PLAIN = [
  'conntrack/partition.js',
  'coordinator/homes.js',
  'coordinator/ordered.js',
  'coordinator/common-epoch.js',
  'datapath/ordered-rows.js',
];
/** Files of the rings themselves. */
const RINGS = ['rings/words.js', 'rings/ringbuf.js'];
/** What is one step each, if rings are taken for what the exploration of RINGS shows them to be. */
const WHOLE = 'WordRing';

/** Calls before which a thread can be stopped, because they read or change tables without atomic operations: what is
 *  called, by the end of its text. */
const LOOKS = [
  'microflows.stage',
  'engine.run',
  'engine.forget',
  'coordinator.made',
  'coordinator.commit',
  'coordinator.sweep',
  'partition.publishReply',
];

/** A wait for room in a ring. */
const PAUSE = 'this.pause()';

/** And one that only looks how large the index is. */
const LEVEL = 'partition.refresh';

/** What is smaller in the copy. */
const SMALL: readonly Change[] = [
  ...SMALL_TABLES,
  ['rings/words.js', "'ringbuf.js'", "'./ringbuf.js'"],
  ['datapath/shard.js', 'SPINS = ', 'SPINS = 0'],
  ['datapath/shard.js', 'MADE_RENEWED = ', 'MADE_RENEWED = 2'],
  ['datapath/shard.js', 'QUEUE_SLACK = ', 'QUEUE_SLACK = 0'],
  ['datapath/frames.js', 'CHUNK_BYTES = ', 'CHUNK_BYTES = 1 << 12'],
  ['coordinator/fabric.js', 'REPLY_RING_WORDS = ', 'REPLY_RING_WORDS = 1 << 10'],
  ['coordinator/fabric.js', 'TEMPLATE_RING_WORDS = ', 'TEMPLATE_RING_WORDS = 1 << 10'],
  ['coordinator/fabric.js', 'DISPATCH_BATCH = ', 'DISPATCH_BATCH = 3'],
  ['coordinator/fabric.js', 'ANSWER_BATCH = ', 'ANSWER_BATCH = 2'],
  ['coordinator/fabric.js', "from 'node:worker_threads'", `from '${SCHED}'`],
  ['conntrack/partition.js', 'MAX_LOAD = ', 'MAX_LOAD = 2'],
  ['conntrack/timeouts.js', 'ZONES = ', 'ZONES = 2'],
  ['coordinator/ledger.js', 'ZONES = ', 'ZONES = 2'],
  ['coordinator/mac-table.js', 'MAC_TABLE_SIZE = ', 'MAC_TABLE_SIZE = 8'],
  ['shm/aligned.js', 'const memory = allocate(bytes, true)', 'const memory = null'],
  ['shm/aligned.js', 'return (allocate(bytes, false) ??', 'return (null ??'],
];

/** A deliberate mistake. */
export type Mutation = readonly Change[];

/** Something to come by. */
export interface Place {
  text: string;
  /** What it is a part of, 0: of nothing. */
  within: number;
}

/** The product's modules, from the copy. */
export interface Mirror {
  load: <T>(file: string) => Promise<T>;
  /** What there is to come by (sched.ts, `passed`): of stepped files methods, branches and atomic operations, of PLAIN ones
   *  methods. */
  places: ReadonlyMap<number, Place>;
  remove: () => void;
}

/** Makes a copy with a mistake, or without; `rings`: for exploring how rings work inside, else each of their methods is one
 *  step. */
export function mirror(mutation: Mutation = [], rings = false): Mirror {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-model-'));
  fs.writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  fs.symlinkSync(nodeModules(), path.join(folder, 'node_modules'));
  const sources = new Map<string, string>();
  for (const folder of FOLDERS) {
    for (const file of fs.readdirSync(path.join(SRC, folder))) {
      if (file.endsWith('.js'))
        sources.set(`${folder}/${file}`, fs.readFileSync(path.join(SRC, folder, file), 'utf8'));
    }
  }
  const ringbuf = path.join(nodeModules(), 'ringbuf.js', 'dist', 'index.mjs');
  sources.set('rings/ringbuf.js', fs.readFileSync(ringbuf, 'utf8'));
  for (const change of [...SMALL, ...mutation])
    sources.set(change[0], changed(sources.get(change[0]), change));
  const names = new Set<string>();
  const parsed = (rings ? RINGS : STEPPED).map((file) => {
    const text = sources.get(file) as string;
    return { file, text, tree: ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true) };
  });
  for (const { tree } of parsed) for (const method of methodsOf(tree)) names.add(method.name.getText());
  const places = new Map<number, Place>();
  for (const { file, text, tree } of parsed)
    sources.set(
      file,
      withSteps(text, tree, { names, rings, places, at: new Map(), name: '', within: 0, plain: false }),
    );
  for (const file of rings ? [] : PLAIN) sources.set(file, withMarks(sources.get(file) as string, places));
  for (const [file, text] of sources) {
    const to = path.join(folder, 'src', file);
    fs.mkdirSync(path.dirname(to), { recursive: true });
    fs.writeFileSync(
      to,
      `import { plainAtomics as Atomics, $op, $call, $look, $level, $ring, $top, $again, $mark } from '${SCHED}';\n${text}`,
    );
  }
  return {
    load: (file) => import(path.join(folder, 'src', file)),
    places,
    remove: () => fs.rmSync(folder, { recursive: true, force: true }),
  };
}

function nodeModules(): string {
  for (let at = SRC; ; at = path.dirname(at)) {
    const folder = path.join(at, 'node_modules');
    if (fs.existsSync(folder)) return fs.realpathSync(folder);
    if (at === path.dirname(at)) throw new Error('model: no node_modules');
  }
}

type Method = ts.MethodDeclaration & { name: ts.Identifier };

function methodsOf(tree: ts.SourceFile): Method[] {
  const found: Method[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isMethodDeclaration(node) && ts.isIdentifier(node.name) && node.body && !node.asteriskToken) {
      const isPlain = !node.modifiers?.some((m) => m.kind !== ts.SyntaxKind.ExportKeyword);
      if (isPlain) found.push(node as Method);
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

const nameOf = (method: Method): string =>
  `${(method.parent as ts.ClassDeclaration).name?.text}.${method.name.text}`;

/** What methods are rewritten with. */
interface Steps {
  names: ReadonlySet<string>;
  rings: boolean;
  places: Map<number, Place>;
  /** Which nodes are places. */
  at: Map<ts.Node, number>;
  /** Of the method. */
  name: string;
  /** The method is to run as it is. */
  plain: boolean;
  /** The place that this is a part of. */
  within: number;
}

/** The file, with a generator beside each method. */
function withSteps(text: string, tree: ts.SourceFile, o: Steps): string {
  let out = '';
  let at = 0;
  for (const method of methodsOf(tree)) {
    const params = method.parameters.map((p) => p.getText()).join(', ');
    const { name } = method;
    const block = method.body as ts.Block;
    const isWhole = !o.rings && (method.parent as ts.ClassDeclaration).name?.text === WHOLE;
    const here = { ...o, name: nameOf(method) };
    const body = isWhole ? `{ return yield* $ring(this, '${name.text}', arguments); }` : stepped(block, here);
    const whole = isWhole ? block.getText() : stepped(block, { ...here, plain: true });
    out += text.slice(at, block.getStart()) + whole;
    out += `\n    *${name.text}$(${params}) ${body}`;
    at = method.end;
  }
  return out + text.slice(at);
}

/** The file, in which is noted which methods are called. */
function withMarks(text: string, places: Map<number, Place>): string {
  let out = '';
  let at = 0;
  for (const method of methodsOf(ts.createSourceFile('', text, ts.ScriptTarget.ES2022, true))) {
    const open = (method.body as ts.Block).getStart() + 1;
    const here = nextSite();
    places.set(here, { text: nameOf(method), within: 0 });
    out += `${text.slice(at, open)} $mark(${here});`;
    at = open;
  }
  return out + text.slice(at);
}

/** Places in generators are numbered. */
let site = 1000;
const nextSite = (): number => ++site;

/** A number for a place. */
function placed(o: Steps, node: ts.Node, what: string): number {
  const known = o.at.get(node);
  if (known !== undefined) return known;
  const here = nextSite();
  o.at.set(node, here);
  const text = what.replace(/\s+/g, ' ');
  const short = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  o.places.set(here, { text: short === '' ? o.name : `${o.name}: ${short}`, within: o.within });
  return here;
}

/** If the statement is done only in some cases: in which. '' for the whole of a method. */
function caseOf(node: ts.Node): string | null {
  const { parent } = node;
  if (parent === undefined) return null;
  if (ts.isMethodDeclaration(parent) && node === parent.body) return '';
  if (ts.isIfStatement(parent)) {
    const condition = parent.expression.getText();
    if (node === parent.thenStatement) return `if (${condition})`;
    return node === parent.elseStatement ? `unless (${condition})` : null;
  }
  const isBody = ts.isIterationStatement(parent, false) && node === parent.statement;
  return isBody
    ? parent
        .getText()
        .slice(0, node.getStart() - parent.getStart())
        .trim()
    : null;
}

/** The text of a node in a generator. Functions inside run as they are. */
function stepped(node: ts.Node, outer: Steps): string {
  const { names } = outer;
  const source = node.getSourceFile().text;
  const when = ts.isCaseClause(node) ? `case ${node.expression.getText()}` : caseOf(node);
  const here = when === null ? outer.within : placed(outer, node, when);
  const o = when === null ? outer : { ...outer, within: here };
  if (ts.isFunctionLike(node)) return node.getText();
  if (ts.isCallExpression(node) && !o.plain) {
    const args = node.arguments.map((a) => stepped(a, o)).join(', ');
    const callee = node.expression;
    if (ts.isPropertyAccessExpression(callee)) {
      const owner = callee.expression;
      const name = callee.name.text;
      if (owner.getText() === 'Atomics')
        return `(yield* $op(${placed(o, node, node.getText())}, '${name}', ${args}))`;
      const target = stepped(owner, o);
      const look = LOOKS.find((l) => callee.getText().endsWith(l));
      const sign = callee.questionDotToken ? '?.' : '.';
      if (callee.getText().endsWith(LEVEL))
        return `((yield* $level(${nextSite()}, ${target})), ${target}.${name}())`;
      if (look !== undefined)
        return `((yield* $look(${placed(o, node, node.getText())})), ${target}${sign}${name}(${args}))`;
      const isSuper = owner.kind === ts.SyntaxKind.SuperKeyword;
      if (names.has(name) && !isSuper)
        return `(yield* $call(${nextSite()}, ${target}, '${name}'${args === '' ? '' : `, ${args}`}))`;
    }
  }
  // Where a thread begins anew, if it has found nothing to do.
  const isTop =
    !o.plain && ts.isForStatement(node) && node.condition === undefined && node.initializer === undefined;
  if (isTop) return `for (;;) { $top(); ${stepped(node.statement, o)} }`;
  // Where it tries again what there was no room for.
  if (!o.plain && ts.isWhileStatement(node) && node.statement.getText().includes(PAUSE))
    return `while ($again(), ${stepped(node.expression, o)}) ${stepped(node.statement, o)}`;
  const children: ts.Node[] = [];
  ts.forEachChild(node, (child) => {
    children.push(child);
  });
  let out = '';
  let at = node.getStart();
  for (const child of children) {
    const from = child.getStart();
    if (from < at) continue;
    out += source.slice(at, from) + stepped(child, o);
    at = child.end;
  }
  out += source.slice(at, node.end);
  if (when === null) return out;
  if (!ts.isCaseClause(node)) return `{ $mark(${here}); ${out} }`;
  const colon = node.expression.end - node.getStart() + 1;
  return `${out.slice(0, colon)} $mark(${here});${out.slice(colon)}`;
}
