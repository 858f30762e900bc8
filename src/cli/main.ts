#!/usr/bin/env node
/** Loads the program and runs it: a part of it may be what can't be loaded. */
import * as module from 'node:module';

/** Node 22 and later keep the compiled code of the modules loaded from here on (module.enableCompileCache). */
(module as { enableCompileCache?: () => void }).enableCompileCache?.();

try {
  const { run } = await import('./program.js');
  await run();
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code !== 'EMFILE' && code !== 'ENFILE') throw error;
  process.stderr.write(
    `shardtrack: ${message}; more files than the system lets this process open (ulimit -n, see getrlimit(2)): 256 are enough\n`,
  );
  process.exitCode = 1;
}
// A pipe that the input came from may stay open: nobody waits for it, only for those who read what was said.
process.stderr.write('', () => process.stdout.write('', () => process.exit()));
