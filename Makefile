# shortcast: `make demo` scores a real clip on a fresh machine, `make test` proves the rest.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv-demo/bin
WHEEL_DIR := build/wheel

.PHONY: help demo venv test lint smoke demo-bundle paper sample clean

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: .venv-demo/.made  ## Install the runtime alone (no torch) and score the sample clip, chunk by chunk.
	@$(DEMO)/shortcast score samples/sample.mp4 --every-chunk --format table

venv: .venv/.made  ## Make .venv with every development extra.

# Two files at a time, each in a worker. PyTorch starts threads for GPUs that are not there in a process that has traced a graph and then
# trains, which only tests do, and one such process crashed at its end. How a worker ends after its tests is not judged; one that crashes
# in a test fails it, and the run ends (without the limit on restarts it would hang).
test: venv lint  ## Lint, types, the whole test suite, and the wheel in a bare environment.
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0
	$(MAKE) --no-print-directory smoke

lint: venv  ## ruff and mypy.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

smoke: venv  ## Build the wheel, install it with no extras in a fresh environment, and use it.
	PYTHON=$(PYTHON) BIN=$(CURDIR)/$(BIN) tests/smoke.sh

demo-bundle: venv  ## Train and export the demo bundle again (most of an hour on two cores).
	PATH=$(CURDIR)/$(BIN):$$PATH samples/make_demo_bundle.sh

paper: venv  ## Make the figures of docs/results.md again (93 minutes on two cores; SHORTCAST_PAPER names the work folder).
	PATH=$(CURDIR)/$(BIN):$$PATH samples/make_paper.sh

sample: venv  ## Make the sample clip again (needs a Debian machine).
	$(BIN)/python samples/make_sample.py

clean:  ## Remove the environments and everything built.
	rm -rf .venv .venv-demo build dist *.egg-info

# Both environments are made once and reused while the two files they are made from are unchanged. setuptools warns that an editable
# install of a root package shadows folders of the same name; PYTHONWARNINGS keeps that to itself.
INSTALL = -m pip install --quiet --constraint constraints.txt --editable

.venv-demo/.made: pyproject.toml constraints.txt
	@echo "installing the runtime into .venv-demo (no torch)"
	@$(PYTHON) -m venv --clear .venv-demo
	@$(DEMO)/python -m pip install --quiet --upgrade pip
	@PYTHONWARNINGS=ignore $(DEMO)/python $(INSTALL) '.[whisper-tiny-en]'
	@touch $@

.venv/.made: pyproject.toml constraints.txt
	@echo "installing every development extra into .venv"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@PYTHONWARNINGS=ignore $(BIN)/python $(INSTALL) '.[dev]'
	@touch $@
