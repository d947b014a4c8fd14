# Two commands are enough: `make book` and `make test`. Each does its own set-up.

PYTHON ?= python3
PORT   ?= 8000
JOBS   ?= 2

# UNPINNED=1: the newest versions that the ranges of pyproject.toml allow, in environments of their own.
VENV   ?= .venv$(if $(UNPINNED),-unpinned)
PINS   := $(if $(UNPINNED),,--constraint constraints.txt)

# Where PyTorch comes from: an index by its URL, or `registry` for what pip finds by itself. tools/install.py chooses
# where nothing is named.
TORCH_INDEX ?=

BIN    := $(VENV)/bin
PY     := $(BIN)/python
STAMP  := $(VENV)/.installed

# TensorFlow logs nothing but errors, and Keras 3 always means TensorFlow here.
export TF_CPP_MIN_LOG_LEVEL = 3
export KERAS_BACKEND = tensorflow
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# JOBS test workers share the cores, so every worker computes with one thread.
ONE_THREAD := TFGUIDE_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

, := ,

# $(call venv,folder): an environment in the folder, made by a Python that the project supports.
define venv
$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit( \
    "tfguide needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 ..." % v)'
$(1)/bin/python -c 'import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
    || $(PYTHON) -m venv --clear $(1)
endef

# $(call install,folder,extras): this package and its extras in the environment of the folder.
define install
@$(call venv,$(1))
@$(1)/bin/python tools/install.py --extras $(2) $(PINS) --torch-index '$(TORCH_INDEX)'
@touch $(1)/.installed
endef

INPUTS := pyproject.toml constraints.txt tools/install.py tools/build_constraints.txt

.PHONY: help setup triton book serve lab test test-some test-single lint format clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the pinned versions (TORCH_INDEX=... for another PyTorch, UNPINNED=1)

$(STAMP): $(INPUTS)
	$(call install,$(VENV),all)

# PyTorch's CUDA build brings triton. The tests of the import orders want a real one beside the CPU build, too.
triton: $(STAMP) ## install triton into a folder of .venv, for the tests of the import orders
	@$(PY) -c 'import triton' 2>/dev/null || test -d $(VENV)/triton \
	    || $(PY) -m pip install --quiet --no-deps --target $(VENV)/triton $(PINS) triton

book: $(STAMP) ## execute the pages and build the HTML (FRESH=1: execute the laboratories as well)
	@$(PY) tools/build_book.py $(if $(FRESH),--fresh)

serve: book ## serve the HTML on 127.0.0.1:8000 (PORT=... for another port)
	@echo "http://127.0.0.1:$(PORT)/"
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lab: $(STAMP) ## open JupyterLab on the notebooks
	@$(BIN)/jupyter lab notebooks

# A test, a cell or a kernel that hangs is a failure, by name: see pyproject.toml and conftest.py, where --quick says what
# it leaves out. ALL=1: everything, which takes twice as long.
PYTEST := $(ONE_THREAD) $(PY) -m pytest -n $(JOBS) --dist loadfile --nbval $(if $(ALL),,--quick)

# The book first, while the cores are idle: beside the tests, a page with one thread for each core waits for its own
# threads most of the time, and a cell of four seconds has taken five minutes. The tests say what a failed build means.
test: $(STAMP) ## build the book, then run pytest, doctests, and strict nbval over the notebooks (ALL=1: with the slow ones)
	-@$(PY) tools/build_book.py --if-stale
	@$(PYTEST) tests tfguide notebooks

# One file of every folder of tests, each with one framework hidden, and two notebooks: for another Python or another build.
# Other compilers and instruction sets are the same under every Python, and take minutes: `make test` tries them.
SOME := tests/structure/test_import_orders.py tests/test_single.py tests/test_layers.py tests/checkpoints/test_logits.py \
    tests/checkpoints/gguf/test_logits.py tests/conformance/test_models.py tests/compress tests/cost/test_cost.py tests/exercises/test_check.py tests/generation tests/parallel tests/serving tests/sharding tests/native/test_abi.py tests/native/test_blocks.py tests/native/test_doors.py tests/native/test_fallback.py tests/native/test_instructions.py tests/native/test_library.py tests/native/test_load.py tests/tasks tests/training tests/text tests/cli/test_main.py tests/book/test_chinese.py \
    notebooks/03a_attention.ipynb notebooks/04_mathematics.ipynb

test-some: $(STAMP) ## run some tests of every folder, the import orders and two notebooks
	@$(PYTEST) $(SOME)

test-single: $(VENV)-torch/.installed $(VENV)-tensorflow/.installed ## run tests/single with one framework installed only, each in turn
	@echo "== only PyTorch installed"
	@$(ONE_THREAD) $(VENV)-torch/bin/python -m pytest tests/single
	@echo "== only TensorFlow installed"
	@$(ONE_THREAD) $(VENV)-tensorflow/bin/python -m pytest tests/single

$(VENV)-%/.installed: $(INPUTS)
	$(call install,$(VENV)-$*,$*$(,)test)

lint: $(STAMP) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP) ## ruff: mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove what was built, keep the environments
	rm -rf _build build dist .pytest_cache .ruff_cache .hypothesis
	find tfguide tests tools notebooks book -name __pycache__ -prune -exec rm -rf {} +
