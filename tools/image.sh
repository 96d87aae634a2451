#!/usr/bin/env bash
# Proves the Dockerfile where there is neither a registry nor a container engine.
#
#   tools/image.sh        builds it twice with buildah upon stand-ins for its base images, compares
#                         the two, and runs the service out of the image: read-only, without rights
#
# As root, with buildah, mmdebstrap, redis-server and curl (Debian). The stand-ins are a Debian with
# this machine's Go under the name of golang's image, and CA bundle, passwd and /tmp under that of
# distroless. So this proves the steps and what they make, not the published bases.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'image: %s\n' "$*"; }

[ "$(id -u)" = 0 ] || {
  say "needs root: buildah without a container engine works in a chroot"
  exit 1
}
for command in buildah mmdebstrap redis-server curl; do
  command -v "$command" >/dev/null || {
    say "missing: $command; get it with: sudo apt-get install -y --no-install-recommends $command"
    exit 1
  }
done

work=$(mktemp -d)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
store=(--root "$work/store" --runroot "$work/run")
pids=()
# shellcheck disable=SC2329 # the trap calls it
finish() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  ! mountpoint -q "$work/root" || umount -R "$work/root"
  buildah "${store[@]}" rm --all >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT

base() { # base NAME DIRECTORY
  local container
  container=$(buildah "${store[@]}" from scratch)
  buildah "${store[@]}" add --quiet "$container" "$2" / >/dev/null
  buildah "${store[@]}" config --env "PATH=/usr/local/go/bin:/usr/bin:/bin" --env "GOPROXY=$(go env GOPROXY)" --env GOTOOLCHAIN=local "$container"
  buildah "${store[@]}" commit --quiet "$container" "$1" >/dev/null
  buildah "${store[@]}" rm "$container" >/dev/null
}

stand_ins() {
  mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$work/debian" >/dev/null
  cp -a "$(go env GOROOT)" "$work/debian/usr/local/go"
  # This machine's authorities: its way to the module proxy may need them.
  cp /etc/ssl/certs/ca-certificates.crt "$work/debian/etc/ssl/certs/ca-certificates.crt"
  base docker.io/library/golang:1.26-bookworm "$work/debian"
  mkdir -p "$work/distroless/etc/ssl/certs" "$work/distroless/tmp"
  cp "$work/debian/etc/ssl/certs/ca-certificates.crt" "$work/distroless/etc/ssl/certs/"
  echo "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin" >"$work/distroless/etc/passwd"
  chmod 1777 "$work/distroless/tmp"
  base gcr.io/distroless/static-debian12:nonroot "$work/distroless"
}

# build TAG: without what an earlier build left.
build() {
  buildah "${store[@]}" bud --quiet --pull-never --no-cache --network host --timestamp 1767225600 \
    --build-arg VERSION=1.2.3 --build-arg REVISION=0123456789abcdef --build-arg CREATED=2026-01-01T00:00:00Z \
    --tag "$1" . >/dev/null
}

inspect() { buildah "${store[@]}" inspect --type image --format "$2" "$1"; }


free_port() { /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

say "making stand-ins for the base images"
stand_ins
say "building twice"
build one
build two
first=$(inspect one '{{.FromImageID}}') second=$(inspect two '{{.FromImageID}}') # of the configuration, which names each layer's sum
[ "$first" = "$second" ] || {
  say "two builds differ: $first and $second"
  exit 1
}
say "both builds are $first"

container=$(buildah "${store[@]}" from --pull-never one)
mounted=$(buildah "${store[@]}" mount "$container")
binary=$mounted/usr/local/bin/lamplighter
say "the binary has $(stat -c %s "$binary") bytes, sha256 $(sha256sum "$binary" | cut -d' ' -f1)"
if ldd "$binary" >/dev/null 2>&1; then
  say "the binary is not static"
  exit 1
fi
say "user $(inspect one '{{.OCIv1.Config.User}}'), entry point $(inspect one '{{.OCIv1.Config.Entrypoint}}'), labels:"
# shellcheck disable=SC2016 # a template of Go
inspect one '{{range $name, $value := .OCIv1.Config.Labels}}  {{$name}}={{$value}}{{"\n"}}{{end}}' | grep opencontainers

# Run it: the root read-only, settings and keys mounted, nothing else there.
mkdir "$work/root" "$work/etc"
mkdir -p "$mounted/etc/lamplighter"
mount --bind "$mounted" "$work/root"
mount -o remount,ro,bind "$work/root"
mount --bind "$work/etc" "$work/root/etc/lamplighter"
"$binary" keys generate --out "$work/etc/rsa.pem" >/dev/null
"$binary" keys encryption >"$work/etc/encryption.key"
redis=$(free_port) api=$(free_port) ops=$(free_port)
cat >"$work/etc/lamplighter.yaml" <<EOF
environment: sod
public_url: http://127.0.0.1:$api
redis: {url: "redis://127.0.0.1:$redis/0"}
signing: {keys: [/etc/lamplighter/rsa.pem]}
encryption: {key_file: /etc/lamplighter/encryption.key}
smtp: {disabled: true}
listen: 127.0.0.1:$api
ops_listen: 127.0.0.1:$ops
EOF
chown -R 65532:65532 "$work/etc"
chmod 755 "$work"
redis-server --port "$redis" --save '' --appendonly yes --dir "$work" --daemonize no --logfile "$work/redis.log" &
pids+=($!)
run=(chroot --userspec=65532:65532 "$work/root" /usr/local/bin/lamplighter)
"${run[@]}" version
"${run[@]}" config check --config /etc/lamplighter/lamplighter.yaml
"${run[@]}" serve --config /etc/lamplighter/lamplighter.yaml 2>"$work/serve.log" &
pids+=($!)
ready=
for _ in $(seq 100); do
  if "${run[@]}" healthcheck --config /etc/lamplighter/lamplighter.yaml 2>/dev/null; then
    ready=yes
    break
  fi
  sleep 0.1
done
[ -n "$ready" ] || {
  say "the service did not become ready:"
  cat "$work/serve.log"
  exit 1
}
curl --fail --silent "http://127.0.0.1:$api/login/.well-known/jwks" >/dev/null
# the host's environment variables of the image are what a container has: they listen everywhere
inspect one '{{range .OCIv1.Config.Env}}{{.}} {{end}}'
buildah "${store[@]}" push --quiet one "oci-archive:$work/image.tar"
say "the image has $(stat -c %s "$work/image.tar") bytes as an archive, base included"
kill -TERM "${pids[1]}"
wait "${pids[1]}"
say "it served out of a read-only root as user 65532, and stopped when told to"
