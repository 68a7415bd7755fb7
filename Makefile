# Tulle: `make up` is the way in, `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PROFILE ?= quick
NAME    ?= tulle
HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET  := $(or $(CARGO_TARGET_DIR),target)
BIN     := $(TARGET)/$(PROFILE)
CNI     := $(TARGET)/$(HOST)/$(PROFILE)/tulle-cni
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: prerequisites
prerequisites: ## Install what building and running needs, by package name
	@playground/prerequisites.sh

.PHONY: build
build: prerequisites ## Build Tulle and the playground's Kubernetes, side by side
	@playground/build.sh "$(PROFILE)" "$(HOST)"

.PHONY: up
up: build ## Start a two-node Kubernetes on this machine with the mesh and the samples on it
	@$(BIN)/demo --name $(NAME) --tulle $(BIN)/tulle --cni-plugin $(CNI)

.PHONY: down
down: ## Remove everything that `make up` made
	@if [ -x $(BIN)/playground ]; then $(BIN)/playground down --name $(NAME); else echo "nothing was built here, so nothing is up"; fi

.PHONY: test
test: build ## Run all tests, on a playground of their own
	@testing/run.sh "$(PROFILE)" "$(CNI)"

.PHONY: lint
lint: ## Formatting, clippy without a warning, licences and advisories
	@testing/lint.sh "$(PROFILE)"

.PHONY: bench
bench: ## Compare ztunnels with a plain relay and the direct path, gateway and waypoint with Envoy (ENVOY_BIN), each in one alternating run
	@$(MAKE) --no-print-directory PROFILE=release measure

# What ships is what counts: profile release, as `make image`.
.PHONY: measure
measure: build
	@$(BIN)/bench --tulle $(BIN)/tulle --cni-plugin $(CNI) $(BENCH)

.PHONY: image
image: build ## Write the container image as an OCI archive: target/tulle-image.tar
	@$(BIN)/playground image mesh --reference docker.io/tulle/tulle:$(VERSION) --tulle $(BIN)/tulle --plugin $(CNI) --output $(TARGET)/tulle-image.tar

.PHONY: clean
clean: ## Remove what was built (the playground's cache of Kubernetes stays)
	@cargo clean
