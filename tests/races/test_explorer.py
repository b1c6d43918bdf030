"""Every interleaving of two processes over the very headers that ship, with kills and the reaper.

explorer.c makes each atomic operation a turn of a scheduler and goes through all schedules
up to a bound on preemptions. After each: no slot lost, no slot with two owners, nothing
queued that cannot be taken, every free slot shown by the map exactly once.
"""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "shmpool" / "_csrc"
SCRIPTS = ("ap", "gr", "ar", "gp", "adcr", "apgr", "aar")
PAIRS = list(itertools.combinations_with_replacement(SCRIPTS, 2))


def build(folder: Path, headers: Path) -> Path:
    """Compile the explorer over the core's headers in `headers`."""
    program = folder / "explorer"
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-U_FORTIFY_SOURCE"]
    command += [f"-I{HERE}", f"-I{headers}", str(HERE / "explorer.c"), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def explore(program: Path, first: str, second: str, *numbers: int) -> tuple[int, str]:
    """Run one scenario: exit code, and what it printed."""
    command = [str(program), first, second, *map(str, numbers)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The explorer over the core as it ships."""
    return build(tmp_path_factory.mktemp("explorer"), CORE)


def test_no_schedule_of_two_processes_breaks_the_core(program: Path) -> None:
    """All pairs of scripts, from 0, 1 and 2 tickets, fresh and wrapped, one kill, 2 preemptions."""
    executions = 0
    for (first, second), queued, wrap in itertools.product(PAIRS, (0, 1, 2), (0, 7)):
        code, told = explore(program, first, second, queued, wrap, 1, 2)
        assert code == 0, f"{first} {second} queued={queued} wrap={wrap}: {told}"
        executions += int(told.split()[0])
    assert executions >= 1_000_000


@pytest.mark.parametrize(("first", "second"), [("ap", "gr"), ("gr", "gr"), ("ar", "ap")])
def test_no_schedule_of_two_processes_that_both_die_loses_a_slot(
    program: Path, first: str, second: str
) -> None:
    """Two kills, the second also while the first is being reaped."""
    for queued in (0, 2):
        code, told = explore(program, first, second, queued, 7, 2, 2)
        assert code == 0, told


def test_every_schedule_of_a_sender_and_a_receiver(program: Path) -> None:
    """Without a bound on preemptions and without kills: exhaustive."""
    code, told = explore(program, "ap", "gr", 0, 7, 0, 1000)
    assert code == 0, told


# Bugs of the kinds that such code has, each planted by changing one place of the headers.
BUGS = {
    "the owner is not in the word": (
        "sp_slot.h",
        "uint64_t leased = sp_word(SP_LEASED, pool->me,",
        "uint64_t leased = sp_word(SP_LEASED, SP_NOBODY,",
    ),
    "the state is not looked at": (
        "sp_slot.h",
        "    if (sp_word_state(word) != SP_FREE)\n        return false;\n",
        "",
    ),
    "tail is not read again": (
        "sp_ring.h",
        "    if (sp_load_seq_cst(&state->tail) != tail)\n        return false;\n",
        "",
    ),
    "head passes an old tail": (
        "sp_ring.h",
        "    if ((int64_t)(tail - head) < 0)\n        return false;\n",
        "",
    ),
    "head moves past a cell whose owner has changed": (
        "sp_ring.h",
        "word, claimed))\n        return SP_STALE;",
        "word, claimed)) {\n        sp_cas_seq_cst(&state->head, head, head + 1);\n"
        "        return SP_STALE;\n    }",
    ),
    "tail is not helped": (
        "sp_ring.h",
        "    if (sp_ring_live(pool, queue, cell)) {\n"
        "        sp_cas_seq_cst(&state->tail, tail, tail + 1);\n        return false;\n    }\n",
        "",
    ),
    "a dead sender's ticket is not inserted again": (
        "sp_reap.h",
        "if (!outside &&",
        "if (false &&",
    ),
    "requeued work keeps its generation": (
        "sp_reap.h",
        "sp_word(SP_QUEUED, pool->me, target, generation + 1)",
        "sp_word(SP_QUEUED, pool->me, target, generation)",
    ),
    "the cell comes before the word": (
        "sp_slot.h",
        "    sp_result result = sp_send(pool, right, queue, now, &ticket);\n"
        "    return result == SP_OK ? sp_ring_insert(pool, queue, ticket) : result;",
        "    ticket = sp_ticket(right->slot, sp_word_generation(right->word) + 1);\n"
        "    sp_ring_insert(pool, queue, ticket);\n"
        "    return sp_send(pool, right, queue, now, &ticket);",
    ),
    "a lost free bit is not set again": (
        "sp_reap.h",
        "    sp_freemap_give(&map, i);\n    return true;",
        "    (void)i;\n    return true;",
    ),
    "a release does not set its bit": (
        "sp_slot.h",
        "    if (sp_word_state(ended) == SP_FREE)\n        sp_slot_give(pool, slot);\n",
        "",
    ),
}


def planted(folder: Path, file: str, sound: str, broken: str) -> Path:
    """A copy of the headers with one place changed; the place must be there."""
    headers = folder / "headers"
    shutil.copytree(CORE, headers)
    text = (headers / file).read_text()
    assert text.count(sound) == 1, f"{file} has changed: plant the bug anew"
    (headers / file).write_text(text.replace(sound, broken))
    return headers


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    """An explorer that finds nothing in broken code proves nothing about sound code."""
    program = build(tmp_path, planted(tmp_path, *BUGS[bug]))
    for (first, second), queued, wrap in itertools.product(PAIRS, (0, 1, 2), (0, 7)):
        code, told = explore(program, first, second, queued, wrap, 1, 3)
        if code:
            assert re.match(r"FAIL .* after \d+ executions", told) or code < 0
            return
    pytest.fail("no schedule found it")
