#!/usr/bin/env bash
# Makes sure that what the tests (or the linters) need from outside the Go
# modules is there: installs it where that is possible without asking (root on a
# Debian-like system; npm packages from the lock file) and otherwise says what is
# missing and how to get it, and fails.
#
#   tools/deps.sh test    C compiler (race detector), redis-server, promtool, npm packages,
#                         Python's and C#'s tools for the sample receivers, SpamAssassin and
#                         Python's dkim for the mails
#   tools/deps.sh lint    shellcheck
#   tools/deps.sh ci      git and make, which .ci/run itself needs
#
# Nothing it installs is left running: the tests start servers of their own.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

interop=test/interop
node_major=20

say() { printf 'deps: %s\n' "$*" >&2; }

# The Debian package that brings a command.
package_of() {
  case $1 in
    redis-server) echo redis-server ;;
    promtool) echo prometheus ;;
    shellcheck) echo shellcheck ;;
    spamassassin) echo spamassassin ;;
    mcs) echo mono-mcs libmono-system-runtime-serialization4.0-cil ;;
    mono) echo mono-runtime ;;
    cc | gcc | clang) echo gcc libc6-dev ;;
    *) echo "$1" ;;
  esac
}

# Debian starts a service as soon as its package is installed. A policy that
# answers 101 forbids it; an existing policy is the administrator's and stays.
policy=/usr/sbin/policy-rc.d
policy_is_ours=
forbid_services() {
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    policy_is_ours=yes
  fi
}
allow_services() {
  if [ -n "$policy_is_ours" ]; then
    rm -f "$policy"
    policy_is_ours=
  fi
}
trap allow_services EXIT

# With systemd, a unit that is merely enabled would start at the next boot.
silence() {
  local unit
  [ -d /run/systemd/system ] || return 0
  for unit in redis-server prometheus prometheus-node-exporter; do
    systemctl disable --now "$unit" >/dev/null 2>&1 || true
  done
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
  local redis_ran=
  answers 6379 && redis_ran=yes
  say "installing $*"
  forbid_services
  export DEBIAN_FRONTEND=noninteractive
  # The package lists may be absent or old; they are fetched only when needed.
  if ! apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null 2>&1; then
    apt-get update -qq </dev/null >&2
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >&2
  fi
  allow_services
  silence
  if [ -z "$redis_ran" ] && answers 6379; then
    say "something began to answer on port 6379 during the installation: stop it (service redis-server stop)"
    return 1
  fi
}

# need COMMAND...: installs the commands that are missing, all in one go.
need() {
  local command missing=() packages=()
  for command in "$@"; do
    command -v "$command" >/dev/null && continue
    missing+=("$command")
    read -r -a names <<<"$(package_of "$command")"
    packages+=("${names[@]}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if can_install; then
    apt_install "${packages[@]}"
  fi
  local failed=
  for command in "${missing[@]}"; do
    command -v "$command" >/dev/null && continue
    failed=yes
    say "missing: $command"
  done
  [ -n "$failed" ] || return 0
  say "get it with: sudo apt-get install -y --no-install-recommends ${packages[*]}   (Debian, Ubuntu)"
  say "         or: brew install redis prometheus shellcheck mono spamassassin                   (macOS)"
  say "then run this again"
  return 1
}

# The interoperability tests run partners' own npm libraries on Node.
interop_packages() {
  [ -f "$interop/package.json" ] || return 0
  local have
  have=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
  if [ "$have" -lt "$node_major" ] || ! command -v npm >/dev/null; then
    say "missing: Node.js $node_major or newer with npm (found major version: $have); $interop needs it"
    say "get it from https://nodejs.org, a version manager or your package manager, then run this again"
    return 1
  fi
  # npm writes this file last, so an interrupted installation is repeated.
  if [ "$interop/node_modules/.package-lock.json" -nt "$interop/package-lock.json" ]; then
    return 0
  fi
  say "npm ci in $interop"
  npm ci --prefix "$interop" --no-audit --no-fund --loglevel=error </dev/null >&2
  touch "$interop/node_modules/.package-lock.json"
}

# Debian keeps Python's packages for its own interpreter, which need not be the
# first on the PATH.
python_ready() {
  local python
  for python in /usr/bin/python3 python3; do
    "$python" -c 'import cryptography, dkim, jwt' 2>/dev/null && return 0
  done
  return 1
}

# The Python sample receiver needs two packages, the check of signed mail a third.
python_packages() {
  local -a packages=(python3 python3-jwt python3-cryptography python3-dkim)
  python_ready && return 0
  if can_install; then
    apt_install "${packages[@]}"
    python_ready && return 0
  fi
  say "missing: python3 with the packages jwt, cryptography and dkim"
  say "get them with: sudo apt-get install -y --no-install-recommends ${packages[*]}   (Debian, Ubuntu)"
  say "           or: python3 -m pip install 'pyjwt[crypto]' 'dkimpy[ed25519]'"
  say "then run this again"
  return 1
}

case ${1:-} in
  test)
    # All parts report before this fails, so one run names all that is missing.
    status=0
    need "$(go env CC)" curl redis-server promtool mcs mono spamassassin || status=1
    python_packages || status=1
    interop_packages || status=1
    exit "$status"
    ;;
  lint)
    need shellcheck
    ;;
  ci)
    need git make
    ;;
  *)
    say "usage: tools/deps.sh test|lint|ci"
    exit 2
    ;;
esac
