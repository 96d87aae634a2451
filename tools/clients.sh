#!/usr/bin/env bash
# Generates clients from the document that the service serves, compiles them and makes the README's tour with them against
# `lamplighter dev`. Downloads the generators, at these versions.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tours=$PWD/tools/clients/testdata

work=$(mktemp -d)
demo=
trap '[ -z "$demo" ] || kill "$demo"; rm -rf "$work"' EXIT

bin/lamplighter dev >"$work/log" 2>&1 &
demo=$!
for _ in $(seq 100); do
  grep -q 'What happens' "$work/log" && break
  sleep 0.2
done
line() { sed -n "s/^  $1 *//p" "$work/log" | head -1; }
LAMPLIGHTER_URL=$(line API)
LAMPLIGHTER_TOKEN=$(line 'Admin token')
receiver=$(line Receiver)
LAMPLIGHTER_RECEIVER=${receiver%%<*}demo-erp
export LAMPLIGHTER_URL LAMPLIGHTER_TOKEN LAMPLIGHTER_RECEIVER
curl -fsS -H "Authorization: Bearer $LAMPLIGHTER_TOKEN" "$LAMPLIGHTER_URL/v1/openapi.json" -o "$work/openapi.json"

echo 'clients: openapi-typescript, tsc --strict'
mkdir "$work/ts"
cp "$tours/tour.ts" "$work/ts/"
(
  cd "$work/ts"
  echo '{"type": "module"}' >package.json
  npm install --silent --no-fund --no-audit openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3 @types/node@20.19.0
  npx openapi-typescript ../openapi.json -o api.ts >generated
  npx tsc --strict --exactOptionalPropertyTypes --noUncheckedIndexedAccess --noPropertyAccessFromIndexSignature \
    --target es2022 --module esnext --moduleResolution bundler --types node --outDir out tour.ts
  node out/tour.js
)

echo 'clients: oapi-codegen'
mkdir "$work/go"
cp "$tours/tour.go" "$work/go/"
(
  cd "$work/go"
  go mod init tour 2>/dev/null
  go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -generate types,client -package main -o client.go ../openapi.json
  go mod tidy 2>/dev/null
  go run .
)

echo 'clients: ogen'
mkdir "$work/ogen"
(
  cd "$work/ogen"
  go mod init ogen 2>/dev/null
  go run github.com/ogen-go/ogen/cmd/ogen@v1.25.0 --target api --clean ../openapi.json >generated 2>&1 || {
    cat generated
    exit 1
  }
  go mod tidy 2>/dev/null
  go build ./...
)
echo 'clients: all compile, and the tours are done'
