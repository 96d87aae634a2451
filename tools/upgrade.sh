#!/usr/bin/env bash
# Builds an older version beside this one and upgrades from it under load.
#
#   tools/upgrade.sh [COMMIT] [FLAGS...]   COMMIT: the newest tag, or the last commit of data format 1
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
from=${1:-}
shift || true
differ=()
if [ -z "$from" ]; then
  from=$(git describe --tags --abbrev=0 2>/dev/null || true)
fi
if [ -z "$from" ]; then
  raised=$(git log --format=%H -S'payloadWithNumber = 2' -- internal/delivery | tail -1)
  [ -n "$raised" ] || {
    echo "upgrade: no tag, and the history does not reach back to data format 1: name a commit, FROM=COMMIT"
    exit 1
  }
  from=$raised~1
  differ=(-upgrade.differ)
fi

work=$(mktemp -d)
trap 'git worktree remove --force "$work/old" 2>/dev/null || true; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/old" "$from"
printf 'upgrade: from %s\n' "$(git -C "$work/old" log -1 --format='%h %s')"
(cd "$work/old" && CGO_ENABLED=0 go build -o "$work/lamplighter" ./cmd/lamplighter)
go test ./test/e2e -timeout 30m -run '^(TestRollingUpgrade|TestDataOfAnOlderFormat)$' -count=1 -v -args -upgrade.from="$work/lamplighter" "${differ[@]}" "$@"
