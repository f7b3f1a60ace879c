.PHONY: help run test check bench bench-api bench-growth install fmt
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

bench: ## Run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

bin/apifloor bin/apiload: FORCE
	@CGO_ENABLED=0 $(GO) build -o $@ ./bench/$(@F)

bench-api: bin/specstore bin/apifloor bin/apiload ## Measure the API beside a floor (about five minutes)
	bin/apiload

bench-growth: bin/specstore bin/apiload ## Measure the API up to a million revisions (about 15 minutes, 20 GB of disk)
	bin/apiload -growth

install: ## Install the command into the Go bin folder
	CGO_ENABLED=0 $(GO) install -ldflags '$(LDFLAGS)' ./cmd/specstore

fmt: ## Format the code
	$(LINT) fmt
