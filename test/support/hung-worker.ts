/** Entry point of a worker that takes nothing from its ring, for ever. */
import { misbehave } from '../../src/datapath/fault.js';

export default function run(): void {
  misbehave('hang');
}
