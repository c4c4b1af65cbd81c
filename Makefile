# Every target has one line of help. A machine needs Python >= 3.11 and make, nothing else.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
OWN := $(sort $(wildcard libs/*/pyproject.toml services/*/pyproject.toml))
# For tests only: what the demo and daily use install has no failpoints.
FAILPOINTS := libs/failpoints/pyproject.toml
EDITABLE = $(foreach file,$(2),-e ./$(dir $(file)))
SOURCES := libs/contracts/src libs/core/src libs/runtime/src libs/sdk/src libs/failpoints/src $(wildcard services/*/src)
WHAT ?= runtime
MINUTES ?= 10
SEEDS ?= 10000
# The first program of `make verify PROGRAMS=50`; one that has failed says its own.
SEED ?= 1
# How many share the tests, each with a Kafka and a PostgreSQL of its own; 0 is none but this process, for a machine that
# is busy with other things. Faults are judged by time, so they run alone.
WORKERS ?= 2

# Whoever has this set would compile all that is imported anew in each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo check test bench soak faults verify proto docs locks service up down clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv installs in seconds what takes pip two minutes; where it cannot reach the package index, pip does it.
define install
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Millrace needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || { echo "Making the virtual environment in .venv …"; $(PYTHON) -m venv .venv; }
	@echo "Installing $(1), by hash …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock \
		|| { echo "The package index cannot be reached: the first run needs a network (later ones do not)."; exit 1; }
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1) \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(EDITABLE)
	@touch $@
endef

.venv/.run: requirements/all.lock $(OWN)
	$(call install,requirements/all.lock,$(filter-out $(FAILPOINTS),$(OWN)))

.venv/.dev: requirements/dev.lock $(OWN)
	$(call install,requirements/dev.lock,$(OWN))
	@touch .venv/.run

setup: .venv/.dev ## Make the virtual environment with all that development needs

demo: .venv/.run ## Run the main job on real data: from a trigger event to an explained prediction
	@$(BIN)/python -m examples.flights.demo

test: .venv/.dev ## Run all tests, on a real Kafka and a real PostgreSQL
ifdef ARGS
	@$(BIN)/python -m pytest -q $(ARGS)
else
	@status=0; \
	$(BIN)/python -m pytest -q --numprocesses $(WORKERS) --no-loadscope-reorder --ignore tests/faults || status=$$?; \
	$(BIN)/python -m pytest -q tests/faults || status=$$?; \
	exit $$status
endif

check: .venv/.dev ## Check style, types, imports, generated code, schemas and documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES) examples infra
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python libs/contracts/generate.py --check
	$(BIN)/python -m infra.documents --check

bench: .venv/.dev ## Measure: make bench WHAT=runtime, control, control-scale or startup; control with PEERS=all or PEERS=restate,dbos
	@$(BIN)/python -m tests.benchmarks.$(subst -,_,$(WHAT)) $(if $(PEERS),--peers $(PEERS))

soak: .venv/.dev ## Run the main job's load for MINUTES=10 (120 for the long form): what grows, fails, takes how long
	@MINUTES=$(MINUTES) $(BIN)/python -m tests.benchmarks.soak

faults: .venv/.dev ## Run the fault matrix: all rows, or make faults ROWS=1,6,11; FLIGHTS=1 adds the flights demo under fire
	@ROWS="$(ROWS)" $(BIN)/python -m tests.faults
	@test -z "$(FLIGHTS)" || $(BIN)/python -m tests.faults.flights

verify: .venv/.dev ## Play runs in a simulator that kills and reorders by a seed: make verify SEEDS=10000; kill a worker: KILLS=1000; or play programs on a stack under faults: PROGRAMS=50
	@test -n "$(KILLS)$(PROGRAMS)" || $(BIN)/python libs/core/tests/simulator.py --seeds $(SEEDS)
	@test -z "$(KILLS)" || KILLS=$(KILLS) $(BIN)/python -m pytest -q -s tests/journeys/test_kills.py
	@test -z "$(PROGRAMS)" || PROGRAMS=$(PROGRAMS) SEED=$(SEED) $(BIN)/python -m tests.programs

proto: .venv/.dev ## Generate the gRPC stubs from proto/
	$(BIN)/python libs/contracts/generate.py

docs: .venv/.dev ## Generate the schemas, docs/events.md and docs/asyncapi/
	$(BIN)/python -m infra.documents

locks: .venv/.dev ## Compile the lock files anew
	$(BIN)/python infra/locks.py

service: .venv/.dev ## Make a new service of the common shape: make service name=x
	@test -n "$(name)" || { echo "Say which: make service name=x"; exit 2; }
	@$(BIN)/python -m infra.new_service "$(name)"

up: .venv/.run ## Start Millrace for daily use; its data stays in .millrace
	@$(BIN)/millrace up

down: .venv/.run ## Stop it
	@$(BIN)/millrace down

clean: ## Remove the virtual environment and the demo's data
	rm -rf .venv .millrace .millrace-demo
