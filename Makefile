# All that one does with zabkit. Each target does its own set-up: a virtual environment in .venv, the crates of
# Cargo.lock, one release build. A stamp file stands for each finished step, so a second run needs no network.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON3 ?= python3
VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
export PATH := $(VENV)/bin:$(PATH)
# The extension is built against, and pyo3 asks, this interpreter and no other.
export PYO3_PYTHON := $(PY)
export VIRTUAL_ENV := $(VENV)
# The process tests run the command that pip installed, not whatever cargo built last.
export ZABKIT_BIN := $(VENV)/bin/zabkit

# After `cargo fetch` nothing may ask the network, and nothing may move Cargo.lock.
CARGO := CARGO_NET_OFFLINE=true cargo
LOCKED := --locked

RUST_SOURCES := Cargo.toml Cargo.lock $(shell find src -name '*.rs' 2>/dev/null)
BUILD_SOURCES := $(RUST_SOURCES) pyproject.toml build_backend/zabkit_build.py

DEPS := $(VENV)/.deps
CRATES := $(VENV)/.crates
BUILT := $(VENV)/.built
BENCH_DEPS := $(VENV)/.bench-deps

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

# --- set-up -------------------------------------------------------------------------------------------------------

$(VENV)/bin/python:
	$(PYTHON3) -m venv $(VENV)

$(DEPS): requirements/dev.txt | $(VENV)/bin/python
	$(PIP) install --quiet -r requirements/dev.txt
	@touch $@

$(CRATES): Cargo.lock
	@mkdir -p $(VENV)
	cargo fetch $(LOCKED)
	@touch $@

$(BENCH_DEPS): requirements/bench.txt | $(DEPS)
	$(PIP) install --quiet -r requirements/bench.txt
	@touch $@

# pip builds with what is in .venv and asks no index: the same wheel as `pip install .`, with the Python files in place.
$(BUILT): $(BUILD_SOURCES) | $(DEPS) $(CRATES)
	CARGO_NET_OFFLINE=true $(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup build requirements
setup: $(DEPS) $(CRATES)

build: $(BUILT) ## the extension and the native command, in .venv (release)

requirements: | $(VENV)/bin/python
	$(PIP) install --quiet --upgrade -r requirements/dev.in
	{ echo "# Pinned: made from dev.in by \`make requirements\`."; $(PIP) freeze --exclude-editable; } > requirements/dev.txt
	$(PIP) install --quiet --upgrade -r requirements/bench.in
	{ echo "# Pinned: made from bench.in by \`make requirements\`; the versions that the figures name."; \
	  $(PIP) freeze --exclude-editable | grep -E '^(aiozk|kazoo|uvloop)=='; } > requirements/bench.txt

# --- what one runs ------------------------------------------------------------------------------------------------

.PHONY: demo test test-rust loom test-python lint sim sync-sim reconfig-sim bench bench-before bench-python bench-snapshots bench-watches chaos fuzz plugin-soak sync-soak gil-soak start-soak client-soak moves-soak hostile-soak hand-over interop interop-zab clean

demo: $(BUILT) ## three servers in one Python process, the leader killed under load
	$(PY) examples/demo.py

test: test-rust loom test-python ## cargo's tests, every order of the small locks, then Python's

test-rust: $(CRATES) | $(DEPS)
	$(CARGO) test $(LOCKED)

# A directory of its own: the flag changes every crate, so both would be built again and again.
loom: $(CRATES) ## reads beside writes, in every order in which their threads can take the locks
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom $(CARGO) test $(LOCKED) --lib peer::loom_tests

test-python: $(BUILT)
	$(PY) -m pytest

lint: $(BUILT) ## formats, clippy with and without Python, types
	cargo fmt --check
	$(CARGO) clippy $(LOCKED) --all-targets -- -D warnings
	$(CARGO) clippy $(LOCKED) --all-targets --features python -- -D warnings
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy $(wildcard examples/*.py)
	$(VENV)/bin/mypy benches/side_by_side.py benches/before_and_after.py benches/python_clients.py benches/watches.py benches/snapshots.py benches/clients/worker.py
	$(PY) -m mypy.stubtest zabkit._zabkit --mypy-config-file pyproject.toml
	if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; fi

SEEDS ?= 500
sim: $(CRATES) ## whole ensembles from seeds, with faults; SEEDS=500
	$(CARGO) run $(LOCKED) --release --quiet -- simulate --seeds $(SEEDS)

SYNC_SEEDS ?= 1000
STEP_SEEDS ?= 200
reconfig-sim: $(CRATES) ## reconfigurations interrupted at each of their steps; STEP_SEEDS=200
	$(CARGO) run $(LOCKED) --release --quiet -- simulate --scenario reconfig-steps --seeds $(STEP_SEEDS)

sync-sim: $(CRATES) ## sync then read beside the old leader, cut off with a minority; SYNC_SEEDS=1000
	$(CARGO) run $(LOCKED) --release --quiet -- simulate --scenario cut-off-leader --seeds $(SYNC_SEEDS)

bench: $(BUILT) $(BENCH_DEPS) ## docs/performance.md: beside Apache (Debian's packages, ../shared/tools); QUICK=1, ARGS="--rows ..."
	$(PY) benches/side_by_side.py $(ARGS)

bench-before: $(BUILT) ## this build and that of the commit REV, under load in turns; needs ../shared/tools
	$(PY) benches/before_and_after.py --before $(REV) $(ARGS)

bench-watches: $(BUILT) $(BENCH_DEPS) ## docs/performance.md: a million watches, and 100,000 that fire at once, beside Apache; QUICK=1
	$(PY) benches/watches.py $(ARGS)

bench-snapshots: $(BUILT) ## docs/performance.md: a million znodes to a new member, and to the disk, under 1,000 writes/s; QUICK=1
	$(PY) benches/snapshots.py $(ARGS)

bench-python: $(BUILT) $(BENCH_DEPS) ## docs/performance.md: the Python client beside kazoo and aiozk; QUICK=1
	$(PY) benches/python_clients.py $(ARGS)

.PHONY: wheel-check
wheel-check: ## the sdist, installed into an empty environment (asks PyPI for maturin)
	PYTHON3=$(PYTHON3) build_backend/check_wheel.sh

chaos: $(BUILT) ## 100 leader kills under writes, half of them SIGKILL of processes
	$(PY) -m pytest -m soak -s tests/process -k chaos

fuzz: $(BUILT) ## 100,000 mutated frames at each of the client, election and quorum ports
	$(PY) -m pytest -m soak -s tests/process -k fuzz

plugin-soak: $(BUILT) ## 200 pytest tests in a row, each with three fresh servers; nothing may be left behind
	$(PY) -m pytest -m soak -s tests/python/test_plugin_soak.py

sync-soak: $(BUILT) ## 1,000 reads behind a sync on a slowed follower, 20 deserted leaders: never the past
	$(PY) -m pytest -m soak -s tests/python/test_sync.py

gil-soak: $(BUILT) ## writes from outside while this process holds the GIL for 3 s at a time
	$(PY) -m pytest -m soak -s tests/python/test_gil.py

start-soak: $(BUILT) ## 50 starts of three servers to the first acknowledged write: p50, p99
	$(PY) -m pytest -m soak -s tests/python/test_start.py

client-soak: $(BUILT) ## 10,000 cancellations, cut links, ended clients and closed loops under asyncio clients
	$(PY) -m pytest -m soak -s tests/python -k ten_thousand

MOVES ?= 1000
moves-soak: $(CRATES) ## a session moves 1,000 times between three members under writes: nothing lost, nothing twice; MOVES=1000
	ZABKIT_MOVES=$(MOVES) $(CARGO) test $(LOCKED) --test session_moves -- --nocapture

hostile-soak: $(BUILT) ## 60 s of hostile clients of every kind, 10,000 connections, beside a good one; its p99, and memory
	$(PY) -m pytest -m soak -s tests/process -k hostile

interop: $(BUILT) ## unmodified clients and Apache's servers (tests/interop/README.md, ../shared/tools); ARGS="--only kazoo"
	$(PY) tests/interop/run.py $(ARGS)

HAND_OVERS ?= 50
hand-over: $(BUILT) ## Apache and zabkit take turns on a data directory, each after SIGKILL of the other; HAND_OVERS=50
	$(PY) tests/interop/disk/run.py --rounds $(HAND_OVERS)

interop-zab: $(BUILT) ## one ensemble of Apache's servers and zabkit's, the long form
	$(PY) tests/interop/run.py --only zab

clean: ## removes what the others made
	cargo clean
	rm -rf .venv build dist python/zabkit/*.so .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './target/*' -prune -exec rm -rf {} +
