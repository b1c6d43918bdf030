"""Every small change to the core is noticed by some test, or could be noticed by none.

mutants.py makes the changes by rule, and says of each that survives why that is no harm. Here
goes a sample of them; SHMPOOL_PROVE=1 in the environment tries all, which takes half an hour.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from mutants import (
    EQUIVALENT,
    NOT_C,
    RULES,
    SURVIVES,
    TOGETHER,
    Mutant,
    count,
    fates,
    mutants,
    original,
    sample,
    together,
)
from test_explorer import CORE, HERE

PROVE = bool(os.environ.get("SHMPOOL_PROVE"))
EVERY = 1 if PROVE else 13
JOBS = min(2, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_units_hold_for_the_core_that_ships(compiler: str, tmp_path: Path) -> None:
    """With both compilers, and what they warn of is an error."""
    program = tmp_path / "units"
    command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{CORE}"]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([*command, str(HERE / "core_units.c"), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_mutants_and_each_changes_something() -> None:
    """Of their own file, function by function."""
    every = mutants().values()
    assert len(every) > 800
    assert {mutant.rule for mutant in every} == set(RULES)
    for mutant in every:
        assert mutant.applied() != original(mutant.file), mutant.name
    assert len({(mutant.file, mutant.applied()) for mutant in every}) > 0.95 * len(every)


def test_whatever_is_called_equivalent_is_a_mutant_and_has_a_reason() -> None:
    """A name that is gone would excuse another one day."""
    assert set(EQUIVALENT) <= set(mutants())
    assert all(EQUIVALENT.values())


@pytest.mark.timeout(600)
def test_a_change_that_is_none_survives() -> None:
    """Else it would be the machinery that kills."""
    none = [
        Mutant("sp_ring.h:none:if-never:0", 0, 0, ""),
        Mutant("sp_ring.h:none:order-:0", 0, 0, ""),
    ]
    assert [how for _, how in fates(none, JOBS)] == [SURVIVES, SURVIVES]


@pytest.mark.timeout(600)
def test_orders_that_are_no_bug_alone_are_one_together() -> None:
    """Where several accesses order the same, the last one of them is needed."""
    done = list(fates([together(file, to) for file, to in TOGETHER], JOBS))
    assert [how for _, how in done] == ["weak memory"] * len(TOGETHER), done


@pytest.mark.timeout(6 * 3600 if PROVE else 600)
def test_a_mutant_dies_or_is_equivalent() -> None:
    """Of a sample, or of all."""
    chosen = sample(EVERY)
    if not PROVE:  # to try these again takes longest, and says least
        chosen = [mutant for mutant in chosen if mutant.name not in EQUIVALENT]
    done = list(fates(chosen, JOBS))
    print(count(done))  # noqa: T201 - for -rP
    survivors = {mutant.name for mutant, how in done if how == SURVIVES}
    assert sum(how != NOT_C for _, how in done) > 0.95 * len(done)
    assert survivors == (set(EQUIVALENT) if PROVE else set())
