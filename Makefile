# Forestall: `make demo` shows it working, `make test` proves it. Both set up everything they need in .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SUITES ?=
# Hundreds of processes are started by the tests: none compiles the sources again, also where the environment forbids
# compiled files. They lie beside their sources, where pip has put those of the installed packages.
COMPILED := PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev packages demo test check bench fmt lock proto clean soak mutate simulate-cases crash-cases
.DELETE_ON_ERROR:

help: ## List the targets
	@grep -E '^[a-z-]+%?:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.demo-ready ## Create .venv with every console script

setup-dev: $(VENV)/.dev-ready ## The same, with what tests and checks need

$(BIN)/python:
	@$(PYTHON) deploy/check_python.py
	@$(PYTHON) -m venv $(VENV) >&2

$(VENV)/.demo-ready: requirements/demo.lock pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) (once, about a minute) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/demo.lock >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . >&2
	@touch $@

$(VENV)/.dev-ready: requirements/dev.lock $(VENV)/.demo-ready
	@echo "Adding the $$(grep -c '==' $<) packages of $< to $(VENV) (once, a few minutes) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.lock >&2
	@touch $@

packages: ## Install (as root) or name the Debian packages the tests need
	@deploy/test_packages.sh

demo: setup ## Play the golden path and leave the dashboard up; ARGS="--once --json" for one JSON document
	@exec $(BIN)/python -m demo.run $(ARGS)

test: setup-dev packages ## Every suite but the slow soaks; SUITES="tests/fleet_core tests/edge_agent" for some
	@$(COMPILED) $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(SUITES) $(ARGS)

check: setup-dev ## Style, types, import rules, dependencies, generated code, the build of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry .
	$(BIN)/python deploy/proto.py --check
	$(BIN)/python deploy/check_house.py

mutate: setup-dev ## Small faults in the cores, noticed or not; ARGS="--module fleet_core.batches --sample 150 --seed 1"
	@$(BIN)/python -m tests.mutation $(ARGS)

simulate-cases: setup-dev packages ## Seeded plays of cases in a misbehaving world; ARGS="--seeds 5000", ARGS="--seed 7 --tell"
	@$(BIN)/python -m tests.simulation.cases $(ARGS)

crash-cases: setup-dev packages ## The worker killed at every fault point of a case in turn; exactly one of each is left
	@FORESTALL_CRASHES=all $(BIN)/python -m pytest -p no:randomly -v -k "killed or fault_point" tests/integration/test_resolution_crashes.py $(ARGS)

soak: setup-dev packages ## Long seeded fault campaign; ARGS="--rounds 20 --seed 1"
	@$(BIN)/python -m tests.simulation.campaign $(ARGS)

bench: setup-dev $(addprefix bench-,$(patsubst benchmarks/bench_%.py,%,$(wildcard benchmarks/bench_*.py))) ## Every benchmark

bench-%: setup-dev ## One benchmark, for example `make bench-loop`; prints JSON lines
	@$(BIN)/python -m benchmarks.bench_$(subst -,_,$*) $(ARGS)

fmt: setup-dev ## Format and mend what can be mended automatically
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: setup-dev ## Generate the Sparkplug module from fleet_core/sparkplug/payload.proto
	@$(BIN)/python deploy/proto.py

lock: setup-dev ## Pin the dependencies anew, with hashes and without naming an index
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv >&2
	for extra in demo dev; do \
	  $(BIN)/uv pip compile pyproject.toml --extra $$extra --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements/$$extra.lock; done

clean: ## Remove the environment, caches and the demo's state
	rm -rf $(VENV) var build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
