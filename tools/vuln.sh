#!/usr/bin/env bash
# vuln.sh [FOLDER]: looks for known vulnerabilities that the code reaches. FOLDER holds a copy of the database
# (https://go.dev/doc/security/vuln/database); without it, https://vuln.go.dev is asked.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-}
if [ -n "$folder" ]; then
  if [ ! -f "$folder/index/modules.json" ]; then
    echo "vuln: $folder holds no vulnerability database: it must have index/modules.json" >&2
    exit 2
  fi
  exec .tools/govulncheck -db "file://$(cd "$folder" && pwd)" ./...
fi
if ! curl --silent --fail --max-time 10 --output /dev/null https://vuln.go.dev/index/db.json; then
  echo "vuln: nothing was checked: no database was given (make vuln VULNDB=FOLDER) and https://vuln.go.dev cannot be reached" >&2
  exit 2
fi
exec .tools/govulncheck ./...
