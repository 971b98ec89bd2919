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
# Compiled modules are kept, whatever the caller's environment says: tests start many
# processes, each of which would compile the package again.
export PYTHONDONTWRITEBYTECODE :=
# Processes that run tests, a file each, with one thread each. In the order of their
# names the long files, which have few tests, do not all come last.
TEST_PROCESSES ?= 2
IN_PROCESSES := -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest $(IN_PROCESSES)
# Threads that wait for long let others have the core: see docs/guides/cpu.md.
ifndef OMP_WAIT_POLICY
export GOMP_SPINCOUNT ?= 10000
endif

.PHONY: setup demo test pytest test-slow test-all test-cuda test-scatter test-oldest \
	test-newest docs notebooks bench lint style types clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet -e '.[all]'
	touch $@

demo: $(READY)
	$(BIN)/python examples/drivaerml.py

lint: style types

style: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet

# Runs the notebooks in a folder of runs, minutes each, and stores their output in them.
notebooks: $(READY)
	$(BIN)/pip install --quiet nbconvert ipykernel
	mkdir -p runs/notebooks
	cp docs/notebooks/*.ipynb runs/notebooks
	$(BIN)/python -m jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.timeout=-1 runs/notebooks/*.ipynb
	cp runs/notebooks/*.ipynb docs/notebooks

# The tests build the documentation themselves, as strictly as `docs` does.
test: style
	$(MAKE) --jobs=2 types pytest

pytest: $(READY)
	$(PYTEST)

# What needs a GPU; everywhere else these tests are skipped.
test-cuda: $(READY)
	$(BIN)/pytest -m cuda

test-slow: $(READY)
	$(PYTEST) -m slow

test-all: lint
	$(PYTEST) -m "slow or not slow"

# Beside the other packages, not among them: `make test` stays without torch-scatter.
$(SCATTER): $(READY)
	$(BIN)/pip install --quiet setuptools wheel
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --target $(SCATTER) \
		torch-scatter

test-scatter: $(SCATTER)
	PYTHONPATH=$(SCATTER) $(BIN)/python -W ignore -c \
		"import torch_geometric.typing as t; assert t.WITH_TORCH_SCATTER"
	PYTHONPATH=$(SCATTER) $(BIN)/pytest -m segment

# The core with the lowest versions that pyproject.toml declares, in a place of its own:
# the torch of that age comes with gigabytes of CUDA. Some tests train, so that the extra for
# that is there too, in the versions of today.
OLDEST := .venv-oldest
CORE_TESTS := tests/functional tests/interop tests/kernels tests/nn \
	tests/surrogates/test_checkpoint.py tests/test_package.py

$(OLDEST)/.ready: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	env -u PIP_CONSTRAINT $(OLDEST)/bin/pip install --quiet \
		'numpy<3' pytest pytest-xdist hypothesis \
		$$(sed -n 's/^train = //p' pyproject.toml | tr -d '[]"' | sed 's/, / /g') \
		$$(sed -n 's/^dependencies = //p' pyproject.toml | tr -d '[]",' \
			| sed 's/>=/==/g')
	touch $@

test-oldest: $(OLDEST)/.ready
	PYTHONPATH="$(CURDIR)" OMP_NUM_THREADS=1 $(OLDEST)/bin/pytest $(IN_PROCESSES) \
		$(CORE_TESTS)

# The same, and every row of docs/works_with.md, with the highest versions there are.
NEWEST := .venv-newest
PARTNERS := captum mlflow onnxruntime onnxscript tabulate tensorboardX wandb

$(NEWEST)/.ready: pyproject.toml
	$(PYTHON) -m venv $(NEWEST)
	env -u PIP_CONSTRAINT $(NEWEST)/bin/pip install --quiet -e '.[train,viz,hub,peft,fno]' \
		pytest pytest-xdist hypothesis $(PARTNERS)
	touch $@

test-newest: $(NEWEST)/.ready
	OMP_NUM_THREADS=1 $(NEWEST)/bin/pytest $(IN_PROCESSES) $(CORE_TESTS) tests/works_with

bench: $(READY)
	$(BIN)/python examples/benchmarks/run.py

clean:
	rm -rf .venv .venv-oldest .venv-newest build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
