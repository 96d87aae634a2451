# Everything a developer or CI runs is a target here; `make` alone lists them.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 5s
COUNT ?= 5
BENCH ?= .
BENCHFLAGS ?=
SOAKFLAGS ?= -soak.for=2m -soak.redis=always,everysec,sentinel,cluster -soak.frozen=1m
TRUTHFLAGS ?= -truth.for=60s -truth.seeds=10
FROM ?=
SIZINGFLAGS ?=
UPGRADEFLAGS ?=
# The longest package first: it mostly waits, and the others fill its pauses.
PKG ?= ./test/e2e ./...
WORLD ?=
MUTATEFLAGS ?=
VULNDB ?=
READFLAGS ?=

# Tools are built from tools/go.mod into .tools, which is cached and not committed.
# The tests look for mailpit on the PATH too.
TOOLS := .tools
export PATH := $(CURDIR)/$(TOOLS):$(PATH)

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Run Lamplighter with a demo platform, partner and mail catcher; needs only Go
	@exec bin/lamplighter dev

.PHONY: build
build: ## Build bin/lamplighter, static and stamped with VERSION
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/lamplighter ./cmd/lamplighter

.PHONY: deps
deps: $(TOOLS)/mailpit ## Install what the tests need besides Go modules, or say what is missing
	@tools/deps.sh test

.PHONY: test
test: deps ## Run all tests with the race detector, on real servers (redis, SMTP, Node)
	go test -race -shuffle=on -timeout 30m $(PKG)

.PHONY: test-race
test-race: deps ## Hunt for races: run the tests COUNT times
	go test -race -shuffle=on -timeout 0 -count=$(COUNT) $(PKG)

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Check formatting, code, modules and scripts; changes nothing
	@tools/deps.sh lint
	go mod verify
	go mod tidy -diff
	@# without cgo, as make build: what one compiles is compiled for the other
	CGO_ENABLED=0 go vet ./...
	golangci-lint fmt --diff
	CGO_ENABLED=0 golangci-lint run
	shellcheck tools/*.sh .ci/run

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint ## Format the code (gofumpt, goimports)
	golangci-lint fmt

.PHONY: verify
verify: lint test ## All that must hold before a change is proposed

.PHONY: chart
chart: build $(TOOLS)/helm $(TOOLS)/helm-unittest ## Lint, render and unit-test the Helm chart
	tools/chart.sh check

.PHONY: chart-strict
chart-strict: $(TOOLS)/helm $(TOOLS)/helm4 $(TOOLS)/kubeconform ## Check the chart against closed schemas with Helm 3 and Helm 4 (downloads much)
	tools/chart.sh strict

.PHONY: chart-docs
chart-docs: $(TOOLS)/helm-docs ## Write what is generated in the chart: README, schema, mirrored files
	tools/chart.sh docs
	go test ./charts -update

.PHONY: units
units: ## Check the systemd unit with systemd-analyze
	tools/units.sh

.PHONY: image
image: ## Prove the Dockerfile without registry or engine: build it twice, compare, run it (root, buildah; minutes)
	tools/image.sh

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME
	tools/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: build ## Measure the service beside a plain client; BENCHFLAGS=-short for minutes
	@tools/deps.sh test
	go run ./bench $(BENCHFLAGS)

.PHONY: sizing
sizing: build ## Measure what Redis keeps at a million pairs, and compare it with docs/sizing.md (minutes)
	@tools/deps.sh test
	tools/sizing.py --check docs/sizing.md $(SIZINGFLAGS)

.PHONY: soak
soak: ## Kill, freeze and cut everything under load, and count what is lost or untrue; SOAKFLAGS and TRUTHFLAGS say how long
	@tools/deps.sh test
	go test -tags soak ./test/e2e -run '^TestTruthSoak$$' -count=1 -v -timeout 0 -args $(TRUTHFLAGS)
	go test ./test/e2e -run '^(TestSoak|TestAFrozenWorkerIsReplaced)$$' -count=1 -v -timeout 0 -args $(SOAKFLAGS)

.PHONY: scale
scale: ## Run with millions of pairs and thousands of apps, a slow way to Redis between; SCALEFLAGS and TEST say which (an hour)
	@tools/deps.sh test
	go test -tags soak ./test/e2e -run '^TestScale$(TEST)' -count=1 -v -timeout 0 -args $(SCALEFLAGS)

.PHONY: upgrade-test
upgrade-test: ## Upgrade from an older version, process by process, under load; FROM is its commit (a tag, or format 1)
	@tools/deps.sh test
	tools/upgrade.sh "$(FROM)" $(UPGRADEFLAGS)

.PHONY: skew-test
skew-test: ## Run an API and two workers whose clocks are up to two minutes apart, under load
	@tools/deps.sh test
	tools/skew.sh

.PHONY: microbench
microbench: $(TOOLS)/benchstat ## Run the Go benchmarks matching BENCH COUNT times and summarise them
	@tools/deps.sh test
	@mkdir -p bin
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count=$(COUNT) $(PKG) | tee bin/bench.txt
	benchstat bin/bench.txt

.PHONY: model
model: ## Check the mailbox's rules: each is needed, and all hold in the small worlds named WORLD... (all, minutes)
	go test -C tools/model ./...
	go test -C tools/mutate .
	go test -C tools/readability .
	go run -C tools/model . -world '$(WORLD)'

.PHONY: readability
readability: ## Measure names, words and sentences (READFLAGS=-list one-word|homonyms|words|sentences)
	@go run -C tools/readability . $(READFLAGS)

.PHONY: mutate
mutate: ## Bring small faults into the mailbox's scripts and list those no test notices; MUTATEFLAGS=-part=1/16 for minutes
	go test -C tools/mutate .
	go run -C tools/mutate . $(MUTATEFLAGS)

.PHONY: clients
clients: build ## Generate clients from the API's document, compile them, and make the README's tour with them (downloads much)
	tools/clients.sh

.PHONY: vuln
vuln: $(TOOLS)/govulncheck ## Look for known vulnerabilities that the code reaches; VULNDB is a folder with the database, for machines without a way to it
	tools/vuln.sh "$(VULNDB)"

.PHONY: cover
cover: deps ## Measure test coverage; the report is bin/coverage.html
	@mkdir -p bin
	go test -coverpkg=./... -coverprofile=bin/coverage.txt $(PKG)
	go tool cover -html=bin/coverage.txt -o bin/coverage.html
	go tool cover -func=bin/coverage.txt | tail -1

.PHONY: tools
tools: $(TOOLS)/golangci-lint $(TOOLS)/gofumpt $(TOOLS)/benchstat $(TOOLS)/mailpit ## Build the pinned tools into .tools

$(TOOLS)/golangci-lint: tools/go.mod
	go build -C tools -trimpath -ldflags '-s -w' -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(TOOLS)/gofumpt: tools/go.mod
	go build -C tools -trimpath -ldflags '-s -w' -o ../$@ mvdan.cc/gofumpt
$(TOOLS)/benchstat: tools/go.mod
	go build -C tools -trimpath -ldflags '-s -w' -o ../$@ golang.org/x/perf/cmd/benchstat
$(TOOLS)/mailpit: tools/mailpit/go.mod
	go build -C tools/mailpit -trimpath -ldflags '-s -w' -o ../../$@ github.com/axllent/mailpit
$(TOOLS)/govulncheck: tools/vuln/go.mod
	go build -C tools/vuln -trimpath -ldflags '-s -w' -o ../../$@ golang.org/x/vuln/cmd/govulncheck
$(TOOLS)/helm: tools/chart/go.mod
	go build -C tools/chart -trimpath -ldflags '-s -w' -o ../../$@ helm.sh/helm/v3/cmd/helm
$(TOOLS)/helm-unittest: tools/chart/go.mod
	go build -C tools/chart -trimpath -ldflags '-s -w' -o ../../$@ github.com/helm-unittest/helm-unittest/cmd/helm-unittest
$(TOOLS)/kubeconform: tools/chart/go.mod
	go build -C tools/chart -trimpath -ldflags '-s -w' -o ../../$@ github.com/yannh/kubeconform/cmd/kubeconform
$(TOOLS)/helm4: tools/helm4/go.mod
	go build -C tools/helm4 -trimpath -ldflags '-s -w' -o ../../$@ helm.sh/helm/v4/cmd/helm
$(TOOLS)/helm-docs: tools/helmdocs/go.mod
	go build -C tools/helmdocs -trimpath -ldflags '-s -w' -o ../../$@ github.com/norwoodj/helm-docs/cmd/helm-docs

.PHONY: clean
clean: ## Remove what was built (the tools too)
	rm -rf bin $(TOOLS)
