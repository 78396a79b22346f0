# make demo | test | test-slow | check | docs | bench | bench-quick; each sets up what it needs in .venv
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
# half of the tests' time is waiting: one worker more than cores, four at most
TEST_WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || echo 1); echo $$(( cores < 3 ? cores + 1 : 4 )))
# the tests start hundreds of processes, each of which would compile the package anew
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: demo test test-slow check format docs bench bench-quick screenshot clean

demo: $(VENV)/.passoproxy
	@exec $(BIN)/passoproxy demo

test: $(VENV)/.passoproxy-dev
	@rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -m "not slow" -n $(TEST_WORKERS) --dist worksteal --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/python tests/coverage_gates.py

test-slow: $(VENV)/.passoproxy-dev
	@result=0; \
	$(BIN)/python -m pytest -m "(slow or hypothesis) and not alone" --hypothesis-profile=explore \
		-n $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS) || result=$$?; \
	$(BIN)/python -m pytest -m "slow and alone" $(PYTEST_ARGS) || result=$$?; \
	exit $$result

check: $(VENV)/.passoproxy-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q --no-header tests/documents

format: $(VENV)/.passoproxy-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.passoproxy-dev
	cp passoproxy/config/example.yaml config.example.yaml
	$(BIN)/python -m tests.documents.reference

bench: $(VENV)/.passoproxy-dev
	$(BIN)/python -m bench all $(BENCH_ARGS)

bench-quick: $(VENV)/.passoproxy-dev
	$(BIN)/python -m bench hits --quick $(BENCH_ARGS)

screenshot: $(VENV)/.passoproxy-dev
	$(BIN)/python -m tests.screenshot

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "passoproxy needs Python 3.11 or newer with its venv module; name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.passoproxy: pyproject.toml | $(BIN)/python
	@echo "Installing passoproxy and what it needs into $(VENV) (once) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.passoproxy-dev: pyproject.toml | $(BIN)/python
	@echo "Installing passoproxy and what its tests need into $(VENV) (once) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.passoproxy
