PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
PYTEST = $(BIN)/pytest -n auto --maxprocesses 8 --dist loadgroup --no-loadscope-reorder --max-worker-restart 0
OLD := pinnsweep needs Python 3.11 or newer, $(PYTHON) is older: set PYTHON, as in make PYTHON=python3.12

.PHONY: help install demo pictures test test-all check bench clean
help:  ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: .venv/.installed  ## make .venv with everything in it (TORCH=... for another build of torch)

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("$(OLD)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

demo: install  ## run a small sweep on the real data, then show its best trials and its report (4 minutes)
	$(BIN)/pinnsweep run examples/quickstart.yaml --root runs
	$(BIN)/pinnsweep top runs/quickstart
	$(BIN)/pinnsweep error-budget runs/quickstart best
	$(BIN)/pinnsweep run examples/formulations.yaml --root runs
	@printf '\nTwo formulations, read at the points (rel_l2) and at the nodes by shape functions (rel_l2_nodal):\n'
	$(BIN)/pinnsweep query runs/formulations "SELECT formulation, rel_l2, rel_l2_nodal, process_zone_error, process_zone_error_nodal, seconds FROM trials"
	$(BIN)/pinnsweep report runs/quickstart --picture runs/quickstart/overview.svg --force
	@printf '\nThree commands to try next:\n'
	@printf '  $(BIN)/pinnsweep %s\n' 'query runs/quickstart "SELECT init, min(rel_l2) FROM trials GROUP BY init"' \
	  'dashboard runs/quickstart' 'run runs/quickstart --trials 32'

pictures: demo  ## draw the picture of the README anew, that of the demo
	$(BIN)/pinnsweep report runs/quickstart --picture docs/pictures/demo.svg --force
	$(BIN)/pinnsweep report runs/quickstart --picture docs/pictures/demo-dark.svg --dark --force

test: check  ## check, then every test but the slow ones
	$(PYTEST) -m "not slow"

test-all: check  ## check, then every test
	$(PYTEST)

check: install  ## ruff, mypy, import contracts, the size and names of rooms
	$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy
	$(BIN)/lint-imports && $(BIN)/pytest -q -p no:xdist tests/test_house.py

bench: install  ## this project beside what else there is, an hour (BENCH="--quick": minutes)
	$(BIN)/python -m benchmarks $(BENCH)

clean:  ## remove .venv, caches and build folders; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info \
	  $$(find benchmarks cluster pinncore sweeps tests -name __pycache__)
