/** All of them, in the order in which they are reported. */
import { CHECKSUMS } from './checksums.js';
import { CLASSIFIER } from './classifier.js';
import { HASHING } from './hashing.js';
import { LOOKUP } from './lookup.js';
import { MEGAFLOW } from './megaflow.js';
import { PARSING } from './parsing.js';
import { RINGS } from './rings.js';
import { TCP } from './tcp.js';
import { TRANSLATION } from './translation.js';
import type { Variant } from './variant.js';

export const VARIANTS: readonly Variant[] = [
  ...HASHING,
  ...PARSING,
  ...CHECKSUMS,
  ...RINGS,
  ...LOOKUP,
  ...TCP,
  ...MEGAFLOW,
  ...CLASSIFIER,
  ...TRANSLATION,
];
