# Every target sets up its own virtual environment, from nothing, with the exact versions of constraints.txt.
# Settings: VENV (folder of the environment), PYTHON (3.11 or newer), WORKERS (processes of the tests),
# PROXFORGE_DATA (folder of the official ground truth, see the README).

VENV    ?= .venv
WORKERS ?= auto
PYTHON  ?= $(shell for python in python3.11 python3; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# what is imported is compiled once, not again in each of the hundred processes that the tests start
export PYTHONDONTWRITEBYTECODE :=

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test lint values bench
.DEFAULT_GOAL := help

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /make \1: /p' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create the virtual environment and install the package into it

$(STAMP): setup.py pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "installing into $(VENV): about a minute, without the downloads"
	"$(PYTHON)" -m venv "$(VENV)"
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	  "$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[dev]"
	@# pip would compile on one core, and all of it; files that this Python cannot read are left alone, as pip leaves them
	-@"$(BIN)/python" -m compileall -qq -j 0 -x '/(transformers|torch/testing|tests)/' "$(VENV)"/lib/python*/site-packages
	touch "$@"

demo: $(STAMP)  ## collect, search and rank on the embedded benchmark (five minutes at most on two cores)
	"$(BIN)/python" -m proxforge demo

test: $(STAMP)  ## run the tests
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n $(WORKERS)

lint: $(STAMP)  ## ruff, and mypy --strict over the package as it installs
	"$(BIN)/ruff" check .
	PYTHON="$(BIN)/python" .ci/typecheck

values: $(STAMP)  ## run every speed benchmark once, for the values that it asserts
	"$(BIN)/python" -m pytest bench/speed --benchmark-disable -n $(WORKERS)

bench: $(STAMP)  ## run the speed benchmarks, one process, nothing else beside them
	"$(BIN)/python" -m pytest bench/speed --benchmark-only -n 0
