#!/usr/bin/env bash
# Checks the systemd unit: its syntax, and how much it leaves the service exposed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

most=1.5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v systemd-analyze >/dev/null || {
  echo "units: missing: systemd-analyze; get it with: sudo apt-get install -y --no-install-recommends systemd"
  exit 1
}
# verify wants the binary to be where the unit says: here, any that can be executed.
sed 's#/usr/local/bin/lamplighter#/bin/true#' docs/deploy/systemd/lamplighter.service >"$work/lamplighter.service"
systemd-analyze verify "$work/lamplighter.service"
systemd-analyze security --offline=true --threshold="${most/./}" "$work/lamplighter.service" | tail -1
