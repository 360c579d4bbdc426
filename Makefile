# `make` lists the targets. Each works alone on a fresh machine: toolchain/setup.sh makes what is missing, once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo check test soak bench accuracy clean

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -W error
# Two workers, each starting with its own half of the files, so that a module's fixtures are mostly built once.
WORKERS ?= 2
XDIST := -n $(WORKERS) --dist worksteal

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## .venv with pinned versions, and the Debian packages to run the tool
	@toolchain/setup.sh run

setup-test: ## the same, and the Debian packages that only tests need
	@toolchain/setup.sh test

demo: setup ## explore the bundled LeNet-300-100 for spacemit-k1, then export the chosen plan
	@$(BIN)/lrf-dse explore examples/lenet300/model.onnx --target spacemit-k1 \
		--data examples/lenet300/validation.npz --calibration examples/lenet300/calibration.npz \
		--max-drop 1.0 -o reports/demo
	@$(BIN)/lrf-dse export reports/demo -o reports/demo/bundle

check: setup ## ruff (rules and format), mypy strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: setup-test ## the tests, with coverage; what is long runs as a small sample
	$(PYTEST) $(XDIST) --cov --cov-report=term

soak: setup-test ## all tests with long Hypothesis profiles, and the ones marked soak
	HYPOTHESIS_PROFILE=soak $(PYTEST) $(XDIST) -m "soak or not soak"

bench: setup-test ## the benchmarks of benchmarks/, one after the other
	@shopt -s nullglob; files=(benchmarks/[!_]*.py); \
	[[ $${#files[@]} -gt 0 ]] || { echo "bench: benchmarks/ holds no script yet"; exit 0; }; \
	for file in "$${files[@]}"; do echo "== $$file"; $(BIN)/python "$$file"; done

accuracy: setup ## accuracy against ratio of every decomposer on the examples: docs/accuracy.md, .json, .png
	$(BIN)/python benchmarks/decomposers.py --json docs/decomposers.json
	$(BIN)/python benchmarks/accuracy.py --out docs

clean: ## remove .venv, caches and build output; never reports/
	rm -rf .venv build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
