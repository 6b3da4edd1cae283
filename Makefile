.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eo pipefail -c
PYTHON ?= python3.11
BIN := .venv/bin
RUN := $(BIN)/python -m

.PHONY: help install demo serve dashboard pipeline test slow lowest broker lint types docs lock

help:  ## the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

PIP := $(BIN)/pip install --quiet --quiet --disable-pip-version-check

.venv/torch:
	$(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	touch $@

.venv/%: requirements/%.lock pyproject.toml | .venv/torch
	$(PIP) --no-deps --requirement $<
	$(PIP) --no-deps --editable .
	touch $@

.venv/installed: requirements.lock pyproject.toml | .venv/torch
	$(PIP) --no-deps --requirement $<
	$(PIP) --no-deps --editable .
	touch $@

install: .venv/installed  ## .venv with torch and everything the lock names

DEMO := paths.data=data/demo paths.outputs=outputs/demo

define NEXT

The model is the first of its name, so it serves. It is marked experimental:
made-up prices have nothing to forecast but how far they move, and there it is
as good as the best baseline.

Next:
  make serve      the model answers at http://127.0.0.1:8000, documented at /docs
  make dashboard  its forecasts, scores and bars at http://127.0.0.1:5006
endef
export NEXT

demo: .venv/demo  ## synthetic minutes → bars → model → registered as champion → one forecast
	@$(RUN) lstm_ts.ingest $(DEMO)
	@$(RUN) lstm_ts.process $(DEMO)
	@$(RUN) lstm_ts.retrain +experiment=quickstart $(DEMO)
	@echo; cd outputs/demo && rm -f champion/{manifest.json,network.onnx,SHA256SUMS,weights.safetensors} && { ! [ -d champion ] || rmdir champion; }
	@$(RUN) lstm_ts.registry action=export version=champion to=outputs/demo/champion $(DEMO) > /dev/null
	@$(RUN) lstm_ts.predict model=outputs/demo/champion $(DEMO) | tail -n 1
	@echo "$$NEXT"; echo "  report          $$(ls -t outputs/demo/retrain/*/*/scores/report.html | head -n 1)"

serve: .venv/demo .venv/serve  ## the demo's champion on http://127.0.0.1:8000
	@$(RUN) serve.server $(DEMO)

dashboard: .venv/demo .venv/dashboard  ## pages over the demo's stores and the service (make serve) on http://127.0.0.1:5006
	@$(RUN) dashboard.server $(DEMO)

PIPELINE := paths.data=data/pipeline paths.outputs=outputs/pipeline first_day=2025-01-01 days_per_run=92 \
	"ingest='source.start=2025-01-01 source.end=2030-01-01'" "retrain='+experiment=quickstart'"

pipeline: install  ## the schedule on synthetic bars: Dagster on http://127.0.0.1:3000; PIPELINE='…' for other settings
	@$(RUN) lstm_ts.pipeline $(PIPELINE)

ONE_THREAD := OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1  # in each of several processes
TESTERS = $(shell expr $$(nproc) + 1)  # tests wait for servers and pages

test: install  ## the suite, but for the slow tests
	$(ONE_THREAD) $(RUN) pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

slow: install  ## the slow tests; TESTS="tests/test_a*.py …" for those of some files
	$(ONE_THREAD) $(RUN) pytest $(TESTS) -m slow --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

# Beside the lock, whose client it replaces: the two cannot be installed together.
.venv-ib_async/installed: .venv/installed
	$(PYTHON) -m venv .venv-ib_async
	.venv-ib_async/bin/pip install --quiet --disable-pip-version-check --no-deps ib_async==2.1.0 aeventkit==2.1.0 nest_asyncio==1.6.0
	realpath .venv/lib/python3*/site-packages > $$(echo .venv-ib_async/lib/python3*/site-packages)/lock.pth
	touch $@

broker: .venv-ib_async/installed  ## the tests of source=ib with ib_async, the successor of ib_insync
	$(ONE_THREAD) .venv-ib_async/bin/python -m pytest --numprocesses auto tests/test_ib.py

lint: install  ## ruff, imports, deploy/ and workflows
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/ruff format --check .
	deploy/check

lowest:  ## the suite with the lowest versions of the ranges
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check uv==0.9.30
	VIRTUAL_ENV=.venv-lowest .venv-lowest/bin/uv pip install --quiet --resolution lowest-direct --all-extras \
		--requirement pyproject.toml --editable .
	$(ONE_THREAD) .venv-lowest/bin/python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

types: install  ## mypy, strict
	$(BIN)/mypy

docs: install  ## the documentation as a site: site/index.html
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet

COMPILE = .lock/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-package torch --no-annotate \
	--custom-compile-command 'make lock' --constraint <(echo torch==2.13.0) pyproject.toml
SUBSET = $(COMPILE) --constraint requirements.lock

lock:  ## write the locks anew from pyproject.toml; what is locked already stays where it fits
	$(PYTHON) -m venv .lock && .lock/bin/pip install --quiet uv==0.9.30
	$(COMPILE) --all-extras -o requirements.lock
	$(SUBSET) -o requirements/demo.lock --extra train --extra registry
	$(SUBSET) -o requirements/serve.lock --extra serve --extra postgres
	$(SUBSET) -o requirements/dashboard.lock --extra dashboard --extra registry --extra postgres
	$(SUBSET) -o requirements/jobs.lock --extra train --extra registry --extra monitor --extra pipeline \
		--extra postgres --extra ib --extra sweeps --extra wandb
	rm -rf .lock
