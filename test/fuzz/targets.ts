/** All fuzzers. */
import { conversationsTarget } from './conversations.js';
import { compressedTarget, pcapngTarget, pcapTarget } from './files.js';
import { framesTarget, reassemblyTarget } from './frames.js';
import { checkpointTarget, filterTarget, optionsTarget, resultsTarget } from './inputs.js';
import { replayTarget } from './replays.js';
import { slicesTarget } from './slices.js';
import type { MakeTarget } from './target.js';
import { eventsTarget, flowsTarget, ftpTarget, groupsTarget, prefixTarget } from './texts.js';

export const TARGETS: readonly MakeTarget[] = [
  pcapTarget,
  pcapngTarget,
  compressedTarget,
  framesTarget,
  reassemblyTarget,
  conversationsTarget,
  slicesTarget,
  ftpTarget,
  flowsTarget,
  groupsTarget,
  eventsTarget,
  prefixTarget,
  filterTarget,
  optionsTarget,
  resultsTarget,
  checkpointTarget,
  replayTarget,
];
