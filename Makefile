# `make` lists the commands. `make check` never writes; `make fix` and `make gen` do.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Arguments for `make run`, `make test`, `make bench` and `make sim`: make run ARGS="--override listeners=PLAINTEXT://127.0.0.1:19092"
ARGS ?=
TIMED := scripts/timed

.PHONY: help run test check fix gen bench fuzz sim sim-bugs quick tour images cluster cluster-stop cluster-up cluster-down setup tools clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

run: tools ## build the broker and run it on 127.0.0.1:9092, data in ./ottla-data
	cargo build --release -p ottla-broker
	exec "$$(scripts/target-directory)/release/ottla-broker" $(ARGS)

test: setup ## every test: unit, crash images, recorded sessions, real clients, the tour
	$(TIMED) "build" 12 cargo build --workspace --bins
	$(TIMED) "build tests" 15 scripts/test-runner build $(ARGS)
	$(TIMED) "tests" 20 scripts/test-runner run $(ARGS)
	$(TIMED) "doc tests" 5 cargo test --workspace --doc --quiet
	$(TIMED) "simulation" 12 $(MAKE) --no-print-directory sim ARGS= SEED=
	$(TIMED) "quick start" 8 scripts/quick-start
	$(TIMED) "tour" 5 integration-tests/tour.sh

sim: tools ## simulate 2,000 clusters in which things go wrong, 60 s each; SEED=n replays one, ARGS=--verbose tells what happens
	cargo run --release --quiet -p ottla-sim -- $(if $(SEED),--seed $(SEED)) $(ARGS)

sim-bugs: tools ## plant a bug at a time and see that the simulation catches it
	cargo run --release --quiet --target-dir "$$(scripts/target-directory)/planted" -p ottla-sim --features planted-bugs -- --bugs

quick: setup ## build and run the README's program in Rust, outside of the workspace
	scripts/quick-start

tour: setup ## a file through every codec and a kill -9, with kcat and Python
	cargo build -p ottla-broker
	integration-tests/tour.sh

check: setup ## formatting, lints, generated files, house rules, manifests
	$(TIMED) "format" 1 cargo fmt --all --check
	$(TIMED) "lints" 12 cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(TIMED) "generated files" 1 cargo xtask gen --check
	$(TIMED) "house rules" 1 cargo xtask tidy
	$(TIMED) "manifests" 1 scripts/check-deploy

fix: tools ## format, apply what the lints can repair
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged --quiet
	cargo fmt --all

gen: tools ## write generated code and reference from protocol-spec
	cargo xtask gen

bench: setup ## figures beside the ceilings of this machine, into docs/benchmarks.md
	cargo build --release -p ottla-broker
	cargo bench -p ottla-integration-tests --bench figures -- $(ARGS)

fuzz: tools ## fuzz every decoder for FUZZ_SECONDS each (default 60; needs cargo-fuzz and a nightly compiler)
	scripts/fuzz

images: tools ## the images ottla-broker and ottla-coordinator: static binaries in empty images
	scripts/images

cluster: tools ## three coordinators and three brokers as processes, clients at 127.0.0.1:19092, 29092, 39092
	scripts/cluster start

cluster-stop: ## stop those processes in order; their data stay in ./ottla-cluster
	scripts/cluster stop

cluster-up: ## three coordinators and three brokers as containers, clients at 127.0.0.1:19092, 29092, 39092
	scripts/cluster-up

cluster-down: ## remove those containers and their data
	scripts/cluster-up down

setup: tools ## what the tests need beside Rust: kcat, a Python environment in .venv
	@integration-tests/setup

tools: ; @scripts/tools

clean: ## remove what was built
	cargo clean
	rm -rf .venv
