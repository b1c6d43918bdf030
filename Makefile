# Two commands do all their own set-up: `make farm` renders a film, `make test` runs the tests.
# `make bench` measures, beside the peers that PEERS names (extras of pyproject.toml), what BENCH names.
# `make prove` runs the long forms of what docs/proof.md lists, for hours.

PYTHON ?= python3
FARM ?= --frames 96 --size 480x270 film.mp4
TEST ?=
BENCH ?=
PEERS ?= bench bench-farm bench-torch
BIN = .venv/bin
SOURCES = pyproject.toml $(wildcard shmpool/_csrc/*)
C_FLAGS = -std=c11 -O2 -fPIC -Wall -Wextra -Werror -D_GNU_SOURCE -c -o /dev/null \
  -Ishmpool/_csrc

.PHONY: farm test prove lint c-lint bench bench-quick clean system test-system

farm: .venv/film.done
	$(BIN)/python -m workers.film $(FARM)

test: test-system .venv/test.done
	$(BIN)/python $(if $(TEST),-m pytest $(TEST),tests/halves.py)

PROOFS = tests/races tests/stress tests/faults tests/properties

prove: test-system .venv/test.done
	SHMPOOL_PROVE=1 $(BIN)/python -m pytest -rP $(or $(TEST),$(PROOFS))

lint: .venv/test.done c-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

c-lint: .venv/test.done
	for cc in gcc clang; do for file in shmpool/_csrc/*.c benchmarks/*.c; do \
	  $$cc $(C_FLAGS) -I$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') \
	    $$file || exit 1; done; done

bench: .venv/bench.done
	$(BIN)/python -m benchmarks $(BENCH)

# Two minutes: does every benchmark run, and hold what holds on every machine?
bench-quick: .venv/test.done
	$(BIN)/python -m benchmarks --quick

# What pip cannot bring: a C compiler, Python's headers and its venv module.
system:
	@command -v cc >/dev/null && $(PYTHON) -c 'import venv, ensurepip' \
	  || { apt-get update && apt-get install -y gcc python3-dev python3-venv; }

# What the tests need besides: a model checker, a second compiler with its fuzzer, and a counter
# of instructions.
test-system: system
	@command -v spin >/dev/null && command -v clang >/dev/null && command -v valgrind >/dev/null \
	  && echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' \
	    | clang -fsanitize=fuzzer -x c - -o /dev/null 2>/dev/null \
	  || { apt-get update && { apt-get install -y spin valgrind clang libclang-rt-dev \
	    || apt-get install -y spin valgrind clang; }; }

.venv/film.done: $(SOURCES) | system
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[film]'
	touch $@

.venv/test.done: $(SOURCES) | system
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[film,mitsuba,zarr,trace,test,lint,bench,bench-page]'
	touch $@

# Peers that cannot be installed are told here, and skipped when benchmarks run.
.venv/bench.done: .venv/test.done benchmarks/peers/install.py
	$(BIN)/python -m benchmarks.peers.install $(PEERS)
	touch $@

clean:
	rm -rf .venv build *.egg-info shmpool/*.so
