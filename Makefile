# `make demo` and `make test` work on a fresh clone: they set up .venv first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo check test documented tiny docs lint style types fast every install clean

demo: $(INSTALLED)  ## From the video of a small moving scene to a 4D scene: reconstruct, train, evaluate, render a novel view.
	$(BIN)/python demo/demo.py --output demo-out

# Processes of several threads would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

check: style  ## Run the linter, the type checker and the fast tests, in two minutes.
	$(MAKE) --jobs=2 types fast

test: style  ## Run the linter, the type checker and all tests but `make documented`'s; ARGS are more options of pytest.
	$(MAKE) --jobs=2 types every

fast: $(INSTALLED)
	$(PYTEST) -n 2 -m "not slow"

every: $(INSTALLED)  # three keep two cores busy, as some slow tests wait for programs
	$(PYTEST) -n 3 -m "not documented" $(ARGS)

documented: $(INSTALLED)  ## Run every documented command and snippet on small data.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m documented

tiny: $(INSTALLED)  ## Train the small model that comes with the package again, in under three hours on two cores with AMX; started again, it goes on where it was.
	OMP_NUM_THREADS=1 $(BIN)/python training/tiny.py

lint: style types

style: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

docs: $(INSTALLED)  ## Build the documentation's site into site/; a broken link, or any other warning, is an error.
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[nerfstudio,training,evaluation,scale,app,dev]"
	touch $@

clean:  ## Remove what `make` made.
	rm -rf $(VENV) demo-out site
