# demo and test build what they need: .venv is made once, and again only when pyproject.toml changes.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready
DOCS_VENV := .venv-docs
DOCS_READY := $(DOCS_VENV)/.ready
BENCH_PYTHON ?= $(shell .ci/fastest-python)
COVERED := --include='*/_net/*,*/_loop/*'

.PHONY: help demo test test-others soak check format diagrams docs bench clean
.DELETE_ON_ERROR:

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml
	@.ci/venv $(VENV) 'dev,cli'
	@touch $@

$(BENCH_READY): pyproject.toml
	@.ci/venv $(BENCH_VENV) bench $(BENCH_PYTHON)
	@touch $@

$(DOCS_READY): pyproject.toml
	@.ci/venv $(DOCS_VENV) docs
	@touch $@

demo: $(READY) ## a real connection made and explained, in ten seconds
	@$(BIN)/ropewalk demo

test: $(READY) ## every test, the coverage of _net and _loop, then the quick set on the other CPythons
	@.ci/test $(ARGS)
ifeq ($(strip $(ARGS)),)
	@echo "Coverage of _net and _loop, lines and branches (at least 95 %):"
	@$(BIN)/coverage report $(COVERED) --fail-under=95
	@$(BIN)/coverage json $(COVERED) -q -o $(VENV)/coverage.json
	@$(BIN)/python -c 'import json, sys; t = json.load(open("$(VENV)/coverage.json"))["totals"]; \
	  share = 100 * t["covered_branches"] / t["num_branches"]; print(f"Branches alone: {share:.1f} %"); sys.exit(share < 95)'
	@$(MAKE) --no-print-directory test-others
endif

test-others: ## the quick test set on each other CPython found (3.11 to 3.14)
	@.ci/others

soak: $(READY) ## test's longer sibling: 10 000 simulated worlds, every point of the torture, every pair of calls
	$(BIN)/python -m tests.fuzz.soak $(ARGS)

check: $(READY) ## formatting, lint, types, and the gates of the house
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/house

format: $(READY) ## lay the code out as `check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

diagrams: $(READY) ## draw the docs' state diagrams anew from the tables
	$(BIN)/python -m tests.house.diagrams

docs: $(DOCS_READY) ## the pages and the reference as one site, in build/docs; warnings are errors
	@# Why all anew: what was read once would not be complained of again.
	@$(DOCS_VENV)/bin/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -c docs -d build/doctrees . build/docs
	@echo "Open build/docs/README.html"

bench: $(BENCH_READY) ## side by side with Twisted, asyncio and uvloop; writes docs/benchmarks.md
	$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

clean: ## forget everything that was made
	rm -rf .venv .venv-3.* .venv-bench .venv-docs docs/reference .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
