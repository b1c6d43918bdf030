"""Threads over the very headers that ship, under the thread sanitizer and the other two.

stress.c lets four workers, each a member of its own, do everything that members do, die with
their hands full, and be reaped, while they fill and check payloads. The explorer next door is
exhaustive and sequentially consistent; this samples, with real threads and real memory orders.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from planting import plant

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "shmpool" / "_csrc"
MORE = 50 if "SHMPOOL_PROVE" in os.environ else 1
OPERATIONS = {"thread": 400_000 * MORE, "address,undefined": 1_500_000 * MORE}
LONG = pytest.mark.timeout(3600 if MORE > 1 else 120)
COMPILERS = {"gcc": "apt-get install gcc", "clang": "apt-get install clang libclang-rt-14-dev"}


def build(program: Path, compiler: str, sanitizers: str, headers: Path) -> Path:
    """Compile stress.c over the core's headers in `headers`."""
    assert shutil.which(compiler), f"{compiler} is missing: {COMPILERS[compiler]}"
    command = [compiler, "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    if compiler == "gcc":
        command += ["-Wno-tsan"]  # fences: stress.c says what is done about them
    command += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", f"-I{headers}"]
    command += [str(HERE / "stress.c"), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"({COMPILERS[compiler]}?)\n{done.stderr}"
    return program


def stress(program: Path, operations: int, seed: int) -> tuple[int, str]:
    """Exit code, and what was told."""
    halt = {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}
    command = [str(program), str(operations), str(seed)]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | halt
    )
    return run.returncode, f"{run.stdout}\n{run.stderr[:6000]}"


@LONG
@pytest.mark.parametrize("sanitizers", OPERATIONS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_threads_at_work_break_nothing(compiler: str, sanitizers: str, tmp_path: Path) -> None:
    """No data race, no mixture of payloads, no right in two hands, no slot lost at the end."""
    program = build(tmp_path / "stress", compiler, sanitizers, CORE)
    operations = OPERATIONS[sanitizers]
    for seed in (1, 2):
        code, told = stress(program, operations, seed)
        assert code == 0, told
        received, borrowed, peeked, moved, deaths = map(int, re.findall(r"\d+", told)[:5])
        # All of it has been at work, not only tried in vain.
        assert received > operations / 100
        assert borrowed > operations / 100
        assert peeked > operations / 200
        assert moved > operations / 1000
        assert deaths > operations / 1000


WEAK = "memory_order_relaxed"
BUGS = {
    "the changes of right order nothing": (
        "sp_atomic.h",
        "memory_order_acq_rel,\n"
        "                                                   memory_order_acquire",
        f"{WEAK}, {WEAK}",
    ),
    "the changes of right in queues order nothing": (
        "sp_atomic.h",
        "memory_order_seq_cst,\n"
        "                                                   memory_order_seq_cst",
        f"{WEAK}, {WEAK}",
    ),
    "a reader's leaving orders nothing": (
        "sp_atomic.h",
        "atomic_fetch_and_explicit(at, bits, memory_order_seq_cst)",
        f"atomic_fetch_and_explicit(at, bits, {WEAK})",
    ),
    "nobody sees what was before a word": (
        "sp_atomic.h",
        "atomic_load_explicit(at, memory_order_acquire)",
        f"atomic_load_explicit(at, {WEAK})",
    ),
    "a slot is freed under its readers": (
        "sp_share.h",
        "if (sp_word_state(word) != SP_DRAINING || sp_readers_any(slot))",
        "if (sp_word_state(word) != SP_DRAINING)",
    ),
    "two fetch memory for one slot": (
        "sp_commit.h",
        "if (sp_word_state(word) != SP_UNCOMMITTED || sp_word_owner(word) != SP_NOBODY)",
        "if (sp_word_state(word) != SP_UNCOMMITTED)",
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_reported(bug: str, tmp_path: Path) -> None:
    """Races by the sanitizer, on this machine's strong memory too; the others by their effect.

    Threads meet by chance, so this looks until they have; what they would have to meet in the
    middle of (a peek) is for the explorer, which does not leave it to chance.
    """
    file, *places = BUGS[bug]
    headers = tmp_path / "headers"
    shutil.copytree(CORE, headers)
    plant(headers / file, *places)
    is_race = WEAK in places[1]
    sanitizers = "thread" if is_race else "address,undefined"
    program = build(tmp_path / "stress", "clang", sanitizers, headers)
    for seed in range(1, 11):
        code, told = stress(program, 20_000_000, seed)
        if code:
            break
    assert code != 0
    assert ("data race" if is_race else "FAIL") in told, told
