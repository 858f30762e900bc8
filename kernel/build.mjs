/** Compiles the kernel (express.ts) and writes it to src/datapath/kernel-code.ts, as text, so that a build needs no other
 *  compiler than TypeScript's. With --check it only says whether that file is what the sources give.
 *
 *      npm run kernel [-- --check]
 *
 *  AssemblyScript is fetched by npx in this version, unless it is installed: it is needed to change the kernel, not to build
 *  or run anything. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ASSEMBLYSCRIPT = 'assemblyscript@0.28.20';
const root = fileURLToPath(new URL('..', import.meta.url));
const target = path.join(root, 'src/datapath/kernel-code.ts');

/** Layouts and constants as AssemblyScript: those of the TypeScript sources, in bytes. */
async function layout() {
  const load = (name) => import(new URL(`../dist/src/${name}.js`, import.meta.url).href);
  const [layouts, staging, tcp, timeouts, keys] = await Promise.all(
    ['shm/layouts', 'datapath/staging', 'conntrack/tcp', 'conntrack/timeouts', 'conntrack/key'].map(load),
  );
  const { CONN, RECORD, COLD, ADDR6 } = layouts;
  const { STAGED_KEY } = staging;
  const all = {};
  const at = (record, prefix, ...names) => {
    for (const name of names) all[prefix + name] = record.at[name] * 4;
  };
  at(CONN, 'C_', 'SRC', 'DST', 'PORTS', 'ZONE_PROTO', 'STATE', 'WINS');
  at(CONN, '', 'SEQLO_0', 'EXPIRES', 'PKTS_0', 'BYTES_0');
  at(
    RECORD,
    '',
    'LAST_PACKET',
    'FRAME_BYTES_0',
    'IP_BYTES_0',
    'PAYLOAD_0',
    'SEQ_BYTES_0',
    'END_SEC',
    'END_NSEC',
  );
  at(RECORD, '', 'NEXT_0', 'FLAGS', 'HISTORY_0', 'HISTORY_1', 'HOLE_LO_0', 'HOLE_HI_0', 'MISSED_0');
  at(RECORD, '', 'RETRANS_0', 'DISORDER_0');
  at(RECORD, 'R_', 'PKTS_0');
  at(STAGED_KEY, 'K_', 'PORT_NW', 'SRC', 'DST', 'TP', 'VLAN');
  Object.assign(all, {
    HOT_SHIFT: CONN.shift,
    COLD_SHIFT: COLD.shift,
    RECORD_SHIFT: RECORD.shift,
    ADDR6_SHIFT: ADDR6.shift,
    KEY_SHIFT: STAGED_KEY.shift,
  });
  const copy = (module, names) => {
    for (const name of names) {
      if (typeof module[name] !== 'number') throw new Error(`kernel: there is no number ${name}`);
      all[name] = module[name];
    }
  };
  copy(layouts, ['BUCKET_WAYS', 'KIND_IPV6', 'RECORD_RTT', 'RECORD_STREAM_0', 'RECORD_SYN', 'RECORD_SYNACK']);
  copy(layouts, ['STATE_HAS_POLICY', 'STATE_SPECIAL']);
  copy(tcp, ['MAX_ACK_WINDOW', 'TCPS_CLOSING', 'TCPS_ESTABLISHED', 'TCPS_FIN_WAIT_2', 'TCPS_SYN_SENT']);
  copy(tcp, ['WSCALE_KNOWN', 'WSCALE_MAX', 'WSCALE_SHIFT', 'WSCALE_UNKNOWN']);
  copy(timeouts, [
    'TM_TCP_CLOSE',
    'TM_TCP_ESTABLISHED',
    'TM_TCP_FIN_WAIT',
    'TM_TCP_SYN_RECV',
    'TM_TCP_TIME_WAIT',
  ]);
  copy(timeouts, ['TM_UDP_MULTIPLE', 'TM_UDP_SINGLE']);
  copy(keys, ['FTP_PORT', 'TFTP_PORT']);
  copy(staging, ['VLAN_IPV6']);
  return Object.entries(all)
    .map(([name, value]) => `export const ${name}: i32 = ${value};\n`)
    .join('');
}

function compile(folder) {
  const out = path.join(folder, 'kernel.wasm');
  const local = process.env.ASC ?? path.join(root, 'node_modules/assemblyscript/bin/asc.js');
  const asc = fs.existsSync(local)
    ? [process.execPath, local]
    : ['npx', '--yes', '--package', ASSEMBLYSCRIPT, 'asc'];
  const options = ['-O3', '--noAssert', '--runtime', 'stub', '--importMemory', '--sharedMemory'];
  const memory = ['--initialMemory', '1', '--maximumMemory', '65536', '--enable', 'simd,threads'];
  const args = [...asc.slice(1), 'express.ts', '-o', out, ...options, ...memory];
  const { status } = spawnSync(asc[0], args, { cwd: folder, stdio: 'inherit' });
  if (status !== 0) throw new Error(`kernel: asc ended with ${status}`);
  return fs.readFileSync(out);
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kernel-'));
try {
  fs.copyFileSync(path.join(root, 'kernel/express.ts'), path.join(folder, 'express.ts'));
  fs.writeFileSync(path.join(folder, 'layout.ts'), await layout());
  const code = compile(folder).toString('base64');
  const text = `/** Made of kernel/express.ts by \`npm run kernel\`: a WebAssembly module. Not to be edited. */\nexport const KERNEL_CODE =\n  '${code}';\n`;
  if (!process.argv.includes('--check')) {
    fs.writeFileSync(target, text);
    console.log(`${target}: ${code.length} characters`);
  } else if (fs.readFileSync(target, 'utf8') !== text) {
    console.error(`${target} is not what kernel/express.ts gives: npm run kernel`);
    process.exitCode = 1;
  }
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
