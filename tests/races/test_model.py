"""A model of the whole protocol, and every state of it: words, ring, readers, memory, kills.

pool.pml is written by hand after the protocol, each atomic operation a step. `spin` makes a
C program of it, which goes through all states, not samples. test_explorer.py has the very
headers and few preemptions; this has the rules only, any number of preemptions, members that
join under the index of a dead one, and readers and memory beside the ring. What it cannot see
is where the C differs from the rules.

The search is exhaustive: no partial order reduction, no bit state hashing. With
SHMPOOL_PROVE=1 it is larger, for a night and 16 GB.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MODEL = Path(__file__).parent / "pool.pml"
PROVE = os.environ.get("SHMPOOL_PROVE") == "1"
MEGABYTES = 16_000 if PROVE else 6_000
EVERYTHING = "RING READERS MEMORY"

# Everything at once is affordable with one slot; two slots where slots meet, in the ring.
RUNS = {
    "everything, and the reaper may die": f"{EVERYTHING} OPERATIONS=2 REAPER_DIES",
    "ring and readers": "RING READERS OPERATIONS=3",
    "readers and memory, and the reaper may die": "READERS MEMORY OPERATIONS=4 REAPER_DIES",
    "ring of two slots": "RING SLOTS=2 OPERATIONS=2",
    "ring of two slots, longer, without kills": "RING SLOTS=2 OPERATIONS=3 KILLS=0",
    "ring of two slots that is full": "RING SLOTS=2 CELLS=2 OPERATIONS=2",
    "readers and memory of two slots": "READERS MEMORY SLOTS=2 MAPPED=1 OPERATIONS=2",
}
if PROVE:
    RUNS |= {
        "everything, longer": f"{EVERYTHING} OPERATIONS=3",
        "everything, two slots": f"{EVERYTHING} SLOTS=2 MAPPED=1 OPERATIONS=2",
        "ring of two slots, longer": "RING SLOTS=2 OPERATIONS=3",
    }

# Each does one thing wrong, in the smallest configuration that shows it.
BUGS = {
    "OWNER_AFTER_WORD": "OPERATIONS=1",
    "LOST_BITS_LEFT": "OPERATIONS=1",
    "CELL_BEFORE_WORD": "RING OPERATIONS=1",
    "TAIL_NOT_READ_AGAIN": "RING SLOTS=2 OPERATIONS=2",
    "HEAD_PASSES_A_LIVE_CELL": "RING OPERATIONS=1",
    "NO_INSERT_BY_REAPER": "RING OPERATIONS=1",
    "SECOND_CELL": "RING OPERATIONS=2 KILLS=1",
    "SAME_GENERATION": "RING OPERATIONS=2",
    "REQUEUED_IN_THE_NAME_OF_THE_REAPER": "RING OPERATIONS=1 REAPER_DIES",
    "READERS_NOT_LOOKED_AT": "READERS OPERATIONS=1",
    "NO_RELOAD": "READERS OPERATIONS=1",
    "RELOAD_OF_STATE_ONLY": "READERS OPERATIONS=2",
    "LOOK_BEFORE_BIT": "READERS OPERATIONS=1",
    "FAILED_BORROW_DOES_NOT_DRAIN": "READERS OPERATIONS=1",
    "GIVE_BACK_DOES_NOT_DRAIN": "READERS OPERATIONS=1",
    "NO_SWEEP": "READERS OPERATIONS=1",
    "READER_BIT_LEFT": "READERS OPERATIONS=1",
    "LEASE_BEFORE_MEMORY": "MEMORY MAPPED=0 OPERATIONS=1",
    "TRIM_PUNCHES_FIRST": "MEMORY OPERATIONS=1",
    "TRIM_LETS_GO_FIRST": "MEMORY OPERATIONS=1",
    "UNCOMMITTED_NOT_REAPED": "MEMORY OPERATIONS=1",
}


def run(command: list[str], folder: Path) -> str:
    """What a command said; it must be there and succeed."""
    assert shutil.which(command[0]), (
        f"{command[0]} is not installed, and without it nothing is proven here"
    )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 0, f"{' '.join(command)}: {told}"
    return told


def search(folder: Path, macros: str, *flags: str) -> str:
    """The report of a search through all states of the model under these macros."""
    run(["spin", "-a", *(f"-D{macro}" for macro in macros.split()), str(MODEL)], folder)
    options = ["-DSAFETY", "-DNOREDUCE", f"-DMEMLIM={MEGABYTES}", *flags]
    run(["cc", "-w", *options, "-o", "pan", "pan.c"], folder)
    return run([str(folder / "pan"), "-m100000", "-w26" if PROVE else "-w24"], folder)


def number(what: str, report: str) -> int:
    """The number that stands before or after a word of a report."""
    found = re.search(rf"(\d+) {what}|{what}: +(\d+)", report)
    assert found, report
    return int(found[1] or found[2])


def stored_if_sound(report: str) -> int:
    """The states of a search that found nothing and left nothing out."""
    assert number("errors", report) == 0, report
    for cut_short in ("Search not completed", "max search depth too small", "out of memory"):
        assert cut_short not in report, report
    return number("states, stored", report)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], int]:
    """The number of states of one of RUNS, each searched once."""
    known: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in known:
            folder = tmp_path_factory.mktemp("model")
            flags = ("-O2", "-DCOLLAPSE") if PROVE else ("-O2",)
            known[name] = stored_if_sound(search(folder, RUNS[name], *flags))
        return known[name]

    return of


@pytest.mark.timeout(3600 if PROVE else 600)
@pytest.mark.parametrize("name", RUNS)
def test_no_state_of_the_model_breaks_a_rule(states: Callable[[str], int], name: str) -> None:
    """One owner, no reader on a slot leased anew, memory behind what is used, nothing lost."""
    assert states(name) > 0


@pytest.mark.timeout(3600 * 2 if PROVE else 600)
def test_the_searches_are_not_small(states: Callable[[str], int]) -> None:
    """Ten million states in all: a model that ends early proves little, however sound."""
    total = sum(states(name) for name in RUNS)
    print(f"{total:,} states")  # noqa: T201 - for -rP
    assert total >= 10_000_000


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_the_model_is_found(bug: str, tmp_path: Path) -> None:
    """A rule is needed if leaving it out is seen; an assertion works if something trips it."""
    report = search(tmp_path, f"BUG_{bug} {BUGS[bug]}", "-O0")
    assert number("errors", report) == 1, report
    assert "assertion violated" in report, report


def test_every_bug_of_the_model_is_tried() -> None:
    """A misspelt macro would otherwise be a sound model."""
    assert set(re.findall(r"BUG_([A-Z_]+[A-Z])", MODEL.read_text())) == set(BUGS)
