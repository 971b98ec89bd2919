# Every target installs what it needs into .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SCATTER := .venv/scatter
# Relative: pip splits the value at spaces, which the path of a folder may hold. Builds
# in isolation run in this folder too.
export PIP_CONSTRAINT := constraints.txt
export NO_MKDOCS_2_WARNING := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads that wait for long let others have the core: see docs/guides/cpu.md.
export GOMP_SPINCOUNT ?= 10000

.PHONY: setup demo test test-slow test-all test-scatter docs bench lint clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet -e '.[all]'
	touch $@

demo: $(READY)
	$(BIN)/python examples/drivaerml.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet

test: lint docs
	$(BIN)/pytest

test-slow: $(READY)
	$(BIN)/pytest -m slow

test-all: lint docs
	$(BIN)/pytest -m "slow or not slow"

# Beside the other packages, not among them: `make test` stays without torch-scatter.
$(SCATTER): $(READY)
	$(BIN)/pip install --quiet setuptools wheel
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --target $(SCATTER) \
		torch-scatter

test-scatter: $(SCATTER)
	PYTHONPATH=$(SCATTER) $(BIN)/python -W ignore -c \
		"import torch_geometric.typing as t; assert t.WITH_TORCH_SCATTER"
	PYTHONPATH=$(SCATTER) $(BIN)/pytest -m segment

bench: $(READY)
	$(BIN)/python examples/benchmarks/run.py

clean:
	rm -rf .venv build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
