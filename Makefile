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
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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
	cargo fmt --manifest-path fuzz/Cargo.toml

.PHONY: lint
lint: ## Formatting, clippy, documentation, shell scripts
	@scripts/setup test
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --all-targets
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
	scripts/simulation-planted --check
	shellcheck -x scripts/* container/cargo/build container/haproxy-entrypoint compose/ca .ci/run benches/live/*.sh

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
matrix: ## The Runtime API, the main job, all deployments, all states, ocsp-update and alarms on HAProxy 2.2 to 3.4
	@scripts/setup test
	@bins="$${HAPROXY_BINS:-$$(scripts/haproxy-versions)}"; \
	echo "HAPROXY_BINS=$$bins cargo test --test haproxy_live"; \
	HAPROXY_BINS="$$bins" cargo test --locked --test haproxy_live; \
	for bin in $${bins//:/ }; do \
		echo "HAPROXY_BIN=$$bin cargo test --test main_job --test deployments --test states"; \
		HAPROXY_BIN="$$bin" $(as_root) cargo test --locked --test main_job --test deployments --test states; \
		echo "HAPROXY_BIN=$$bin cargo test --test native_update -- --include-ignored"; \
		HAPROXY_BIN="$$bin" $(as_root) cargo test --locked --test native_update -- --include-ignored; \
		echo "HAPROXY_BIN=$$bin cargo test --test monitoring delivery"; \
		HAPROXY_BIN="$$bin" $(as_root) cargo test --locked --test monitoring delivery; \
	done

# HAPROXY_BINS as above.
.PHONY: hostile
hostile: ## Responders, names and HTTP clients that misbehave in every way at once, on HAProxy 2.6 and 3.4
	@scripts/setup test
	@bins="$${HAPROXY_BINS:-$$(scripts/haproxy-versions "$${XDG_CACHE_HOME:-$$HOME/.cache}/haproxy-stapler" 2.6 3.4)}"; \
	for bin in $${bins//:/ }; do \
		echo "HAPROXY_BIN=$$bin cargo test --test hostile"; \
		HAPROXY_BIN="$$bin" $(as_root) cargo test --locked --test hostile -- --nocapture; \
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

# SEED=n PLAY=month (or night) plays that one again and says what happens; SEEDS=n so many of both, from FIRST on.
.PHONY: simulation
simulation: ## The agent through 10,000 months of scripted faults, and what it promises checked after every step
	@scripts/setup
	SIMULATION_SEED="$(SEED)" SIMULATION_FIRST="$(FIRST)" SIMULATION_SEEDS="$(if $(SEED),,$(or $(SEEDS),10000))" \
		cargo test --locked --test simulation $(if $(PLAY),$(PLAY)s_,break_no_promise) -- --nocapture

.PHONY: simulation-planted
simulation-planted: ## Bugs planted in the code, each against another promise, and that the simulation finds them
	@scripts/setup
	scripts/simulation-planted

# KILLS_SEED=n kills at the moments of that seed again, KILLS=n so often.
.PHONY: kills
kills: ## 200 times kill -9 at a random moment of a real run, and everything comes back
	@scripts/setup test
	KILLS="$${KILLS:-200}" KILLS_SEED="$${KILLS_SEED:-$$RANDOM}" cargo test --locked --test chaos kill -- --nocapture

# TARGETS="response signed" takes some of them only; FUZZ_SEED=n rolls the same dice again, as `make ci` does, so that what
# it finds is due to the change.
.PHONY: fuzz
fuzz: ## Fuzz the verifier and every parser, a minute each: SECONDS=600 for longer
	@scripts/setup fuzz
	scripts/fuzz $(or $(SECONDS),60) $(TARGETS)

# What is fuzzed is judged at the instant its certificates were minted, so this is for a parser that learned something.
.PHONY: seeds
seeds: ## Mint the certificates and responses in fuzz/ anew, and listen to all HAProxys again
	@scripts/setup test
	HAPROXY_BINS="$${HAPROXY_BINS:-$$(scripts/haproxy-versions)}" cargo run --locked --example fuzz_seeds

.PHONY: mutants
mutants: ## Break the verifier in every way that cargo-mutants knows, and see that a test notices; an hour
	@scripts/setup mutants
	cargo mutants --cap-lints true --file 'src/ocsp/*.rs' -- --locked --lib ocsp::

# BENCH=cold,placed,native,script,reload,warm,steady N=1000 LATENCY=50ms RUNS=3 choose what is measured (benches/live/options.rs has
# all of them), STAPLER_BIN=path another build of the program, HAPROXY_BINS as above.
.PHONY: bench
bench: ## 10, 1000 and 10000 certificates: start, reload, idle; beside HAProxy's own ocsp-update and a script
	@scripts/setup bench
	@bins="$${HAPROXY_BINS:-$${HAPROXY_BIN:-$$(scripts/haproxy-versions "$${XDG_CACHE_HOME:-$$HOME/.cache}/haproxy-stapler" 3.4 2.6)}}"; \
	for bin in $${bins//:/ }; do \
		echo "HAPROXY_BIN=$$bin cargo bench --bench live"; \
		HAPROXY_BIN="$$bin" cargo bench --locked --bench live; \
	done

# The figures of such a run are not figures: perf takes part in it. N, LATENCY and BENCH as above.
.PHONY: profile
profile: ## Where a start with 1000 certificates spends its CPU time, by perf
	@scripts/setup profile
	cargo build --locked --profile profiling --bin haproxy-stapler
	@built=$$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/profiling; \
	printf '#!/bin/sh\nexec perf record --quiet -F 997 --call-graph dwarf,16384 -o "%s" -- "%s" "$$@"\n' \
		"$$built/perf.data" "$$built/haproxy-stapler" >"$$built/under-perf"; \
	chmod 755 "$$built/under-perf"; \
	N="$${N:-1000}" LATENCY="$${LATENCY:-0}" BENCH="$${BENCH:-cold}" RUNS=1 STAPLER_BIN="$$built/under-perf" \
		cargo bench --locked --bench live; \
	perf report --stdio --no-children -g none --percent-limit 0.5 -i "$$built/perf.data" 2>/dev/null; \
	echo "perf report --no-children -i $$built/perf.data shows who calls them"

.PHONY: screenshots
screenshots: ## Pictures of the status page for the documentation: docs/images
	@scripts/setup test
	@scripts/setup screenshots
	SCREENSHOTS="$(CURDIR)/docs/images" cargo test --locked --test page pictures_are_taken
	pngquant --force --ext .png --strip --speed 1 docs/images/status-*.png

.PHONY: vectors
vectors: ## Other projects' OCSP responses against their verdicts: DIR=folder of SUITE/CASE/expect.json
	@[ -n "$(DIR)" ] || { echo 'make vectors DIR=folder' >&2; exit 64; }
	@scripts/setup
	STAPLER_TEST_VECTORS="$(abspath $(DIR))" cargo test --locked --test vectors -- --ignored --nocapture

# Each of these has what it needs set up, a Docker engine too: where none answers, root is given one for the time being
# (scripts/engine), anybody else is told how to get one. Images that cannot be pulled are made of Debian's packages.
.PHONY: image
image: ## The container image haproxy-stapler
	scripts/engine scripts/image

.PHONY: compose-test
compose-test: image ## Both compose files, brought up and looked at from outside
	scripts/engine scripts/compose-test

.PHONY: kube-test
kube-test: image ## The Kubernetes manifests as a Pod under podman; root
	scripts/engine scripts/kube-test

.PHONY: manifests
manifests: ## Dockerfile, compose files, Kubernetes manifests, alert rules and workflows against their schemas
	scripts/manifests

.PHONY: deb
deb: ## A Debian package: target/debian/*.deb
	@scripts/setup deb
	PATH="$$(scripts/auditable):$$PATH" cargo deb --locked --cargo-build 'auditable build'

.PHONY: deb-test
deb-test: deb ## The Debian package, installed and started in a container with systemd; root
	scripts/engine scripts/deb-test

# Two at a time, for most of the time of one is waiting for a CA's answers to end. The image is the real one; the package holds
# a program that is not optimised, which is built in half the time.
quickly := CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
.PHONY: containers
containers: ## The image, both compose files, a Pod, the package and all manifests, each tried for real
	scripts/engine env $(quickly) $(MAKE) --jobs 2 --output-sync=target compose-test kube-test deb-test manifests

# FULL=1 runs all of `make test` there.
.PHONY: rehearsal
rehearsal: ## A new machine and nothing but this README: a minimal Debian, a clean clone, `make demo`, the tests' set-up
	scripts/rehearsal $(if $(FULL),--full)

.PHONY: sbom
sbom: ## What is in the program: target/haproxy-stapler.cdx.json (CycloneDX)
	@scripts/setup sbom
	scripts/sbom

.PHONY: ci
ci: export FUZZ_SEED ?= 1
ci: test matrix hostile fuzz ## What the continuous integration runs: all tests, those that other HAProxys have to pass, too, and a while of fuzzing

# Apart, so that the two can run beside each other on two machines.
.PHONY: ci-shipped
ci-shipped: containers rehearsal ## The continuous integration's other half: what is shipped, and a new machine

.PHONY: clean
clean: ## Remove what was built
	cargo clean
