"""Members are killed at every instruction of the extension: nothing is lost, nothing is double.

every_instruction.py is the coordinator, stepper.c the tracer, and OPERATIONS the table of what is
killed. This builds the extension without and with optimisation, since the
machine's instructions are the compiler's choice, and with planted bugs that must be found.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planting import plant
from stepped_operations import OPERATIONS

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "shmpool"
PROVE = os.environ.get("SHMPOOL_PROVE") == "1"  # every point at every level, about ten minutes
LEVELS = {"-O2": 1, "-O0": 1 if PROVE else 10}  # of how many points one is taken
MOST_MISSED = 0.01  # of the points, on another way than the recorded one

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="single steps are the machine's"),
    pytest.mark.timeout(3600 if PROVE else 600),
]

OF_COORDINATORS = [name for name, o in OPERATIONS.items() if o.reaping or o.coordinator]
OF_MEMBERS = [name for name in OPERATIONS if name not in OF_COORDINATORS]

Build = Callable[[str], Path]


def compiled(folder: Path, level: str, sources: Path = PACKAGE / "_csrc") -> Path:
    """A folder with the package in it, its extension compiled so."""
    package = folder / "shmpool"
    package.mkdir(parents=True)
    for module in PACKAGE.glob("*.py"):
        shutil.copy(module, package)
    extension = package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    command = ["cc", "-std=c11", "-g", level, "-fPIC", "-shared", "-fvisibility=hidden"]
    command += ["-Wall", "-Wextra", "-Werror", f"-I{sysconfig.get_path('include')}"]
    command += [*map(str, sorted(sources.glob("*.c"))), "-o", str(extension)]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The extension at a level of optimisation, compiled once."""
    built: dict[str, Path] = {}

    def build(level: str) -> Path:
        if level not in built:
            built[level] = compiled(tmp_path_factory.mktemp(f"level{level}"), level)
        return built[level]

    return build


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracer."""
    library = tmp_path_factory.mktemp("stepper") / "stepper.so"
    command = ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    subprocess.run([*command, str(HERE / "stepper.c"), "-o", str(library)], check=True)
    return library


def kill(folder: Path, stepper: Path, operation: str, every: int) -> dict[str, Any]:
    """Kill at every `every`th point of an operation, the extension being the one in `folder`."""
    script = str(HERE / "every_instruction.py")
    command = [sys.executable, script, str(stepper), operation, "--every", str(every)]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr
    report: dict[str, Any] = json.loads(run.stdout)
    assert Path(report["extension"]).parents[1] == folder
    return report | {"told": run.stderr}


def every_for(operation: str, level: str) -> int:
    """Of how many points one is taken."""
    return LEVELS[level] if PROVE else LEVELS[level] * OPERATIONS[operation].thin


def check(report: dict[str, Any], every: int) -> None:
    """It went well, and was no small thing."""
    print({key: value for key, value in report.items() if key != "extension"})  # noqa: T201 - for -rP
    assert report["failure"] is None, f"{report['failure']}\n{report['told']}"
    assert report["points"] * every >= 70
    assert report["missed"] <= MOST_MISSED * report["points"]


@pytest.mark.parametrize("operation", OF_MEMBERS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_member_may_be_killed_at_every_instruction(
    level: str, operation: str, build: Build, stepper: Path
) -> None:
    """Every slot is there afterwards, once; the operation took effect, or not, and never half."""
    every = every_for(operation, level)
    check(kill(build(level), stepper, operation, every), every)


@pytest.mark.parametrize("operation", OF_COORDINATORS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_coordinator_may_be_killed_at_every_instruction(
    level: str, operation: str, build: Build, stepper: Path
) -> None:
    """Each word is before or after; survivors keep their bytes, are told, and leave nothing."""
    every = every_for(operation, level)
    check(kill(build(level), stepper, operation, every), every)


# Bugs that only a kill at the right instruction shows: (operation, file, sound, broken).
BUGS = {
    "the owner comes after the lease": (
        "acquire",
        "sp_slot.h",
        "    if (!sp_cas_acq_rel(&pool->slots[slot].word, word, leased))\n        return false;\n"
        "    sp_slot_begin",
        "    uint64_t nobodys = sp_word_with_owner(leased, SP_NOBODY);\n"
        "    if (!sp_cas_acq_rel(&pool->slots[slot].word, word, nobodys))\n        return false;\n"
        "    sp_cas_acq_rel(&pool->slots[slot].word, nobodys, leased);\n"
        "    sp_slot_begin",
    ),
    "a dead sender's ticket is not inserted again": (
        "put",
        "sp_reap.h",
        "if (!outside &&",
        "if (false &&",
    ),
    "a lost free bit is not set again": (
        "acquire",
        "sp_reap.h",
        "    sp_slot_give(pool, slot);\n    return true;",
        "    return true;",
    ),
    "head moves before the claim": (
        "get",
        "sp_ring.h",
        "    if (!sp_cas_seq_cst(&pool->slots[slot].word, word, claimed))\n",
        "    sp_cas_seq_cst(&state->head, head, head + 1);\n"
        "    if (!sp_cas_seq_cst(&pool->slots[slot].word, word, claimed))\n",
    ),
    "a description is replaced in place": (
        "describe",
        "lease.c",
        "    sp_store_release(&slot->delivery, attempts);\n",
        "",
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_by_a_kill(bug: str, tmp_path: Path, stepper: Path) -> None:
    """Kills that find nothing in broken code prove nothing about sound code."""
    operation, file, *places = BUGS[bug]
    sources = tmp_path / "sources"
    shutil.copytree(PACKAGE / "_csrc", sources)
    plant(sources / file, *places)
    report = kill(compiled(tmp_path / "built", "-O2", sources), stepper, operation, 1)
    print(report["failure"])  # noqa: T201 - for -rP
    assert report["failure"] is not None
