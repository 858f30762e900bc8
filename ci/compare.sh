#!/usr/bin/env bash
# Compares two sides in CI: a table for the job summary, the comparison as JSON, a report, and an exit code.
#
#   SHARDTRACK_BASE        a commit, folder, flow table, capture or stored result; see `shardtrack compare --help`. A commit
#                          (git:HASH or git:BRANCH) that a shallow checkout of Shardtrack has not is fetched from its origin
#   SHARDTRACK_CANDIDATE   what is compared with it (default: this installation)
#   SHARDTRACK_ARGS        further arguments of `shardtrack compare`
#   SHARDTRACK_FAIL_ON     what fails the job, of: slower unknown different (default: slower)
#   SHARDTRACK_OUT         folder for compare.json, compare.md and compare.html (default: shardtrack-results)
#   SHARDTRACK_SUMMARY     file that the table is appended to (default: GITHUB_STEP_SUMMARY, if any)
#
# Ends with 0, or 1, 2, 3 for what fails the job, or 4 if nothing could be compared, 64 for a mistake in these variables.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${SHARDTRACK_OUT:-shardtrack-results}
summary=${SHARDTRACK_SUMMARY:-${GITHUB_STEP_SUMMARY:-}}
base=${SHARDTRACK_BASE:-}
candidate=${SHARDTRACK_CANDIDATE:-install:${here%/ci}}
if [[ -z $base ]]; then
  echo "SHARDTRACK_BASE: expected what is compared with: a commit, folder, flow table, capture or stored result" >&2
  exit 64
fi
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
own() { git -C "$here" "$@"; }
if [[ $base == git:* ]] && ! own rev-parse --verify --quiet "${base#git:}^{commit}" >/dev/null &&
  [[ $(own rev-parse --is-shallow-repository) == true ]]; then
  # If not, compare says what is missing.
  if own fetch --quiet --depth=1 origin "${base#git:}"; then base=git:$(own rev-parse FETCH_HEAD); fi
fi
mkdir -p "$out"
status=0
node "$here/../dist/src/cli/main.js" compare "$base" "$candidate" "${args[@]}" \
  --exit-slower "${codes[slower]}" --exit-unknown "${codes[unknown]}" --exit-different "${codes[different]}" \
  --json "$out/compare.json" --markdown "$out/compare.md" --html "$out/compare.html" || status=$?
if [[ -n $summary && -f $out/compare.md ]]; then cat "$out/compare.md" >>"$summary"; fi
exit "$status"
