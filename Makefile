# The main targets are `make demo` and `make test`. Each creates the environment that it needs.
# With another interpreter or folder: make test PYTHON=python3.12 VENV=/somewhere/else

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test slow lint types docs format env clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.user-ready  ## train a small CvT on handwritten digits, then predict some
	$(BIN)/hexavit demo

test: $(VENV)/.dev-ready  ## run the quick tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

slow: $(VENV)/.dev-ready  ## run the tests marked slow
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev-ready  ## check style and formatting
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(VENV)/.dev-ready  ## check types
	$(BIN)/python -m mypy

docs: $(VENV)/.dev-ready  ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: $(VENV)/.dev-ready  ## fix style and formatting where a tool can
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

env: $(VENV)/.dev-ready  ## create the development environment and nothing more

clean:  ## remove build outputs; the environment and your runs stay
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is complete when its stamp file exists; the stamp is written last. It is updated when
# pyproject.toml changes. The package is installed in editable mode, so a change in src/ needs no new install.
$(VENV)/.user-ready: EXTRAS :=
$(VENV)/.dev-ready: EXTRAS := [dev]
$(VENV)/.user-ready $(VENV)/.dev-ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("hexavit needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": choose another, as in  make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install pip -e '.$(EXTRAS)'
	@touch $@
