"""What operations cost, in instructions: none grows unless the table of benchmarks/ says so."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest
from planting import plant

from benchmarks import kept
from benchmarks.callgrind import Cost
from benchmarks.counting import (
    COMPILERS,
    CORE,
    compiler_name,
    count_core,
    count_python,
    python_name,
)

TABLE = kept.Table.load()


def counts(costs: dict[str, Cost]) -> dict[str, float]:
    """The instructions alone."""
    return {operation: cost.instructions for operation, cost in costs.items()}


def told(changes: list[kept.Change]) -> str:
    """What a failure says."""
    lines = "\n".join(map(str, changes))
    return f"instructions, kept and found; if that is meant: {kept.ADD}\n{lines}"


def held(side: str, name: str, costs: dict[str, Cost]) -> None:
    """Fail if one has grown; be skipped, and say so, if that was not held against its own row."""
    row, tolerance = TABLE.bound(side, name)
    worse = kept.complaints(row, counts(costs), tolerance) if row else []
    assert not worse, told(worse)
    if not TABLE.of(side, name):
        against = f"others within {tolerance:.0%}" if row else "nothing"
        pytest.skip(f"no counts are kept of {name}: held against {against}; to keep: {kept.ADD}")


@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_operation_of_the_core_grows(compiler: str) -> None:
    """By more than 2 %, in C alone: the same on any machine with this compiler."""
    held("core", compiler_name(compiler), count_core(compiler))


@pytest.mark.timeout(600)  # fifteen seconds of computing, on a machine that others may use
def test_no_operation_grows_as_python_calls_it() -> None:
    """By more than 2 %, where this very Python and numpy have a row."""
    if not TABLE.of("python", python_name()):
        pytest.skip(f"no counts are kept of {python_name()}; to keep: {kept.ADD}")
    held("python", python_name(), count_python())


def test_counting_again_gives_the_same() -> None:
    """To the instruction: a table would be worth nothing otherwise."""
    assert counts(count_core("gcc")) == counts(count_core("gcc"))


def test_a_needless_look_is_noticed(tmp_path: Path) -> None:
    """Planted: whoever takes a slot looks at who reads it. What takes none is as it was."""
    headers = tmp_path / "headers"
    shutil.copytree(CORE, headers)
    sound = "    sp_store_relaxed(&slot->delivery, 0);\n"
    look = "    for (int i = 0; i < 9; i++)\n        sp_load_seq_cst(&slot->readers[i & 3]);\n"
    plant(headers / "sp_slot.h", sound, sound + look)
    before, after = counts(count_core("gcc")), counts(count_core("gcc", headers))
    worse = {change.operation for change in kept.complaints(before, after, kept.TOLERANCE)}
    assert worse >= {"acquire, release", "acquire, put, get, release"}
    assert not worse & {"get from an empty queue", "release what is over", "sleep, and be found"}


def test_what_is_kept_may_grow_by_two_percent() -> None:
    """Not by three; and what is not kept, or is no more, is told as well."""
    before = {"as it was": 100.0, "a little": 100.0, "much": 100.0, "gone": 5.0, "less": 100.0}
    after = {"as it was": 100.0, "a little": 102.0, "much": 103.0, "new": 5.0, "less": 50.0}
    worse = kept.complaints(before, after, kept.TOLERANCE)
    assert {change.operation for change in worse} == {"much", "gone", "new"}
    assert "+3.0%" in told(worse)


def test_a_compiler_without_a_row_is_held_against_the_others() -> None:
    """Against the largest of them, and not closely; of another processor, against nothing."""
    table = kept.Table({"core": {}, "python": {}})
    table.put("core", "gcc 12, x86_64", {"acquire": 100, "get": 30})
    table.put("core", "clang 14, x86_64", {"acquire": 80, "get": 40})
    assert table.bound("core", "gcc 12, x86_64") == ({"acquire": 100, "get": 30}, kept.TOLERANCE)
    assert table.bound("core", "gcc 99, x86_64") == ({"acquire": 100, "get": 40}, kept.WIDE)
    assert table.bound("core", "gcc 12, riscv64")[0] == {}
    assert table.bound("python", "another, x86_64")[0] == {}


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    """All rows, whichever was counted last."""
    table = kept.Table.load(tmp_path / "none yet")
    table.put("core", "a, x", {"acquire": 100.004})
    table.put("core", "b, x", {"acquire": 90})
    table.save(tmp_path / "table")
    again = kept.Table.load(tmp_path / "table")
    assert again.of("core", "a, x") == {"acquire": 100}
    assert again.of("core", "b, x") == {"acquire": 90}


def test_a_compiler_is_named_by_what_the_counts_depend_on() -> None:
    """Kind, major version, processor."""
    kind, rest = compiler_name("gcc").split(" ", 1)
    assert kind == "gcc"
    assert rest.partition(", ")[0].isdigit()
    assert rest.partition(", ")[2] == platform.machine()
