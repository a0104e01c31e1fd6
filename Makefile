PY ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# Options for pip, such as --index-url with the address of PyTorch's CPU-only wheels.
PIP_ARGS ?=
PYTEST_ARGS ?= -n 2
GPU_PY ?= python3

.PHONY: demo test test-slow gpu lint types format bench inject clean

demo: $(VENV)/.ok
	$(BIN)/python -m ssir.demo mamba lstm griffin transformer

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(VENV)/.ok
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS) -m slow

# On a machine with a GPU, in whatever environment has its torch.
gpu:
	$(GPU_PY) -m pytest -ra -m gpu
	$(GPU_PY) -m tests.gpu -o docs/benchmarks-gpu.md

lint: $(VENV)/.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ok
	$(BIN)/mypy

format: $(VENV)/.ok
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ok
	$(BIN)/python -m ssir.bench

inject: $(VENV)/.ok
	$(BIN)/python -m tests.inject $(INJECT_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ok: pyproject.toml constraints.txt
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[test,dev]'
	touch $@
