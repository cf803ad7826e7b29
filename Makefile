# `make demo` and `make test` work as the first command in a fresh clone:
# they find a Python (or take $PYTHON), make .venv, and install pmflow into it; and again only when
# pyproject.toml has changed.

SHELL := /bin/bash
VENV := .venv
PYTHON ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DOCS := $(VENV)/.installed-docs
LOWEST := .venv-lowest
INSTALLED_LOWEST := $(LOWEST)/.installed
INSTALLED_BENCH := $(VENV)/.installed-bench
WORKERS ?= auto
PYTEST_ARGS ?=
BENCH_ARGS ?=
ACCURACY_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo check check-lowest test bench accuracy lint types format docs notebooks \
	wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: $(INSTALLED) ## fit three models beside NUTS and a flow to a potential, write figures
	@$(BIN)/python -m pmflow.demo

check: $(INSTALLED) ## run the quick tests, of every part: four minutes
	@$(BIN)/python -m pytest tests -q -n $(WORKERS) --dist worksteal \
		-m "not slow and not numba and not jax" $(PYTEST_ARGS)

test: $(INSTALLED) ## run all tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# What is asked of each dependency, once, and the graphs of PyTensor that are rewritten.
# Old versions meet deprecations that are no concern of ours.
check-lowest: $(INSTALLED_LOWEST) ## test on Python 3.12 with the lowest versions that pyproject allows
	@$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal -o filterwarnings=default \
		tests/test_dependencies.py tests/graphs tests/embedded $(PYTEST_ARGS)

bench: $(INSTALLED_BENCH) ## measure speed beside others (an hour or more), write tables and a figure
	@$(BIN)/python -m tests.benchmarks.speed $(BENCH_ARGS)
	@$(BIN)/python -m tests.benchmarks.speed.figure

accuracy: $(INSTALLED_BENCH) ## measure accuracy on known posteriors (hours), write tables and a figure
	@$(BIN)/python -m tests.benchmarks.accuracy $(ACCURACY_ARGS)
	@$(BIN)/python -m tests.benchmarks.accuracy.figure

lint: $(INSTALLED) ## check style
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .

types: $(INSTALLED) ## check types
	@$(BIN)/python -m mypy

format: $(INSTALLED) ## mend style
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

docs: $(INSTALLED_DOCS) ## build the documentation into docs/_build/html
	@$(BIN)/python -m sphinx -W -n -q -b html docs docs/_build/html

notebooks: $(INSTALLED) ## run the notebooks in full and keep their output
	@$(BIN)/python notebooks/run.py

wheel: $(INSTALLED) ## build the wheel into dist
	@$(BIN)/python -m hatchling build -t wheel

clean: ## remove what can be made again, .venv included
	@rm -rf $(VENV) $(LOWEST) dist build docs/_build docs/notebooks docs/api/generated pmflow-demo \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@PYTHON="$(PYTHON)" ./.make/venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	@./.make/install $(VENV) dev
	@touch $@

$(INSTALLED_LOWEST): pyproject.toml
	@./.make/lowest $(LOWEST) jax,test
	@touch $@

$(INSTALLED_DOCS): pyproject.toml $(INSTALLED)
	@./.make/install $(VENV) docs
	@touch $@

$(INSTALLED_BENCH): pyproject.toml $(INSTALLED)
	@./.make/install $(VENV) bench
	@touch $@
