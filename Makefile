# `make serve` serves the models that ship; `make test` passes the tests. Both set up what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 3000

.PHONY: serve test check bench bench-feed bench-score soak fuzz gpu-check bento clean help

help:
	@echo "make serve   set up .venv-serve (no torch) and serve models/ on port $(PORT)"
	@echo "make test    set up .venv and run the tests"
	@echo "make check   format, lint and types (after make test)"
	@echo "make bench   the service against raw ONNX Runtime, FastAPI, LitServe and stock BentoML; needs wrk (apt-get install wrk)"
	@echo "make bench-feed   training feed against bare forward and backward"
	@echo "make bench-score   \`quarterturn score\` against raw ONNX Runtime"
	@echo "make soak    five minutes of good, bad, huge, slow and aborted requests; Error 1 if anything is not right"
	@echo "make fuzz    $(SECONDS) seconds of damaged images and requests, with fresh seeds; Error 1 at the first fault"
	@echo "make gpu-check   train, export and score on this machine's GPU; Error 1 if anything is not right, Error 3 if there is no GPU"
	@echo "make bento   build the Bento"
	@echo "make clean   remove the environments and the caches"
	@echo "Error N is what make prints of a check that ended with status N; make's own exit status is then 2."

serve: .venv-serve/ready
	.venv-serve/bin/quarterturn serve --port $(PORT)

test: .venv/ready
	.venv/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: .venv/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

# More options: make bench BENCH='--quick --only raw,quarterturn'
bench: .venv-serve/ready .venv-bench/ready
	.venv-serve/bin/python -m benchmarks.service --bench-python .venv-bench/bin/python $(BENCH)

bench-feed: .venv/ready
	.venv/bin/python -m benchmarks.feed

bench-score: .venv-serve/ready
	.venv-serve/bin/python -m benchmarks.score $(BENCH)

soak: .venv-serve/ready
	.venv-serve/bin/python -m benchmarks.soak $(SOAK)

# Guided by coverage where atheris is: .venv/bin/pip install --editable '.[fuzz]'
SECONDS = 600
fuzz: .venv/ready
	.venv/bin/python -m tests.fuzz --seconds $(SECONDS)

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

.venv-bench/ready: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --editable '.[bench]'
	touch $@

clean:
	rm -rf .venv .venv-serve .venv-bench .mypy_cache .pytest_cache .ruff_cache *.egg-info
