#!/usr/bin/env bash
# Keeps a history of results on a branch of its own, without touching the working tree: `pull` before measuring, `push` after.
#
#   ci/history.sh pull FILE    writes what the branch has to FILE; an empty one if there is no such branch yet
#   ci/history.sh push FILE    adds the lines of FILE that the branch has not, as a commit; tries again if others push meanwhile
#
#   SHARDTRACK_HISTORY_BRANCH  default: shardtrack-history
#   SHARDTRACK_HISTORY_NAME    name of the file on the branch (default: bench.ndjson)
#   SHARDTRACK_HISTORY_REMOTE  default: origin
set -euo pipefail
branch=${SHARDTRACK_HISTORY_BRANCH:-shardtrack-history}
name=${SHARDTRACK_HISTORY_NAME:-bench.ndjson}
remote=${SHARDTRACK_HISTORY_REMOTE:-origin}
tries=5
usage() { sed -n '4,5s/^# *//p' "${BASH_SOURCE[0]}" >&2; exit 64; }
[[ $# -eq 2 ]] || usage
file=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sets `tip` to the commit that the branch is at, or nothing, and writes its lines to $work/old.
fetch() {
  local status=0
  git ls-remote --exit-code "$remote" "refs/heads/$branch" >/dev/null || status=$?
  tip=
  : >"$work/old"
  # 2: there is no such branch. Anything else is an error, and no reason to begin anew.
  if [[ $status -eq 2 ]]; then return; fi
  if [[ $status -ne 0 ]]; then exit "$status"; fi
  # A checkout with all of its history stays one.
  local depth=()
  if [[ $(git rev-parse --is-shallow-repository) == true ]]; then depth=(--depth=1); fi
  git fetch --quiet "${depth[@]}" "$remote" "refs/heads/$branch"
  tip=$(git rev-parse FETCH_HEAD)
  if git cat-file -e "$tip:$name" 2>/dev/null; then git cat-file blob "$tip:$name" >"$work/old"; fi
}

case $1 in
  pull)
    fetch
    mkdir -p "$(dirname "$file")"
    cp "$work/old" "$file"
    ;;
  push)
    if [[ ! -f $file ]]; then
      echo "history.sh: $file: there is no such file" >&2
      exit 66
    fi
    export GIT_AUTHOR_NAME=${GIT_AUTHOR_NAME:-shardtrack} GIT_AUTHOR_EMAIL=${GIT_AUTHOR_EMAIL:-shardtrack@localhost}
    export GIT_COMMITTER_NAME=${GIT_COMMITTER_NAME:-$GIT_AUTHOR_NAME} GIT_COMMITTER_EMAIL=${GIT_COMMITTER_EMAIL:-$GIT_AUTHOR_EMAIL}
    for ((try = 1; ; try++)); do
      before=${tip-none}
      fetch
      if [[ $before == "$tip" ]]; then
        echo "history.sh: the push to $branch was refused, as said above, and not because others have pushed" >&2
        exit 1
      fi
      awk 'NR == FNR { if (FILENAME == ARGV[1]) { seen[$0]; next } } !($0 in seen)' "$work/old" "$file" >"$work/more"
      if [[ ! -s $work/more ]]; then break; fi
      blob=$(cat "$work/old" "$work/more" | git hash-object -w --stdin)
      export GIT_INDEX_FILE=$work/index
      rm -f "$work/index"
      if [[ -n $tip ]]; then git read-tree "$tip"; fi
      git update-index --add --cacheinfo "100644,$blob,$name"
      tree=$(git write-tree)
      unset GIT_INDEX_FILE
      commit=$(git commit-tree "$tree" ${tip:+-p "$tip"} -m "Add $(wc -l <"$work/more" | tr -d ' ') to $name")
      if git push --quiet "$remote" "$commit:refs/heads/$branch"; then break; fi
      if ((try == tries)); then
        echo "history.sh: others were faster $tries times; nothing was pushed to $branch" >&2
        exit 1
      fi
      sleep "$try"
    done
    ;;
  *) usage ;;
esac
