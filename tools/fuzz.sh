#!/usr/bin/env bash
# Runs every fuzz target of the module for a while: Go fuzzes one target at a time.
#
#   tools/fuzz.sh 5s     how long each target runs (Go's duration or 1000x)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
duration=${1:-5s}

count=0
while IFS=: read -r file line; do
  target=${line#func }
  target=${target%%(*}
  package=./$(dirname "$file")
  printf '== %s %s\n' "$package" "$target"
  go test -run '^$' -fuzz "^${target}\$" -fuzztime "$duration" "$package"
  count=$((count + 1))
done < <(git ls-files -z --cached --others --exclude-standard -- '*_test.go' |
  xargs -0 -r grep -H -o -E '^func Fuzz[A-Za-z0-9_]*\(' | sort)

printf '%d fuzz targets, %s each\n' "$count" "$duration"
