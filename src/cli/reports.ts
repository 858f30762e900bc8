/** Files that a command writes when it is done. They are opened before it begins: that one can't be written is told at
 *  once, not after minutes of measuring. */
import { OutputFile } from '../pcap/output-file.js';
import { checkOutputs } from './options.js';

export class Reports<Name extends string> {
  private readonly files = new Map<Name, OutputFile>();

  /** Throws UsageError if two have one file, Error if one can't be opened. */
  constructor(paths: { readonly [name in Name]: string | undefined }) {
    checkOutputs(Object.values<string | undefined>(paths));
    try {
      for (const [name, path] of Object.entries<string | undefined>(paths)) {
        if (path !== undefined) this.files.set(name as Name, new OutputFile(path));
      }
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  /** Whether one of them is standard output. */
  get taken(): boolean {
    return [...this.files.values()].some(({ path }) => path === '-');
  }

  /** Writes a file if it was asked for. */
  async write(name: Name, text: () => string | Promise<string>): Promise<void> {
    const file = this.files.get(name);
    if (file === undefined) return;
    file.writeText(await text());
    file.finish();
  }

  /** Leaves nothing of those that have not been written. */
  discard(): void {
    for (const file of this.files.values()) file.discard();
  }
}
