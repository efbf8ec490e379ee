# Needs Python >= 3.10 with pip, and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

ROUTERS ?= recal grpo dr-grpo knn ridge
SEEDS ?= 3
RUNS ?= runs
WORKERS ?= 2

.PHONY: bench test docs

bench: $(BIN)/recal-bench  ## Routers on the embedded pool: the comparison, the leaderboard and its pictures
	$(BIN)/recal-bench run $(ROUTERS:%=--router %) --seeds $(SEEDS) --runs $(RUNS)
	$(BIN)/recal-bench leaderboard $(RUNS) --out $(RUNS)/leaderboard
	@echo
	@echo "Try next:"
	@echo "  $(BIN)/recal-bench view $(RUNS)"
	@echo "  $(BIN)/recal-bench compare $(RUNS) --baseline knn"
	@echo "  $(BIN)/recal-bench routers"
	@echo "  $(BIN)/recal-bench run --router recal --outcomes YOUR_LOG.parquet --runs $(RUNS)"

test: $(VENV)/test-extras  ## What a change must pass: style, types, tests, coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(BIN)/python -m slipcover --json --out .coverage.json -m pytest -n $(WORKERS) --dist worksteal
	$(BIN)/python -m slipcover --merge .coverage.json --out .coverage.json --skip-covered --fail-under 90

docs: $(VENV)/docs-extra  ## The pages of docs/ as a site in site/; a warning is an error
	$(BIN)/mkdocs build --strict --quiet
	@echo "built site/: open site/index.html, or read along while writing with $(BIN)/mkdocs serve"

# One environment for all. pip is asked again only when pyproject.toml has changed.
$(BIN)/recal-bench: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e .
	@touch $@

# Most of its 20,000 files are never imported: Python compiles those that are, and pip need not compile them all.
$(VENV)/test-extras: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --no-compile -e ".[test]"
	@touch $(BIN)/recal-bench $@

$(VENV)/docs-extra: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e ".[docs]"
	@touch $(BIN)/recal-bench $@
