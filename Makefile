# The commands of this repository. Each sets up what it needs; `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Debian's haproxy lives where the PATH of an ordinary user does not lead; cargo install puts its programs in the other.
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

# Some tests mount, or act as other users. Who is not root runs them as root of a user namespace, where that can be had.
namespace := unshare --user --map-root-user --map-auto --mount
as_root = $(shell [ "$$(id -u)" -eq 0 ] || ! $(namespace) true 2>/dev/null || echo '$(namespace)')

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what is missing to build, run the demo and test
	@scripts/setup test

.PHONY: build
build: ## Build the release binary: target/release/haproxy-stapler
	@scripts/setup
	cargo build --locked --release

.PHONY: demo
demo: ## Six certificates on a real HAProxy, a CA, and the stapler at work; ONCE=1 stops with a verdict
	@scripts/setup demo
	cargo build --locked --bin haproxy-stapler --example demo
	@target=$$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'); \
	exec "$$target/debug/examples/demo" $(if $(ONCE),--once) "$$target/debug/haproxy-stapler"

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: lint
lint: ## Formatting, clippy, documentation, shell scripts
	@scripts/setup test
	cargo fmt --all --check
	cargo clippy --locked --all-targets
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
	shellcheck scripts/* .ci/run

.PHONY: deny
deny: ## Dependencies: licences, sources, no version twice without a reason (deny.toml)
	@scripts/setup test
	cargo deny --locked check bans licenses sources

# Not part of `make test`: it needs the network and its answer changes with the day, not with the code.
.PHONY: advisories
advisories: ## Dependencies: known vulnerabilities, from the RustSec database on the network
	@scripts/setup test
	cargo deny --locked check advisories

.PHONY: test
test: lint deny ## Everything: lint, deny, all tests against real HAProxy, OpenSSL and curl
	$(as_root) cargo test --locked

# HAPROXY_BINS=path:path takes binaries of your own instead.
.PHONY: matrix
matrix: ## The Runtime API, the main job, all deployments and ocsp-update on HAProxy 2.2 to 3.4
	@scripts/setup test
	@bins="$${HAPROXY_BINS:-$$(scripts/haproxy-versions)}"; \
	echo "HAPROXY_BINS=$$bins cargo test --test haproxy_live"; \
	HAPROXY_BINS="$$bins" cargo test --locked --test haproxy_live; \
	for bin in $${bins//:/ }; do \
		echo "HAPROXY_BIN=$$bin cargo test --test main_job --test deployments"; \
		HAPROXY_BIN="$$bin" $(as_root) cargo test --locked --test main_job --test deployments; \
		echo "HAPROXY_BIN=$$bin cargo test --test native_update -- --include-ignored"; \
		HAPROXY_BIN="$$bin" $(as_root) cargo test --locked --test native_update -- --include-ignored; \
	done

# CHAOS_SEED=n plays the steps of that seed again, CHAOS_STEPS=n so many; HAPROXY_BINS as above.
.PHONY: chaos
chaos: ## 200 random reloads, crashes, rotations and transactions on HAProxy 2.6 and 3.4
	@scripts/setup test
	@bins="$${HAPROXY_BINS:-$$(scripts/haproxy-versions "$${XDG_CACHE_HOME:-$$HOME/.cache}/haproxy-stapler" 2.6 3.4)}"; \
	export CHAOS_STEPS="$${CHAOS_STEPS:-200}" CHAOS_SEED="$${CHAOS_SEED:-$$RANDOM}"; \
	for bin in $${bins//:/ }; do \
		echo "HAPROXY_BIN=$$bin CHAOS_STEPS=$$CHAOS_STEPS cargo test --test chaos"; \
		HAPROXY_BIN="$$bin" cargo test --locked --test chaos -- --nocapture; \
	done

.PHONY: vectors
vectors: ## Other projects' OCSP responses against their verdicts: DIR=folder of SUITE/CASE/expect.json
	@[ -n "$(DIR)" ] || { echo 'make vectors DIR=folder' >&2; exit 64; }
	@scripts/setup
	STAPLER_TEST_VECTORS="$(abspath $(DIR))" cargo test --locked --test vectors -- --ignored --nocapture

.PHONY: ci
ci: ## What the continuous integration runs: .ci/run
	.ci/run

.PHONY: clean
clean: ## Remove what was built
	cargo clean
