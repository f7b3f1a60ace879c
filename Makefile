.PHONY: help run test test-long check soak soak-short bench bench-short bench-growth bench-peers bench-go install fmt
GO ?= go
LINT = $(GO) tool -modfile=tools/golangci/go.mod golangci-lint
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS = -s -w -X github.com/datahq/specstore/internal/cli.Version=$(VERSION)

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

bin/specstore: FORCE
	@CGO_ENABLED=0 $(GO) build -ldflags '$(LDFLAGS)' -o $@ ./cmd/specstore
FORCE:

run: bin/specstore ## Serve on SQLite in an empty .specstore, push an example, keep serving
	@./tools/run bin/specstore examples/elements

test: ## Run every test
	$(GO) test ./...

check: ## Run what CI checks beside the tests: format and linters (.golangci.yaml), layers
	$(LINT) run ./...
	$(GO) test -count=1 ./internal/layers

BENCH = flow push apifloor apiload soak
$(BENCH:%=bin/%): FORCE
	@CGO_ENABLED=0 $(GO) build -o $@ ./bench/$(@F)

bench: bin/specstore $(BENCH:%=bin/%) ## Measure flows, pushes and the API beside others (ten minutes); docs/performance.md
	bin/flow
	bin/push
	bin/apiload

bench-short: bin/specstore $(BENCH:%=bin/%) ## The same on little data, to see that it runs
	bin/flow -rows 50000 -rounds 2
	bin/push -n 3
	bin/apiload -datasets 200 -rounds 1 -each 20 -conns 1,16

soak: bin/specstore bin/soak ## Kill, stop and starve servers for an hour beside hostile clients, and check that nothing is lost
	bin/soak

soak-short: bin/specstore bin/soak ## The same for two minutes, whatever the speed of the machine
	bin/soak -for 2m -probe 1m

bench-growth: bin/specstore bin/flow bin/apiload ## Measure 10 million rows and a million revisions (half an hour, 20 GB of disk)
	bin/flow -growth -rows 10000000 -rounds 3
	bin/apiload -growth

bench-peers: bin/specstore bin/flow ## Measure beside Miller, DuckDB and frictionless, where they are installed
	bin/flow -peers -rounds 3

bench-go: ## Run the benchmarks of the packages
	$(GO) test -run '^$$' -bench . -benchmem ./...

test-long: ## Run the tests on large generated tables, too
	SPECSTORE_TEST_LONG=1 $(GO) test -run TestCapturedFlows ./internal/cli

install: ## Install the command into the Go bin folder
	CGO_ENABLED=0 $(GO) install -ldflags '$(LDFLAGS)' ./cmd/specstore

fmt: ## Format the code
	$(LINT) fmt
