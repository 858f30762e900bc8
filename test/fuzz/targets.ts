/** All fuzzers. */
import { conversationsTarget } from './conversations.js';
import { compressedTarget, pcapngTarget, pcapTarget } from './files.js';
import { framesTarget, reassemblyTarget } from './frames.js';
import { replayTarget } from './replays.js';
import type { MakeTarget } from './target.js';
import { eventsTarget, flowsTarget, ftpTarget, groupsTarget, prefixTarget } from './texts.js';

export const TARGETS: readonly MakeTarget[] = [
  pcapTarget,
  pcapngTarget,
  compressedTarget,
  framesTarget,
  reassemblyTarget,
  conversationsTarget,
  ftpTarget,
  flowsTarget,
  groupsTarget,
  eventsTarget,
  prefixTarget,
  replayTarget,
];
