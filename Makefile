# make demo    sets up .venv, then opens the demonstration (minutes the first time, seconds afterwards)
# make test    the same with the developers' tools, then the tests:  make test PYTEST_ARGS="tests/facts -x"
# make check   lint, formatting, types
# make docs    builds the manual into site/, strictly: a broken link is an error
# make demo-model   trains a model where the shipped one is missing, and scores its mastery (under an hour on 2 cores)
# make clean   removes .venv and what tools left behind; the results in cache/ stay
.DEFAULT_GOAL := help
.PHONY: help demo test check docs demo-model clean

VENV := .venv
# --dist loadfile: one file stays in one process, so what its tests share is made once
PYTEST_ARGS ?= -n 2 --dist loadfile
DEMO_ARGS ?=
PIP_INSTALL := $(VENV)/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off -c constraints.txt

help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(VENV)/.installed
	@$(VENV)/bin/sftknow demo $(DEMO_ARGS)

test: $(VENV)/.installed-dev
	@$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.installed-dev
	$(VENV)/bin/python -m mkdocs build --quiet --strict

# Interrupted, the same command goes on: pretraining at its last checkpoint, mastery at its first missing chunk.
demo-model: $(VENV)/.installed
	@[ -d sftknow_core/demo/model ] || $(VENV)/bin/sftknow pretrain --data demo --seed 0 --out sftknow_core/demo/model
	$(VENV)/bin/sftknow mastery --base sftknow_core/demo/model --data demo --max-new-tokens 8 --export sftknow_core/demo

clean:
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# A stamp is touched only after pip has succeeded, so an interrupted set-up is taken up again.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing sftknow into $(VENV): some minutes the first time."
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing sftknow and the developers' tools into $(VENV): some minutes the first time."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/.installed $@

# A name in PATH may be a launcher for a version that is not there: ask it to run before choosing it.
$(VENV)/bin/python:
	@for python in $(PYTHON) python3.11 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "sftknow needs Python 3.11 or newer; found: $$(python3 --version 2>&1)." >&2; \
	echo "Install one, or name it: make demo PYTHON=/path/to/python3.12" >&2; \
	exit 1
