#!/usr/bin/env bash
# Checks the Helm chart.
#
#   tools/chart.sh check    lint, unit tests, and every ci/ variant rendered and checked by
#                           `lamplighter config check`; needs helm and bin/lamplighter
#   tools/chart.sh strict   every ci/ variant against closed schemas of Kubernetes and of the
#                           custom resources, rendered by Helm 3 and by Helm 4
#   tools/chart.sh docs     writes the chart's README
#
# The tools are built by make. No cluster and no registry is asked.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

chart=charts/lamplighter
kubernetes=1.37.2
python=/usr/bin/python3 # Debian keeps python3-yaml for its own interpreter
# Modules whose files hold the custom resources' schemas.
crds=(
  "github.com/prometheus-operator/prometheus-operator@v0.88.0 example/prometheus-operator-crd/monitoring.coreos.com_"
  "sigs.k8s.io/gateway-api@v1.4.0 config/crd/standard/gateway.networking.k8s.io_httproutes"
  "github.com/kedacore/keda/v2@v2.21.0 config/crd/bases/keda.sh_scaledobjects"
)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf 'chart: %s\n' "$*"; }

# render HELM VALUES: what a cluster would get.
render() { "$1" template release "$chart" --namespace apps --kube-version "$kubernetes" --values "$2"; }

variants() { find "$chart/ci" -name '*-values.yaml' | sort; }

# Every file that the settings name, with a key in it that fits.
secrets() {
  mkdir -p "$work/etc/secrets" "$work/etc/signing" "$work/etc/redis"
  bin/lamplighter keys generate --starts-in 0s --out "$work/etc/signing/0.pem" >/dev/null
  bin/lamplighter keys generate --alg ES256 --out "$work/etc/signing/1.pem" >/dev/null
  cp "$work/etc/signing/0.pem" "$work/etc/secrets/rsa.pem"
  local name
  # A key with its certificate is what TLS reads, too.
  for name in ca cert key; do cp "$work/etc/signing/0.pem" "$work/etc/redis/$name"; done
  for name in encryption.key encryption.older_keys encryption-key; do
    bin/lamplighter keys encryption >"$work/etc/secrets/$name"
  done
  for name in bootstrap_token bootstrap-token redis.password redis.sentinel_password smtp.password; do
    echo "lmp_0123456789abcdef0123456789" >"$work/etc/secrets/$name"
  done
  echo "redis://redis:6379/0" | tee "$work/etc/secrets/redis.url" >"$work/etc/secrets/redis-url"
}

check() {
  local values name
  secrets
  while IFS= read -r values; do
    name=$(basename "$values")
    helm lint --strict --quiet --kube-version "$kubernetes" --values "$values" "$chart"
    render helm "$values" >"$work/all.yaml"
    # The settings as a pod would see them, with the mounted files where they are here.
    helm template release "$chart" --kube-version "$kubernetes" --values "$values" --show-only templates/configmap.yaml |
      sed '1,/^  lamplighter.yaml: |/d; s/^    //' >"$work/settings.yaml"
    sed -i "s#/etc/lamplighter/#$work/etc/#; s#: /secrets/#: $work/etc/secrets/#; s#- /secrets/#- $work/etc/secrets/#" "$work/settings.yaml"
    bin/lamplighter config check --config "$work/settings.yaml" >/dev/null
    say "$name: linted, $(grep -c '^kind:' "$work/all.yaml") objects, settings are good"
  done < <(variants)
  helm-unittest --color=false "$chart"
}

strict() {
  if ! "$python" -c 'import yaml' 2>/dev/null; then
    say "missing: $python with the package yaml; get it with: sudo apt-get install -y python3-yaml"
    return 1
  fi
  local module prefix dir values helm
  local -a files=()
  for entry in "${crds[@]}"; do
    read -r module prefix <<<"$entry"
    dir=$(go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    files+=("$dir/$prefix"*.yaml)
  done
  dir=$(go mod download -json "k8s.io/kubernetes@v$kubernetes" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  "$python" tools/mkschemas.py "$work/v$kubernetes-standalone-strict" "$dir/api/openapi-spec/swagger.json" "${files[@]}"
  conform() {
    kubeconform -strict -summary -kubernetes-version "$kubernetes" \
      -schema-location "$work/{{.NormalizedKubernetesVersion}}-standalone{{.StrictSuffix}}/{{.ResourceKind}}{{.KindSuffix}}.json" "$1"
  }
  # Schemas that let a misspelt field pass would prove nothing.
  printf 'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {prots: []}\n' >"$work/wrong.yaml"
  if conform "$work/wrong.yaml" >/dev/null; then
    say "the schemas accept a field that does not exist"
    return 1
  fi
  while IFS= read -r values; do
    for helm in helm helm4; do
      "$helm" lint --strict --quiet --kube-version "$kubernetes" --values "$values" "$chart"
      render "$helm" "$values" >"$work/all.yaml"
      printf '%s, %s: ' "$(basename "$values")" "$helm"
      conform "$work/all.yaml"
    done
  done < <(variants)
}

docs() { helm-docs --chart-search-root charts --sort-values-order file --skip-version-footer --log-level warning; }

case ${1:-} in
  check | strict | docs) "$1" ;;
  *)
    say "usage: tools/chart.sh check|strict|docs"
    exit 2
    ;;
esac
