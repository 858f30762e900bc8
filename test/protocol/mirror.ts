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

/** Files whose methods get a second form. */
const STEPPED = ['rings/words.js', 'datapath/shard.js', 'datapath/vectors.js', 'coordinator/fabric.js'];
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

/** And one that only looks how large the index is. */
const LEVEL = 'partition.refresh';

/** What is smaller in the copy. */
const SMALL: readonly Change[] = [
  ...SMALL_TABLES,
  ['rings/words.js', "'ringbuf.js'", "'./ringbuf.js'"],
  ['datapath/shard.js', 'SPINS = ', 'SPINS = 0'],
  ['datapath/frames.js', 'CHUNK_BYTES = ', 'CHUNK_BYTES = 1 << 12'],
  ['coordinator/fabric.js', 'REPLY_RING_WORDS = ', 'REPLY_RING_WORDS = globalThis.ringWords ?? 1 << 10'],
  [
    'coordinator/fabric.js',
    'TEMPLATE_RING_WORDS = ',
    'TEMPLATE_RING_WORDS = globalThis.ringWords ?? 1 << 10',
  ],
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

/** The product's modules, from the copy. */
export interface Mirror {
  load: <T>(file: string) => Promise<T>;
  remove: () => void;
}

/** Makes a copy with a mistake, or without; `rings`: for exploring how rings work inside, else each of their methods is one
 *  step. */
export function mirror(mutation: Mutation = [], rings = false): Mirror {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-model-'));
  fs.writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  fs.symlinkSync(nodeModules(), path.join(folder, 'node_modules'));
  const sources = new Map<string, string>();
  for (const file of fs.readdirSync(SRC, { recursive: true, encoding: 'utf8' })) {
    if (file.endsWith('.js'))
      sources.set(file.replaceAll('\\', '/'), fs.readFileSync(path.join(SRC, file), 'utf8'));
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
  for (const { file, text, tree } of parsed) sources.set(file, withSteps(text, tree, names, rings));
  for (const [file, text] of sources) {
    const to = path.join(folder, 'src', file);
    fs.mkdirSync(path.dirname(to), { recursive: true });
    fs.writeFileSync(
      to,
      `import { plainAtomics as Atomics, $op, $call, $look, $level, $ring, $top } from '${SCHED}';\n${text}`,
    );
  }
  return {
    load: (file) => import(path.join(folder, 'src', file)),
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

function methodsOf(tree: ts.SourceFile): (ts.MethodDeclaration & { name: ts.Identifier })[] {
  const found: (ts.MethodDeclaration & { name: ts.Identifier })[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isMethodDeclaration(node) && ts.isIdentifier(node.name) && node.body && !node.asteriskToken) {
      const isPlain = !node.modifiers?.some((m) => m.kind !== ts.SyntaxKind.ExportKeyword);
      if (isPlain) found.push(node as ts.MethodDeclaration & { name: ts.Identifier });
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

/** The file, with a generator beside each method. */
function withSteps(text: string, tree: ts.SourceFile, names: ReadonlySet<string>, rings: boolean): string {
  let out = '';
  let at = 0;
  for (const method of methodsOf(tree)) {
    const params = method.parameters.map((p) => p.getText()).join(', ');
    out += text.slice(at, method.end);
    const { name } = method;
    const isWhole = !rings && (method.parent as ts.ClassDeclaration).name?.text === WHOLE;
    const body = isWhole
      ? `{ return yield* $ring(this, '${name.text}', arguments); }`
      : stepped(method.body as ts.Block, names);
    out += `\n    *${name.text}$(${params}) ${body}`;
    at = method.end;
  }
  return out + text.slice(at);
}

/** Places in generators are numbered. */
let site = 1000;
const nextSite = (): number => ++site;

/** The text of a node in a generator. Functions inside run as they are. */
function stepped(node: ts.Node, names: ReadonlySet<string>): string {
  const source = node.getSourceFile().text;
  if (ts.isFunctionLike(node)) return node.getText();
  if (ts.isCallExpression(node)) {
    const args = node.arguments.map((a) => stepped(a, names)).join(', ');
    const callee = node.expression;
    if (ts.isPropertyAccessExpression(callee)) {
      const owner = callee.expression;
      const name = callee.name.text;
      if (owner.getText() === 'Atomics') return `(yield* $op(${nextSite()}, '${name}', ${args}))`;
      const target = stepped(owner, names);
      const look = LOOKS.find((l) => callee.getText().endsWith(l));
      const sign = callee.questionDotToken ? '?.' : '.';
      if (callee.getText().endsWith(LEVEL))
        return `((yield* $level(${nextSite()}, ${target})), ${target}.${name}())`;
      if (look !== undefined) return `((yield* $look(${nextSite()})), ${target}${sign}${name}(${args}))`;
      const isSuper = owner.kind === ts.SyntaxKind.SuperKeyword;
      if (names.has(name) && !isSuper)
        return `(yield* $call(${nextSite()}, ${target}, '${name}'${args === '' ? '' : `, ${args}`}))`;
    }
  }
  // Where a thread begins anew, if it has found nothing to do.
  const isTop = ts.isForStatement(node) && node.condition === undefined && node.initializer === undefined;
  if (isTop) return `for (;;) { $top(); ${stepped(node.statement, names)} }`;
  const children: ts.Node[] = [];
  ts.forEachChild(node, (child) => {
    children.push(child);
  });
  let out = '';
  let at = node.getStart();
  for (const child of children) {
    const from = child.getStart();
    if (from < at) continue;
    out += source.slice(at, from) + stepped(child, names);
    at = child.end;
  }
  return out + source.slice(at, node.end);
}
