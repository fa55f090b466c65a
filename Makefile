# SPDX-License-Identifier: Apache-2.0
# Everything a contributor types. On a fresh Debian or Ubuntu, as root, `make demo` and `make test` install
# what they lack first; PYTHON=python3.12 chooses the Python, PYTEST='-k name' what is tested.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q
PROBES := $(wildcard probes/*.c probes/*.h) probes/hatch_build.py
OBJECTS := $(foreach arch,x86 arm64,tracer/_bpf/vigiles.$(arch).bpf.o tracer/_bpf/vigiles.$(arch).plain.bpf.o)
SOURCES := $(shell find tracer -name '*.py' -o -name '*.toml' -o -name '*.c')
CI := .ci/setup
APART := tests/scenarios/test_corpus.py tests/unit

# What was done last is remembered inside the environment, and forgotten with it. An environment's scripts
# name its place, so a checkout that was moved needs a new one.
MADE := $(VENV)/.made$(subst /,-,$(CURDIR))
RUNTIME := $(VENV)/.runtime
TOOLS := $(VENV)/.tools
WARM := $(VENV)/.warm
NODE_MODULES := tests/scenarios/node_modules/.from

.SUFFIXES:
.NOTPARALLEL: # packages come before whatever needs them
.PHONY: help build demo test test-vm check lint types format probes wheel bench bench-bounds clean distclean \
	packages-build packages-demo packages-test packages-vm packages-bench

help:
	@echo 'make demo     see it at work: installs what is missing, builds, runs `vigiles demo`'
	@echo 'make build    stop before the demo; the command is $(BIN)/vigiles'
	@echo 'make test     every test (as root: those with real probes too)'
	@echo 'make test-vm  real probes under kernels 6.1 and 6.12 of Debian, in QEMU (as root)'
	@echo 'make check    the quick tests only, in under two minutes'
	@echo 'make lint     ruff; `make format` mends what it can'
	@echo 'make types    mypy, strict'
	@echo 'make probes   compile the probes alone'
	@echo 'make wheel    dist/*.whl'
	@echo 'make bench    what it costs and how fast it is; BENCH=beside for one of them'
	@echo 'make bench-bounds  instructions an event, as CI holds them'
	@echo 'make clean    remove what was built; `make distclean` the environment as well'

build: packages-build $(WARM)

demo: packages-demo $(WARM)
	$(BIN)/vigiles demo

# Scenarios of the corpus each have hosts of their own, and unit tests need none: two at a time. So are tests of
# the probes, a file each, since those of one file may want the same port. The others look at what is left behind
# on the whole machine, or need it for themselves. Both workers must come to the same list of tests, some of
# which are made of sets. A choice of tests (5: none) may leave one part empty.
test: packages-test $(WARM) $(TOOLS) $(NODE_MODULES)
	@status=0; set -x; \
	PYTHONHASHSEED=0 $(BIN)/python -m pytest -m 'not vm' -n 2 --dist worksteal $(APART) $(PYTEST) || [ $$? = 5 ] || status=1; \
	PYTHONHASHSEED=0 $(BIN)/python -m pytest -m 'not alone' -n 2 --dist loadfile tests/kernel $(PYTEST) || [ $$? = 5 ] || status=1; \
	$(BIN)/python -m pytest -m alone $(PYTEST) || [ $$? = 5 ] || status=1; \
	exit $$status

test-vm: packages-vm $(RUNTIME) $(TOOLS) $(OBJECTS)
	$(BIN)/python -m pytest -m vm -s tests/vm $(PYTEST)

check: packages-build $(WARM) $(TOOLS)
	$(BIN)/python -m pytest $(PYTEST)

lint: packages-build $(TOOLS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: packages-build $(TOOLS)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: packages-build $(RUNTIME) $(TOOLS)
	$(BIN)/mypy

probes: $(OBJECTS)

wheel: packages-build $(TOOLS)
	rm -rf dist
	$(BIN)/python -m pip --disable-pip-version-check wheel -q --no-deps --wheel-dir dist .
	@ls dist/*.whl

bench: packages-test packages-bench $(WARM) $(TOOLS)
	$(PIP) --group bench
	$(BIN)/python -m bench $(BENCH)

# Counted and not timed, so that a busy machine says the same: more than bench/bounds.toml is a failure.
bench-bounds: packages-bench $(WARM)
	$(BIN)/python -m bench instructions

clean:
	rm -rf tracer/_bpf dist build $(WARM) .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find tracer tests bench probes -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# ---- the steps, in order

packages-build packages-demo packages-test packages-vm packages-bench: packages-%:
	@$(CI) packages $*

$(MADE):
	@$(CI) venv $(VENV)
	@touch $@

$(RUNTIME): $(MADE) pyproject.toml
	$(PIP) -e .
	@touch $@

$(TOOLS): $(MADE) pyproject.toml
	$(PIP) --group dev
	@touch $@

$(OBJECTS) &: $(PROBES)
	@"$$($(CI) python)" probes/hatch_build.py

# What scenarios need from npm; without a network they are skipped.
$(NODE_MODULES): tests/scenarios/tools/package-lock.json
	-tests/scenarios/tools/node-modules

# Numba compiles the engine now, not when the watch begins; and Python what it runs, even where it is told to
# keep nothing (PYTHONDONTWRITEBYTECODE): that takes half a second of every start.
$(WARM): $(OBJECTS) $(RUNTIME) $(SOURCES)
	$(BIN)/python -m compileall -q tracer
	$(BIN)/vigiles warm
	@touch $@
