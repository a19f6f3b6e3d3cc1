# The one door: people, the README and .ci/run call the same targets. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PETASTORM := .venv-petastorm
PEER := .venv-peer
CONFIG ?= jobs/configs/complete_journey.toml
STUDY ?= jobs/configs/studies/architecture.toml
STUDIES = $(if $(filter command% environment%,$(origin STUDY)),$(STUDY),$(wildcard jobs/configs/studies/*.toml))
SET ?=
COMPOSE ?= docker compose
ARGS ?=
# Tests at a time, whole files each: much of a test is waiting for Spark and Ray to start.
TESTS ?= 2

export PYSPARK_PYTHON := $(CURDIR)/$(BIN)/python
export PYTHONWARNINGS := ignore::FutureWarning
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help demo search compare exhibits test lint unit test-cluster test-month test-faults petastorm readme venv venv-petastorm wheel clean
.PHONY: docs experiments bench-experiments bench-select
.PHONY: bench-etl bench-train bench-predict bench-readers bench-scaling cluster-secrets cluster-demo cluster-daily

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: venv ## raw real data to predictions and a report in out/demo (CLEAN=1 starts over)
	@$(BIN)/python -m jobs.demo --config $(CONFIG) $(if $(CLEAN),--clean) $(foreach s,$(SET),--set $(s))

test: venv lint unit petastorm readme ## everything that must hold before a change lands

lint: venv ## format, lint, types, the dependency rule
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

unit: venv ## unit, property, Spark and Ray tests, and each cheap kind of fault once
	@$(BIN)/python -m pytest -n $(TESTS) --dist loadfile --no-loadscope-reorder --durations 25 -m "not readme and not month and not (faults and slow)"

test-cluster: venv ## the build on a standalone Spark cluster, with processes killed (part of unit)
	@$(BIN)/python -m pytest -m cluster

test-month: venv ## thirty nights with late data, drift, a missed night, a bad model (an hour)
	@$(BIN)/python -m pytest -m month $(ARGS)

test-faults: venv ## processes killed, disks full, files damaged, stores gone: 20 times each, costly kinds 3 (hours)
	@export FAULT_SEED=$${FAULT_SEED:-$$RANDOM} FAULT_REPETITIONS=$${FAULT_REPETITIONS:-20}; \
	export FAULT_COSTLY_REPETITIONS=$${FAULT_COSTLY_REPETITIONS:-3} FAULT_LOG=$${FAULT_LOG:-out/faults/$$FAULT_SEED.jsonl}; \
	echo "FAULT_SEED=$$FAULT_SEED; python -m tests.faults.results $$FAULT_LOG makes benchmarks/faults.md of what is seen"; \
	$(BIN)/python -m pytest -m faults $(ARGS)

petastorm: venv-petastorm ## the reader suite in petastorm's own environment
	@PYTHONPATH=. $(PETASTORM)/bin/python -m pytest tests/training/test_readers.py -m "not ray"

readme: venv ## the README's commands with a reduced demo, and docs/bring_your_own_data.md
	@$(BIN)/python -m pytest -n $(TESTS) --dist loadfile -m readme

search: venv ## the missing trials of a study's hyperparameter search, each saved when finished
	@$(BIN)/python -m jobs.search --config $(STUDY) $(foreach s,$(SET),--set $(s)) $(ARGS)

compare: venv ## the missing cells of a study (STUDY=jobs/configs/studies/system.toml ARGS="--model m2m --seed 0"), each saved when finished
	@$(BIN)/python -m jobs.compare --config $(STUDY) $(foreach s,$(SET),--set $(s)) $(ARGS)

exhibits: venv ## tables and pictures of every study that has cells, from those that are finished
	@for study in $(STUDIES); do $(BIN)/python -m jobs.exhibits --if-any --config $$study $(foreach s,$(SET),--set $(s)) $(ARGS) || exit; done

experiments: venv ## two experiments whose truth is known, as docs/exhibits/experiments (a minute)
	@$(BIN)/python -m jobs.experiments --out docs/exhibits/experiments $(ARGS)

docs: venv ## the API reference, from the docstrings, in out/docs (a warning is an error)
	@PDOC_ALLOW_EXEC=1 $(BIN)/python -W error::UserWarning -m pdoc -o out/docs --docformat google m2m_model etl training jobs '!training.readers.petastorm' '!m2m_model._kernel'

bench-experiments: venv ## how often intervals cover the truth in 4,000 experiments per design (10 minutes)
	@$(BIN)/python -m benchmarks.experiments $(ARGS)

bench-select: venv ## nine million predictions to a list (3 minutes)
	@$(BIN)/python -m benchmarks.select $(ARGS)

bench-readers: venv venv-petastorm ## the readers against each other, HF datasets and tensors in memory (5 minutes)
	@$(BIN)/python -m benchmarks.readers.run --petastorm $(PETASTORM)/bin/python $(ARGS)

bench-scaling: venv ## one and two workers on two cores, and the modelled curve to 40 x 15 (5 minutes, nothing else running)
	@$(BIN)/python -m benchmarks.scaling.run $(ARGS)

venv: $(VENV)/.ready ## the main environment

venv-petastorm: $(PETASTORM)/.ready ## the petastorm reader's pinned environment

$(VENV)/.ready: pyproject.toml setup.py constraints.txt $(wildcard m2m_model/kernel*.cpp m2m_model/kernel*.h)
	@java -version 2>&1 | grep -qE 'version "(1[7-9]|[2-9][0-9])' || { echo 'error: Java 17 or newer is needed: apt-get install openjdk-17-jre-headless' >&2; exit 2; }
	@$(call check-python)
	@$(call check-disk)
	@echo "setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(call install,$(VENV),constraints.txt,'.[etl$(,)training$(,)mlflow$(,)demo$(,)dev]')
	@touch $@

$(PEER)/.ready:
	@$(call check-python)
	@$(call check-disk)
	@echo "setting up $(PEER) (a few minutes the first time)"
	@$(PYTHON) -m venv $(PEER)
	@$(PEER)/bin/python -m pip install -q deep-rec-kit==1.0.2 tensorflow-cpu==2.15.1 || { echo 'error: the peer could not be installed: check the network (or PIP_INDEX_URL) and run the same command again' >&2; exit 2; }
	@touch $@

$(PETASTORM)/.ready: pyproject.toml constraints-petastorm.txt
	@$(call check-python)
	@$(call check-disk)
	@echo "setting up $(PETASTORM) (a few minutes the first time)"
	@$(PYTHON) -m venv $(PETASTORM)
	@$(call install,$(PETASTORM),constraints-petastorm.txt,'.[petastorm]' pytest pytest-timeout hypothesis)
	@touch $@

bench-etl: venv ## the dataset build beside plain and naive PySpark and Polars (about 15 minutes on 2 cores)
	@$(BIN)/python -m benchmarks.etl $(ARGS)

bench-train: venv $(PEER)/.ready ## training steps per core: ours, the bmm twin, the public peer (half an hour)
	@$(BIN)/python -m benchmarks.train.run $(ARGS)

bench-predict: venv ## a day's predictions, Parquet to Parquet, on two cores (20 minutes)
	@$(BIN)/python -m benchmarks.predict.run $(ARGS)

wheel: venv ## dist/: the wheel, and as .zip, the only name that spark-submit --py-files takes to the workers
	@$(BIN)/python -m build --wheel -o dist .
	@for wheel in dist/*.whl; do cp "$$wheel" "$${wheel%.whl}.zip"; done

cluster-secrets: ## keys of the compose cluster's object store and Ray's token, drawn once into .env
	@test ! -e .env || { echo 'error: .env is there already: remove it to draw others' >&2; exit 2; }
	@umask 077; $(PYTHON) -c 'import secrets; [print(f"{name}={secrets.token_hex(24)}") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")]; print("RAY_AUTH_MODE=token")' >.env

cluster-demo: ## the whole pipeline on the compose cluster that is up (docs/deploy.md)
	@COMPOSE='$(COMPOSE)' docker/demo.sh $(foreach s,$(SET),--set $(s))

cluster-daily: ## one night on the compose cluster: make cluster-daily DATE=2017-12-31
	@DATE='$(DATE)' $(COMPOSE) --profile jobs run --rm daily-features
	@DATE='$(DATE)' $(COMPOSE) --profile jobs run --rm daily-labels
	@DATE='$(DATE)' $(COMPOSE) --profile jobs run --rm daily

clean: ## everything that was made, the environments aside
	@rm -rf out dist build .pytest_cache .mypy_cache .ruff_cache

, := ,
check-python = $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo 'error: Python 3.11 is needed: install it or call make PYTHON=/path/to/python3.11' >&2; exit 2; }
check-disk = test "$$(df -Pk . | awk 'NR == 2 {print $$4}')" -gt 4000000 || { echo 'error: about 4 GB of free disk space are needed here: free some and run the same command again' >&2; exit 2; }
# torch first and by exact version, so that the build the index offers for this platform is taken once.
install = { $(1)/bin/python -m pip install -q --upgrade pip && $(1)/bin/python -m pip install -q torch==2.13.0 && $(1)/bin/python -m pip install -q -c $(2) -e $(3); } || { echo 'error: the dependencies could not be installed: check the network (or PIP_INDEX_URL) and run the same command again' >&2; exit 2; }
