#!/usr/bin/env bash
# Builds the binary upon a copy of Go's time package whose clock CLOCK_SKEW_SECONDS sets wrong, and runs an
# API and two workers whose clocks differ, under load. faketime cannot do that: a Go program asks the kernel
# for the time without the C library.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
original=$(go env GOROOT)/src/time/time.go
cp "$original" "$work/time.go"
sed -i -e 's|^\tsec, nsec, mono := runtimeNow()$|&\n\tsec += clockSkew|' -e '0,/^import (/s||import (\n\t"syscall"|' "$work/time.go"
grep -q 'sec += clockSkew' "$work/time.go" || {
  echo "skew: time.Now of this Go is written otherwise: adapt tools/skew.sh"
  exit 1
}
cat >>"$work/time.go" <<'GO'

// clockSkew is how many seconds the clock of this process is ahead.
var clockSkew = readSkew()

func readSkew() (n int64) {
	text, _ := syscall.Getenv("CLOCK_SKEW_SECONDS")
	sign := int64(1)
	for i := 0; i < len(text); i++ {
		if text[i] == '-' {
			sign = -1
		} else {
			n = n*10 + int64(text[i]-'0')
		}
	}
	return sign * n
}
GO
printf '{"Replace": {"%s": "%s"}}\n' "$original" "$work/time.go" >"$work/overlay.json"
CGO_ENABLED=0 go build -overlay "$work/overlay.json" -o "$work/lamplighter" ./cmd/lamplighter
go test ./test/e2e -run '^TestAMinuteOfSkew$' -count=1 -v -args -skew.binary="$work/lamplighter" "$@"
