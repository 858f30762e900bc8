/** Lists the packages that an installation brings, with version and licence, from package-lock.json; exits with 1 if one
 *  runs a script when it is installed, has no checksum, or a licence that is not on the list below.
 *
 *      npm run licenses */
import fs from 'node:fs';

/** Licences that may be passed on with Apache-2.0 software. */
const FREE = [
  'Apache-2.0',
  'MIT',
  'ISC',
  'BSD-2-Clause',
  'BSD-3-Clause',
  '0BSD',
  'MPL-2.0',
  'CC0-1.0',
  'Unlicense',
  'BlueOak-1.0.0',
];

const root = new URL('../', import.meta.url);
const { packages } = JSON.parse(fs.readFileSync(new URL('package-lock.json', root), 'utf8'));
const rows = [];
const problems = [];
for (const [path, p] of Object.entries(packages)) {
  if (path === '' || p.dev || p.devOptional) continue;
  const name = path.replace(/^.*node_modules\//, '');
  const license = p.license ?? 'none given';
  rows.push(`${name} ${p.version}: ${license}${p.optional ? ' (optional)' : ''}`);
  if (p.hasInstallScript) problems.push(`${name} runs a script when it is installed`);
  if (p.integrity === undefined) problems.push(`${name} has no checksum in package-lock.json`);
  const choices = license.replace(/[()]/g, '').split(' OR ');
  if (!choices.some((choice) => choice.split(' AND ').every((l) => FREE.includes(l)))) {
    problems.push(`${name} has the licence ${license}; expected one of ${FREE.join(', ')}`);
  }
}
console.log(rows.join('\n'));
console.log(`${rows.length} packages`);
for (const problem of problems) console.error(problem);
process.exitCode = problems.length === 0 ? 0 : 1;
