/** `replay --dpflows`: the caches of all workers as one list. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

test('dpflows: every packet is counted for each of its passes, whoever ran it and however', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-dpflows-'));
  try {
    const totals = ['0', '1', '2'].map((workers) => {
      const file = path.join(dir, `${workers}.txt`);
      execFileSync(
        process.execPath,
        [
          ...['dist/src/cli/main.js', 'replay', 'fixtures/captures/web-client.pcap', '--quiet'],
          ...['--inside', '192.168.100.0/24', '--flows', 'fixtures/flows/firewall.txt'],
          ...['--workers', workers, '--dpflows', file],
        ],
        { cwd: ROOT, stdio: 'ignore' },
      );
      const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n');
      assert.ok(
        lines.some((l) =>
          l.startsWith('ct_state(-trk),recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no), '),
        ),
      );
      let packets = 0;
      for (const line of lines) {
        const match =
          /^[a-z].*\), packets:([0-9]+), bytes:[0-9]+, used:(never|[0-9.]+s), actions:[a-z0-9].*$/.exec(line);
        assert.ok(match !== null, line);
        packets += Number(match[1]);
      }
      return { packets, flows: lines.length };
    });
    assert.deepEqual(totals[1], totals[0]);
    // The first packet of a megaflow is counted by none, and each worker has its own first.
    assert.ok(
      totals[2].packets <= totals[0].packets && totals[2].packets > totals[0].packets - 2 * totals[0].flows,
    );
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});
