"""docs/protocol.md tells the truth: its offsets and sizes are those of the compiler."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from shmpool import _core

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
Rows = list[list[str]]


def table(text: str) -> Rows:
    """Cells of the first table in a text, without its head."""
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), text.splitlines())
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows][2:]


def records() -> dict[str, tuple[int, Rows]]:
    """Size and rows of each record that has a table on the page."""
    parts = re.split(r"^### `sp_(\w+)`, (\d+) bytes$", PAGE, flags=re.MULTILINE)[1:]
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {name: (int(size), table(text)) for name, size, text in triples}


def regions() -> Rows:
    """Rows of the table of regions: name, content, size, worked offset, worked bytes."""
    return table(PAGE[PAGE.index("| region |") :])


def layout(slots: int, queues: int, members: int) -> dict[str, int]:
    """The compiler's layout of a pool with one class and no header record."""
    return _core.layout((((64, 64, slots, slots),), queues, members, 0, 0, 0))


def up(size: int) -> int:
    return -(-size // _core.LINE) * _core.LINE


def test_every_record_has_a_table() -> None:
    """No record is missing on the page, and none is on it that the core does not have."""
    assert list(records()) == list(_core.RECORDS)


@pytest.mark.parametrize("name", _core.RECORDS)
def test_every_field_stands_where_the_compiler_puts_it(name: str) -> None:
    """Offset and size of each field, and the size of the record."""
    size, rows = records()[name]
    fields = {field: (int(at), int(bytes_)) for at, bytes_, field, _ in rows if field != "unused"}
    assert {"": (0, size)} | fields == _core.RECORDS[name]


@pytest.mark.parametrize("name", _core.RECORDS)
def test_the_rows_of_a_record_leave_no_gap(name: str) -> None:
    """Each row begins where the one before it ends, and the last one ends with the record."""
    size, rows = records()[name]
    end = 0
    for at, length, *_ in rows:
        assert int(at) == end
        end += int(length)
    assert end == size


def test_the_worked_regions_are_where_the_core_puts_them() -> None:
    """16 slots, 3 queues, 255 members: offset and bytes of every region."""
    at = layout(16, 3, 255) | {"header": 0}
    rows = regions()
    ends = [*(at[row[0]] for row in rows[1:]), at["total_size"]]
    for (name, _, _, offset, length), end in zip(rows, ends, strict=True):
        assert (int(offset), int(length)) == (at[name], end - at[name]), name


def test_the_page_names_every_region() -> None:
    """What the core calls an offset has a row."""
    sizes = {"static_size", "total_size", "slot_count", "ring_cells", "sheet_stride"}
    sizes.add("history_stride")
    assert {row[0] for row in regions()} == layout(1, 1, 1).keys() - sizes | {"header"}


def test_the_worked_size_is_what_the_core_computes() -> None:
    """The sum on the page adds up, to the size that `layout` gives."""
    match = re.search(r"^ {4}([\d +]+) = (\d+)$", PAGE, re.MULTILINE)
    assert match is not None
    total = layout(16, 3, 255)["total_size"]
    assert sum(map(int, match[1].split("+"))) == int(match[2]) == total
    assert f"{-(-total // 4096) * 4096:,} bytes" in PAGE


@pytest.mark.parametrize("slots", [1, 2, 15, 16, 63, 64, 65, 4096, 4097, 65535])
@pytest.mark.parametrize("queues", [0, 1, 3, 31])
@pytest.mark.parametrize("members", [1, 255])
def test_the_formula_gives_the_size_of_any_pool(slots: int, queues: int, members: int) -> None:
    """The constants of the page's formula, with its map and its ring."""
    formula = r"size = (\d+) \+ (\d+) Q \+ (\d+) M \+ map\(S\) \+ ring\(S\) \+ (\d+) S"
    match = re.search(formula, PAGE)
    assert match is not None
    fixed, by_queue, by_member, by_slot = map(int, match.groups())
    at = layout(slots, queues, members)
    words = -(-slots // 64)
    free_map = up(8 * words) + (up(8 * -(-words // 64)) if words > 1 else 0)
    ring = up(8 * queues * at["ring_cells"])
    size = fixed + by_queue * queues + by_member * members + free_map + ring + by_slot * slots
    assert size == at["total_size"]


@pytest.mark.parametrize("slots", [1, 16, 1000])
def test_a_history_takes_what_the_page_says(slots: int) -> None:
    """One stride for each slot, behind all else: a head, and H entries as long as it."""
    match = re.search(r"history_stride = 128 \(1 \+ H\) = (\d+)", PAGE)
    assert match is not None
    with_it = _core.layout((((64, 64, slots, slots),), 1, 1, 0, 0, 16))
    assert int(match[1]) == with_it["history_stride"] == 128 * (1 + 16)
    assert with_it["total_size"] == with_it["history"] + slots * with_it["history_stride"]
    assert with_it["history"] == layout(slots, 1, 1)["total_size"]


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 8, 15, 16, 1000, 65535])
def test_a_ring_has_the_cells_that_the_page_says(slots: int) -> None:
    """The power of two from 2 S + 2 on."""
    assert "2 S + 2 <= C < 4 S + 4" in PAGE
    cells = layout(slots, 1, 1)["ring_cells"]
    assert cells.bit_count() == 1
    assert 2 * slots + 2 <= cells < 4 * slots + 4


def test_the_page_names_every_event() -> None:
    """Number and name of what a history may hold."""
    text = PAGE[PAGE.index("Events: 1 ") :].split("\n\n")[0]
    named = re.findall(r"(\d+) ([a-z-]+)", text)
    assert [(int(number), name) for number, name in named] == list(enumerate(_core.EVENTS))[1:]
