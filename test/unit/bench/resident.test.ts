import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Resident } from '../../../src/bench/resident.js';
import { madeSpec, prepare } from '../../../src/bench/spec.js';
import { workloadNamed } from '../../../src/generate/workloads.js';

test('resident: a worker that hangs is told of', async () => {
  const workload = workloadNamed('udp');
  const made = madeSpec({ ...workload, traffic: { ...workload.traffic, packets: 2000, connections: 100 } });
  const prepared = await prepare({ name: 'udp', made, replayed: null, workers: 1 });
  const file = fileURLToPath(new URL('../../support/hung-worker.js', import.meta.url));
  const resident = new Resident(prepared, { workers: 1, watchdog: 1, worker: { file, data: null } });
  resident.start();
  await assert.rejects(
    resident.run(100),
    /no packet of 100 in flight has been completed for 1 s: worker 0 is stuck/,
  );
  await resident.stop();
});
