/** What is compared: two installations, commits, Node binaries, flow tables or captures, or several of these together. */
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { makeFolder } from '../output/folders.js';

export const KINDS = [
  ...(['install', 'git', 'node', 'flows', 'groups', 'meters', 'events', 'capture', 'result'] as const),
];
export type Kind = (typeof KINDS)[number];
/** What a flow table needs besides itself, each in a file. */
export const TABLES = ['flows', 'groups', 'meters', 'events'] as const;
export type Tables = { [name in (typeof TABLES)[number]]?: string };

/** A thing that one side is asked to be; all else is the same for both. */
export interface SideName {
  kind: Kind;
  /** Folder, commit, or file. */
  value: string;
}

/** One side, ready to run. */
export interface Side {
  /** As the user named it. */
  label: string;
  /** Root of the installation. */
  root: string;
  /** Node binary. */
  node: string;
  /** Instead of the common ones. */
  tables: Tables;
  capture?: string;
}

const execute = promisify(execFile);
const ownRoot = fileURLToPath(new URL('../../../', import.meta.url));
/** Commits that were built, by hash, so that a second comparison need not. */
const BUILDS = path.join(os.tmpdir(), `shardtrack-builds-${os.userInfo().username}`);

/** A commit that can't be built. */
export class BuildError extends Error {
  override name = 'BuildError';
}

/** Entry points of an installation. */
export const cliOf = (side: Side) => path.join(side.root, 'dist/src/cli/main.js');
export const childOf = (side: Side) => path.join(side.root, 'dist/src/bench/child.js');

/** `KIND:VALUE,KIND:VALUE...`, or a value that tells its kind: a folder, a capture, a stored result, a Node binary, a
 *  flow table, or else a commit of this checkout. Throws Error saying what was expected. */
export function parseSide(text: string): SideName[] {
  const kinds = KINDS.join('|');
  if (!new RegExp(`^(${kinds}):.`, 's').test(text)) return [guessSide(text)];
  const names = text.split(new RegExp(`,(?=(?:${kinds}):)`)).map((part) => {
    const at = part.indexOf(':');
    return { kind: part.slice(0, at) as Kind, value: part.slice(at + 1) };
  });
  for (const [i, { kind, value }] of names.entries()) {
    if (kind !== 'git' && !fs.existsSync(value)) throw new Error(`${value}: there is no such file or folder`);
    if (names.findIndex((n) => n.kind === kind) !== i) throw new Error(`${text}: ${kind}: is there twice`);
    if (kind === 'result' && names.length > 1)
      throw new Error(`${text}: a stored result goes with nothing else`);
  }
  if (names.some((n) => n.kind === 'git') && names.some((n) => n.kind === 'install')) {
    throw new Error(`${text}: git: and install: are both installations; leave one out`);
  }
  return names;
}

function guessSide(text: string): SideName {
  const stat = fs.statSync(text, { throwIfNoEntry: false });
  if (stat?.isDirectory()) return { kind: 'install', value: text };
  if (stat !== undefined) {
    if (/\.json$/i.test(text)) return { kind: 'result', value: text };
    if (/\.(pcap|pcapng|ntar|cap)(\.\w+)?$/i.test(text)) return { kind: 'capture', value: text };
    if (/^node(js)?[\w.-]*$/.test(path.basename(text)) && (stat.mode & 0o111) !== 0) {
      return { kind: 'node', value: text };
    }
    return { kind: /\.ndjson$/i.test(text) ? 'events' : 'flows', value: text };
  }
  if (commitOf(text) !== null) return { kind: 'git', value: text };
  throw new Error(
    `"${text}" is no file, no folder and ${noCommit()}; expected one of these, or KIND:VALUE with a kind of ${KINDS.join(', ')}`,
  );
}

function git(...args: string[]): string {
  return execFileSync('git', ['-C', ownRoot, ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
    .toString()
    .trim();
}

function commitOf(ref: string): string | null {
  if (ref.startsWith('-')) return null;
  try {
    return git('rev-parse', '--verify', '--quiet', `${ref}^{commit}`);
  } catch {
    return null;
  }
}

function noCommit(): string {
  let shallow = false;
  try {
    shallow = git('rev-parse', '--is-shallow-repository') === 'true';
  } catch {
    // No checkout at all.
  }
  return `no commit of ${ownRoot}${shallow ? ', which is a shallow checkout: fetch the commit first' : ''}`;
}

/** Makes a side ready: builds commits, looks for entry points. Throws Error. */
export async function openSide(
  names: readonly SideName[],
  say: (text: string) => void,
  signal?: AbortSignal,
): Promise<Side> {
  const label = names.map((n) => n.value).join(', ');
  const side: Side = { label, root: ownRoot, node: process.execPath, tables: {} };
  for (const { kind, value } of names) {
    switch (kind) {
      case 'install':
        side.root = path.resolve(value);
        break;
      case 'git':
        side.root = await build(value, say, signal);
        break;
      case 'node':
        side.node = path.resolve(value);
        if ((fs.statSync(side.node).mode & 0o111) === 0)
          throw new Error(`${value}: this is no program; expected a Node binary`);
        break;
      case 'capture':
        side.capture = path.resolve(value);
        break;
      case 'result':
        throw new Error(`${value}: a stored result can be compared with a stored result only`);
      default:
        side.tables[kind] = path.resolve(value);
    }
  }
  if (!fs.existsSync(cliOf(side))) {
    throw new Error(
      `${side.root}: there is no dist/src/cli/main.js; expected a built installation of Shardtrack`,
    );
  }
  return side;
}

/** Checks a commit out beside this one and builds it; returns its folder. */
async function build(ref: string, say: (text: string) => void, signal?: AbortSignal): Promise<string> {
  const commit = commitOf(ref);
  if (commit === null) throw new Error(`"${ref}" is ${noCommit()}`);
  const built = path.join(BUILDS, commit);
  if (fs.existsSync(built)) return built;
  say(`building ${ref} (${commit.slice(0, 10)}) in ${built}`);
  // It gets its name when it is whole: others may build it as well.
  makeFolder(BUILDS);
  const folder = fs.mkdtempSync(`${built}.`);
  try {
    await compile(ref, commit, folder, signal);
    if (!fs.existsSync(built)) fs.renameSync(folder, built);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
  return built;
}

async function compile(ref: string, commit: string, folder: string, signal?: AbortSignal): Promise<void> {
  const run = async (command: string, args: string[]): Promise<void> => {
    try {
      await execute(command, args, { cwd: folder, signal, maxBuffer: 2 ** 26 });
    } catch (error) {
      const { stdout, stderr, message } = error as Error & { stdout?: string; stderr?: string };
      const said = `${stdout ?? ''}${stderr ?? ''}`;
      throw new BuildError(`${ref}: ${command} ${args.join(' ')} failed:\n${said === '' ? message : said}`);
    }
  };
  const archive = path.join(folder, 'commit.tar');
  git('archive', '--format=tar', '-o', archive, commit);
  await run('tar', ['-xf', archive]);
  fs.rmSync(archive);
  // What is installed here serves if it is what the commit asks for.
  const lock = (root: string) => fs.readFileSync(path.join(root, 'package-lock.json'), 'utf8');
  if (lock(folder) === lock(ownRoot)) {
    fs.symlinkSync(fs.realpathSync(path.join(ownRoot, 'node_modules')), path.join(folder, 'node_modules'));
  } else {
    await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
  }
  await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.product.json']);
}
