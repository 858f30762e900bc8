/** Whether stored results are what docs/bench.schema.json says: the keywords of JSON Schema (draft 2020-12) that it
 *  uses. Properties that it does not know are let pass: results of a later program may have more. */
import fs from 'node:fs';

interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string | readonly string[];
  const?: unknown;
  enum?: readonly unknown[];
  oneOf?: readonly Schema[];
  properties?: Record<string, Schema>;
  required?: readonly string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  minItems?: number;
  pattern?: string;
  minimum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

let loaded: Schema | null = null;

function resultsSchema(): Schema {
  loaded ??= JSON.parse(
    fs.readFileSync(new URL('../../../docs/bench.schema.json', import.meta.url), 'utf8'),
  ) as Schema;
  return loaded;
}

/** The first thing in which `value` is not as the schema says: where, and what is expected there; null: there is none. */
export function resultsMistake(value: unknown): string | null {
  const root = resultsSchema();
  return mistake(value, root, root, '');
}

function typeOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
}

function hasType(value: unknown, type: string): boolean {
  // JSON has numbers that no double is: 1e999.
  if (typeof value === 'number' && !Number.isFinite(value)) return false;
  return type === 'integer' ? Number.isInteger(value) : typeOf(value) === type;
}

function mistake(value: unknown, schema: Schema, root: Schema, at: string): string | null {
  const no = (expected: string): string => `${at === '' ? 'the whole' : at}: expected ${expected}`;
  if (schema.$ref !== undefined) {
    const name = schema.$ref.slice(schema.$ref.lastIndexOf('/') + 1);
    return mistake(value, (root.$defs as Record<string, Schema>)[name], root, at);
  }
  const { type, oneOf, minItems = 0 } = schema;
  if (oneOf !== undefined) {
    const found = oneOf.map((one) => mistake(value, one, root, at));
    // The last one has most to say.
    return found.includes(null) ? null : found[found.length - 1];
  }
  const types = type === undefined ? [] : typeof type === 'string' ? [type] : type;
  if (types.length > 0 && !types.some((t) => hasType(value, t))) return no(types.join(' or '));
  if ('const' in schema && value !== schema.const) return no(JSON.stringify(schema.const));
  if (schema.enum !== undefined && !schema.enum.includes(value)) return no(schema.enum.join(' or '));
  if (typeof value === 'string' && schema.pattern !== undefined && !new RegExp(schema.pattern).test(value))
    return no(`text like ${schema.pattern}`);
  if (typeof value === 'number') {
    const { minimum = -Infinity, exclusiveMinimum = -Infinity, exclusiveMaximum = Infinity } = schema;
    if (value < minimum) return no(`${minimum} or more`);
    if (value <= exclusiveMinimum || value >= exclusiveMaximum)
      return no(`more than ${exclusiveMinimum} and less than ${exclusiveMaximum}`);
  }
  if (Array.isArray(value)) {
    if (value.length < minItems) return no(`${minItems} or more elements`);
    return schema.items === undefined
      ? null
      : first(value, (v, i) => mistake(v, schema.items as Schema, root, `${at}[${i}]`));
  }
  if (typeof value !== 'object' || value === null) return null;
  const missing = schema.required?.find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) return no(`"${missing}"`);
  return first(Object.entries(value), ([name, v]) => {
    const { properties = {}, additionalProperties: others } = schema;
    const of = Object.hasOwn(properties, name)
      ? properties[name]
      : typeof others === 'object'
        ? others
        : null;
    return of === null ? null : mistake(v, of, root, at === '' ? name : `${at}.${name}`);
  });
}

function first<T>(values: readonly T[], of: (value: T, i: number) => string | null): string | null {
  for (const [i, value] of values.entries()) {
    const found = of(value, i);
    if (found !== null) return found;
  }
  return null;
}
