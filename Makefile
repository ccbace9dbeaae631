# Every target makes what it needs: a virtual environment with pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# On models as small as the embedded one a second thread costs more than it brings.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-ray test-real real-models check format bench docs atlas card clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("broca needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,datasets,gguf,peft,play]'
	touch $(READY)

demo: $(READY)  ## both papers on the embedded model: runs/demo/report.html
	$(BIN)/broca demo

test: $(READY)  ## the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --timeout 600 -m "not slow and not gpu and not real and not ray"

test-slow: $(READY)  ## the slow tests as well
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --hypothesis-profile default -m "not gpu and not real and not ray"

test-real: $(READY) real-models  ## the tests on real models
	$(BIN)/python -m pytest -q -m real

real-models: $(READY)  ## fetch two real models into models/
	$(BIN)/python tools/real_models.py

test-ray: $(READY)  ## the tests that start Ray on this machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -q -m ray

check: $(READY)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY)  ## put the code into the common style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## every benchmark, one after the other
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	for file in expertise deactivation attribution convergence; do $(BIN)/python benchmarks/$$file.py || exit 1; done

docs: $(READY)  ## check that the documentation's examples run
	$(BIN)/python -m pytest -q tests/test_public_api.py tests/test_readme.py

atlas: $(READY)  ## train the embedded model again, from its facts
	$(BIN)/python -m atlas.train --out atlas/runs/seed0 --seed 0 --export
	$(BIN)/python -m atlas.measure --write
	$(BIN)/python -m atlas.probe --write

card: $(READY)  ## measure the embedded model through plain transformers and print its table
	$(BIN)/python -m atlas.measure

clean:  ## remove what was built, keep runs
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache
