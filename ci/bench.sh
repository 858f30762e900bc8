#!/usr/bin/env bash
# Measures workloads in CI: a table for the job summary, results as JSON, a report, a line of history and where it changed.
#
#   SHARDTRACK_WORKLOADS   names as of `shardtrack generate --list` (default: those of `shardtrack bench`)
#   SHARDTRACK_ARGS        further arguments of `shardtrack bench`
#   SHARDTRACK_OUT         folder for bench.json, bench.md and bench.html (default: shardtrack-results)
#   SHARDTRACK_HISTORY     file that a line of JSON is appended to (default: none)
#   SHARDTRACK_SUMMARY     file that the table is appended to (default: GITHUB_STEP_SUMMARY, if any)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${SHARDTRACK_OUT:-shardtrack-results}
summary=${SHARDTRACK_SUMMARY:-${GITHUB_STEP_SUMMARY:-}}
read -ra workloads <<<"${SHARDTRACK_WORKLOADS:-}"
read -ra args <<<"${SHARDTRACK_ARGS:-}"
if [[ -n ${SHARDTRACK_HISTORY:-} ]]; then
  mkdir -p "$(dirname "$SHARDTRACK_HISTORY")"
  args+=(--history "$SHARDTRACK_HISTORY")
fi
mkdir -p "$out"
node "$here/../dist/src/cli/main.js" bench "${workloads[@]}" "${args[@]}" \
  --json "$out/bench.json" --markdown "$out/bench.md" --html "$out/bench.html"
if [[ -n ${SHARDTRACK_HISTORY:-} ]]; then
  {
    printf '\n### History\n\n```\n'
    node "$here/../dist/src/cli/main.js" report --history "$SHARDTRACK_HISTORY"
    printf '```\n'
  } >>"$out/bench.md"
fi
if [[ -n $summary ]]; then cat "$out/bench.md" >>"$summary"; fi
