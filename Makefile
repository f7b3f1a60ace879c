.PHONY: help test check fmt
help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'
test: ## Run every test
	go test ./...
check: ## What CI checks beside the tests
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
fmt: ## Format the code
	gofmt -w .
