/** Whether stored results are what docs/bench.schema.json says. Properties that it does not know are let pass: results
 *  of a later program may have more. */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import type { ErrorObject, ValidateFunction } from 'ajv/dist/2020.js';

let loaded: ValidateFunction | null = null;

/** Ajv is loaded when there are results to read: a tenth of a second. */
function validator(): ValidateFunction {
  if (loaded !== null) return loaded;
  const { Ajv2020 } = createRequire(import.meta.url)('ajv/dist/2020.js') as typeof import('ajv/dist/2020.js');
  const text = fs.readFileSync(new URL('../../../docs/bench.schema.json', import.meta.url), 'utf8');
  const open = JSON.parse(text, (key, value) =>
    key === 'additionalProperties' && value === false ? true : value,
  );
  loaded = new Ajv2020({ allowUnionTypes: true }).compile(open);
  return loaded;
}

/** The first thing in which `value` is not as the schema says: where, and what is expected there; null: there is none. */
export function resultsMistake(value: unknown): string | null {
  const validate = validator();
  if (validate(value)) return null;
  // Of alternatives, the first of which mostly is null, the last one has most to say.
  const { instancePath, message, params } = (validate.errors as ErrorObject[])
    .filter((e) => e.keyword !== 'oneOf')
    .at(-1) as ErrorObject;
  const at = instancePath
    .slice(1)
    .replace(/(^|\/)(\d+)(?=\/|$)/g, '[$2]')
    .replaceAll('/', '.');
  const allowed = params.allowedValue ?? params.allowedValues;
  return `${at === '' ? 'the whole' : at} ${message}${allowed === undefined ? '' : `: ${JSON.stringify(allowed)}`}`;
}
