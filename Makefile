# `make run` and `make test` need nothing but Python 3.11+ and make; both set up .venv first.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FOLDER ?= team
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
# Empty is off: where a machine sets it, each process compiles our modules anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup run test test-all test-services test-browser soak lint types golden sync audit bench ui up down docs ship clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

# A new pip first: old ones never end their search on boto3. torch next and alone: with it there nothing pulls CUDA.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, got " + v + "; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[pipeline,team,dev]'
	touch $@

setup: $(STAMP)  ## make .venv and install everything into it

run: $(STAMP)  ## data, teacher, student, evaluation, export, registration, promotion, report
	featherface pipeline

test: $(STAMP)  ## lint, types, layers and every test but the slow ones
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache
	OMP_NUM_THREADS=1 pytest -m 'not slow and not gpu and not services' -n auto --dist loadfile --no-loadscope-reorder --jaxtyping-packages=featherface.geometry,featherface.losses,featherface.models,beartype.beartype

test-all: test  ## every test, the slow ones too
	OMP_NUM_THREADS=1 pytest -m 'slow and not gpu and not services' -n auto --dist worksteal --timeout=2400

test-services: $(STAMP)  ## what a team relies on, against real PostgreSQL, S3, MLflow, Prefect; Debian's packages
	test -x /usr/bin/radosgw -a -d /usr/lib/postgresql || { apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends postgresql ceph-mon ceph-mgr ceph-osd radosgw ceph-common; }
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dask,ray]"
	pytest -m services tests/services

# WebKit: Debian's webkit2gtk-driver and xvfb; without them its tests are skipped.
test-browser: $(STAMP)  ## the page of `featherface demo` in Chromium and WebKit, against Python; needs chromium and npm
	$(BIN)/python -m pip install --quiet -c constraints.txt playwright selenium
	pytest tests/browser

soak: $(STAMP)  ## kill the pipeline at a hundred random times; nothing may be lost
	FEATHERFACE_SOAK_KILLS=100 pytest tests/e2e/test_failures.py -k random --timeout=14400

lint: $(STAMP)  ## check style and layers
	ruff check .
	ruff format --check .
	lint-imports --no-cache

types: $(STAMP)  ## check types
	mypy

golden: $(STAMP)  ## rewrite the golden numbers; review the difference like code
	FEATHERFACE_REWRITE_GOLDEN=1 pytest tests/golden

sync: $(STAMP)  ## write dvc.yaml anew from the stages
	python -m pipelines.workspace .

# Strict: what the vulnerability service does not know must not pass for safe.
audit: $(STAMP)  ## known weaknesses of what is installed, and a bill of materials in sbom.json
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[audit]'
	cyclonedx-py environment $(BIN)/python --output-file sbom.json
	mkdir -p .cache
	$(BIN)/python -m pip list --format=freeze --exclude-editable | sed 's/+cpu$$//' > .cache/installed.txt
	test -s .cache/installed.txt
	pip-audit --strict --no-deps --disable-pip --requirement .cache/installed.txt

bench: $(STAMP)  ## measure speed: ratios and medians as JSON
	for script in benchmarks/bench_*.py; do python $$script || exit 1; done

ui: $(STAMP)  ## open the runs in MLflow's web page on http://127.0.0.1:5000
	mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

up: $(STAMP)  ## start a team's services in FOLDER=team: PostgreSQL, S3, MLflow, Prefect, worker
	featherface team up --folder $(FOLDER)

down: $(STAMP)  ## stop them; their state stays
	featherface team down --folder $(FOLDER)

docs: $(STAMP)  ## draw the pictures of the README anew
	python docs/make_pictures.py

ship: $(STAMP)  ## put the champion of WORKSPACE=DIR into the package
	python -m pipelines.shipping $(WORKSPACE)

clean:  ## remove everything that was made, the trained models too; .venv stays
	rm -rf artifacts data state out workspaces mlflow.db mlartifacts .prefect .cache dvc.lock .dvc/cache .dvc/tmp
