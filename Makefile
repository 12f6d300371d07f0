# One command a chore. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test check lock bench soak docs schemas format clean
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

$(VENV)/run.stamp: requirements/run.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

demo: $(VENV)/run.stamp ## run the main job end to end and check it; on a cluster with BUS=kafka://… ARCHIVE=s3://…
	$(BIN)/heliograph demo $(if $(BUS),--bus '$(BUS)') $(if $(ARCHIVE),--archive '$(ARCHIVE)')

test: $(VENV)/dev.stamp ## run every test
	$(BIN)/python -m tests.services
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/dev.stamp ## lint, types, layers and the shape of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --warnings

bench: $(VENV)/dev.stamp ## measure, as ratios to the bare work in the same run
	$(BIN)/python -m benchmarks

MINUTES ?= 5
KILLS ?= 0
SEED ?= 1
soak: $(VENV)/dev.stamp ## break a deployment for MINUTES=n or until KILLS=n, with SEED=n, on Kafka and S3 with WHERE=cluster; nothing may be lost
	$(BIN)/python -m $(if $(filter cluster,$(WHERE)),tests.acceptance.soak,heliograph chaos) --for $(MINUTES)m --kills $(KILLS) --seed $(SEED)

docs: $(VENV)/run.stamp ## write the pages that are made from the code
	$(BIN)/python -m heliograph.app.settings_reference > docs/reference/settings.md

schemas: $(VENV)/run.stamp ## write the published JSON Schema files again
	$(BIN)/python -m schemas.publish

lock: $(VENV)/dev.stamp ## write requirements/*.txt again from pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate --universal --python-version 3.11 pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate --universal --python-version 3.11 --extra dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt

format: $(VENV)/dev.stamp ## format the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean: ## remove what the other commands made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
