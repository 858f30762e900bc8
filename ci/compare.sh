#!/usr/bin/env bash
# Compares two sides in CI: a table for the job summary, the comparison as JSON, a report, and an exit code.
#
#   SHARDTRACK_BASE        a commit, folder, flow table, capture or stored result; see `shardtrack compare --help`
#   SHARDTRACK_CANDIDATE   what is compared with it (default: this installation)
#   SHARDTRACK_ARGS        further arguments of `shardtrack compare`
#   SHARDTRACK_FAIL_ON     what fails the job, of: slower unknown different (default: slower)
#   SHARDTRACK_OUT         folder for compare.json, compare.md and compare.html (default: shardtrack-results)
#   SHARDTRACK_SUMMARY     file that the table is appended to (default: GITHUB_STEP_SUMMARY, if any)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${SHARDTRACK_OUT:-shardtrack-results}
summary=${SHARDTRACK_SUMMARY:-${GITHUB_STEP_SUMMARY:-}}
base=${SHARDTRACK_BASE:?what is compared with: a commit, folder, flow table, capture or stored result}
candidate=${SHARDTRACK_CANDIDATE:-install:$here/..}
read -ra args <<<"${SHARDTRACK_ARGS:-}"
read -ra fail_on <<<"${SHARDTRACK_FAIL_ON-slower}"
declare -A codes=([slower]=0 [unknown]=0 [different]=0)
declare -A failing=([slower]=1 [unknown]=2 [different]=3)
for what in "${fail_on[@]}"; do
  if [[ -z ${failing[$what]:-} ]]; then
    echo "SHARDTRACK_FAIL_ON: \"$what\" is none of slower, unknown, different" >&2
    exit 64
  fi
  codes[$what]=${failing[$what]}
done
mkdir -p "$out"
status=0
node "$here/../dist/src/cli/main.js" compare "$base" "$candidate" "${args[@]}" \
  --exit-slower "${codes[slower]}" --exit-unknown "${codes[unknown]}" --exit-different "${codes[different]}" \
  --json "$out/compare.json" --markdown "$out/compare.md" --html "$out/compare.html" || status=$?
if [[ -n $summary && -f $out/compare.md ]]; then cat "$out/compare.md" >>"$summary"; fi
exit "$status"
