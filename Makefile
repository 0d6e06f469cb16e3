# `make serve` serves the models that ship; `make test` passes the tests. Both set up what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 3000

.PHONY: serve test check bench gpu-check bento clean help

help:
	@echo "make serve   set up .venv-serve (no torch) and serve models/ on port $(PORT)"
	@echo "make test    set up .venv and run the tests"
	@echo "make check   format, lint and types (after make test)"
	@echo "make bench   training feed against bare forward and backward"
	@echo "make gpu-check   train, export and score on this machine's GPU; status 3 if there is none"
	@echo "make bento   build the Bento"

serve: .venv-serve/ready
	.venv-serve/bin/quarterturn serve --port $(PORT)

test: .venv/ready
	.venv/bin/pytest --numprocesses 2 --dist loadfile

check: .venv/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

bench: .venv/ready
	.venv/bin/python -m benchmarks.feed

gpu-check: .venv/ready
	.venv/bin/python -m benchmarks.gpu_check

bento: .venv-serve/ready
	BENTOML_DO_NOT_TRACK=True .venv-serve/bin/bentoml build

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable '.[dev]'
	touch $@

.venv-serve/ready: pyproject.toml
	$(PYTHON) -m venv .venv-serve
	.venv-serve/bin/pip install --quiet --editable .
	touch $@

clean:
	rm -rf .venv .venv-serve .mypy_cache .pytest_cache .ruff_cache *.egg-info
