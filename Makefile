# Each target makes the virtual environment that it needs, in this folder, from nothing but Python.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COMMA := ,
# With an NVIDIA driver on the machine, tests and demo run on the GPU too.
CUDA := $(if $(shell command -v nvidia-smi 2>/dev/null),$(COMMA)cuda)
DEMO_EXTRAS ?= cli$(CUDA)
TEST_EXTRAS ?= dev$(CUDA)
# Tests run in this many processes.
JOBS ?= 2
DEMO_ARGS ?=

# $(call step,name,command) runs a command and says how long it took.
define step
	@echo "== $(1)"; start=$$(date +%s); $(2); code=$$?; \
	echo "== $(1): $$(($$(date +%s) - start)) s"; exit $$code
endef

.DEFAULT_GOAL := help
.PHONY: help demo test test-full test-gpu check ruff pyright lit pytest test-lit-slow reference format clean
# The steps of `make test` run one after the other; with `make -k test` a failure stops none.
.NOTPARALLEL:

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Compile and run the demonstration
	@$(BIN)/tilewright demo $(DEMO_ARGS)

test: ruff pyright lit pytest ## Run every check: ruff, pyright, lit, pytest

check: ruff pyright ## Run ruff and pyright alone

ruff: $(VENV)/.test
	$(call step,ruff check,$(BIN)/ruff check .)
	$(call step,ruff format,$(BIN)/ruff format --check .)

pyright: $(VENV)/.test
	$(call step,pyright,$(BIN)/pyright --pythonpath $(BIN)/python --threads $(JOBS))

lit: $(VENV)/.test
	$(call step,lit,$(BIN)/lit -s -j $(JOBS) test)

pytest: $(VENV)/.test
	$(call step,pytest,$(BIN)/pytest -q -n $(JOBS))

test-full: ruff pyright lit $(VENV)/.test ## Run every check, and the tests marked `full` too
	$(call step,pytest,$(BIN)/pytest -q -n $(JOBS) -m "full or not full")

test-gpu: $(VENV)/.test ## Run the tests of kernels on the GPU of this machine
	$(call step,pytest on a GPU,$(BIN)/pytest -q -n $(JOBS) -p tilewright.test.on_gpu test/gpu test/attention test/nest)

test-lit-slow: $(VENV)/.test ## Run the lit tests with one process for each command
	$(call step,lit with processes,TILEWRIGHT_LIT=subprocess $(BIN)/lit -s -j $(JOBS) test)

reference: $(VENV)/.test ## Write the reference pages from the docstrings
	@$(BIN)/python docs/reference/generate.py

format: $(VENV)/.test ## Format the code and sort its imports
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## Remove what was made
	rm -rf $(VENV) build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "expected Python 3.11 or newer, got %d.%d; set PYTHON=..." % v[:2])'
	$(call step,virtual environment,$(PYTHON) -m venv $(VENV))

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(call step,install $(DEMO_EXTRAS),$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[$(DEMO_EXTRAS)]')
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(call step,install $(TEST_EXTRAS),$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[$(TEST_EXTRAS)]')
	@touch $@
