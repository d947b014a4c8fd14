# Two commands are enough: `make book` and `make test`. Each does its own set-up.

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8000
JOBS   ?= 2

BIN    := $(VENV)/bin
PY     := $(BIN)/python
STAMP  := $(VENV)/.installed

# TensorFlow logs nothing but errors, and Keras 3 always means TensorFlow here.
export TF_CPP_MIN_LOG_LEVEL = 3
export KERAS_BACKEND = tensorflow
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# JOBS test workers share the cores, so every worker computes with one thread.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

# $(call venv,folder): an environment in the folder, made by a Python that the project supports.
define venv
$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit( \
    "tfguide needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 ..." % v)'
$(1)/bin/python -c 'import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
    || $(PYTHON) -m venv --clear $(1)
endef

.PHONY: help setup book serve lab test test-single lint format clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the pinned versions

$(STAMP): pyproject.toml constraints.txt
	@$(call venv,$(VENV))
	$(PY) -m pip install --quiet --editable '.[all]' --constraint constraints.txt
	@touch $@

book: $(STAMP) ## execute the notebooks and build the HTML
	@$(PY) tools/build_book.py

serve: book ## serve the HTML on 127.0.0.1:8000 (PORT=... for another port)
	@echo "http://127.0.0.1:$(PORT)/"
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lab: $(STAMP) ## open JupyterLab on the notebooks
	@$(BIN)/jupyter lab notebooks

test: $(STAMP) ## run every test: pytest, doctests, and strict nbval over the notebooks
	@$(ONE_THREAD) $(PY) -m pytest -n $(JOBS) --dist loadfile --nbval tests tfguide notebooks

test-single: .venv-torch/.installed .venv-tensorflow/.installed ## run tests/single with one framework installed only, each in turn
	@echo "== only PyTorch installed"
	@$(ONE_THREAD) .venv-torch/bin/python -m pytest tests/single
	@echo "== only TensorFlow installed"
	@$(ONE_THREAD) .venv-tensorflow/bin/python -m pytest tests/single

.venv-%/.installed: pyproject.toml constraints.txt
	@$(call venv,.venv-$*)
	.venv-$*/bin/python -m pip install --quiet --editable '.[$*,test]' --constraint constraints.txt
	@touch $@

lint: $(STAMP) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP) ## ruff: mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove what was built, keep the environments
	rm -rf _build build dist .pytest_cache .ruff_cache .hypothesis
	find tfguide tests tools notebooks book -name __pycache__ -prune -exec rm -rf {} +
