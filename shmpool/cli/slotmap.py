"""The map of a pool's slots: a cell for each, or for several where they do not fit.

A cell says by a symbol what its slot is and by a letter whose; colours say it once more.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
from rich.text import Text

from shmpool._layout import State


@dataclass(frozen=True, slots=True)
class Mark:
    """How a state looks."""

    symbol: str
    colour: str

    @property
    def tile(self) -> str:
        """The style of a cell that stands out: what is somebody's."""
        return f"bold #10141a on {self.colour}"


MARKS = {
    State.FREE: Mark("·", "#4fae72"),
    State.LEASED: Mark("■", "#58a6ff"),
    State.QUEUED: Mark("»", "#e3b341"),
    State.SHARED: Mark("◆", "#bc8cff"),
    State.DRAINING: Mark("▽", "#f08fc0"),
    State.UNCOMMITTED: Mark("░", "#7d8590"),
    State.RETIRED: Mark("†", "#b1bac4"),
    State.QUARANTINED: Mark("‼", "#ff7b72"),
}
# For terminals that know no more: the symbols above, and those of `grid`.
_ASCII = str.maketrans("·■»◆▽░†‼─…▏▎▍▌▋▊▉█▁▂▃▄▅▆▇↓↑", ".#>%~_x!-~||||####.__--==v^")
_LETTERS = string.ascii_letters + string.digits
_IDLE = (State.FREE, State.UNCOMMITTED)
_OWNED = (State.LEASED, State.QUEUED, State.SHARED)


@dataclass(frozen=True, slots=True)
class Scale:
    """How the slots are laid out."""

    columns: int  # that a cell takes: 3 and 2 have room for a letter
    slots: int  # in a cell
    cells: int  # in a row
    label: int  # columns of the number before a row

    def rows(self, slots: int) -> int:
        """How many rows they take."""
        return -(-slots // (self.slots * self.cells))

    def __str__(self) -> str:
        if self.slots > 1:
            return f"{self.slots} a cell: the rarest state in use; bright if most are in use"
        return "state and owner of each" if self.columns > 1 else "the state of each"


def in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What to write for what an encoding lacks: a handler of errors, see `codecs`."""
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - nothing is decoded by it
    lacking = error.object[error.start : error.end].translate(_ASCII)
    return lacking.encode("ascii", "replace").decode(), error.end


def letter(member: int) -> str:
    """The letter of a member; one for all of those beyond the 62nd.

    >>> letter(1), letter(27), letter(62), letter(63)
    ('a', 'A', '9', '+')
    """
    return _LETTERS[member - 1] if 0 < member <= len(_LETTERS) else "+"


def scale(slots: int, width: int, rows: int) -> Scale:
    """The largest cells with which all slots fit into so many rows.

    >>> scale(18, 80, 4)
    Scale(columns=3, slots=1, cells=24, label=3)
    >>> scale(4096, 80, 4).slots
    16
    """
    label = len(str(slots - 1)) + 1
    tried = _of(3, 1, width, label)
    for columns in (3, 2, 1):
        tried = _of(columns, 1, width, label)
        if tried.rows(slots) <= rows:
            return tried
    while tried.rows(slots) > rows:
        tried = _of(1, tried.slots * 2, width, label)
    return tried


def _of(columns: int, slots: int, width: int, label: int) -> Scale:
    there = max(1, (width - label) // columns)
    whole = 8 if columns == 3 else 16  # so that rows begin with round numbers
    return Scale(columns, slots, there // whole * whole or there, label)


def lines(states: Sequence[int], owners: Sequence[int], by: Scale) -> Iterator[Text]:
    """The rows of the map, each with the number of its first slot."""
    width = by.slots * by.cells
    for first in range(0, len(states), width):
        line = Text(f"{first:>{by.label - 1}} ", style="bright_black")
        rows = states[first : first + width], owners[first : first + width]
        cells = _several(rows[0], by) if by.slots > 1 else _single(*rows, by)
        for style, run in groupby(cells, key=itemgetter(1)):  # few spans are drawn faster
            line.append("".join(text for text, _ in run), style)
        yield line


def _single(states: Sequence[int], owners: Sequence[int], by: Scale) -> Iterator[tuple[str, str]]:
    gap = " " * (by.columns == 3)
    for state, owner in zip(states, owners, strict=True):
        mark = MARKS[State(state)]
        if state in _IDLE:
            yield mark.symbol + " " * (by.columns - 1), mark.colour
            continue
        whose = letter(owner) if state in _OWNED else " "
        yield mark.symbol + whose * (by.columns > 1), mark.tile
        if gap:
            yield gap, "default"


def _several(states: Sequence[int], by: Scale) -> Iterator[tuple[str, str]]:
    """What is in use and rarest in each cell, or what else there is most of.

    The one slot in quarantine is looked for, not the many that are leased.
    """
    cells = -(-len(states) // by.slots)
    place = np.arange(len(states)) // by.slots * len(State) + np.asarray(states)
    counts = np.bincount(place, minlength=cells * len(State)).reshape(cells, len(State))
    idle = np.isin(np.arange(len(State)), _IDLE)
    rare = np.where((counts > 0) & ~idle, counts, len(states) + 1)[:, ::-1]
    rarest = len(State) - 1 - rare.argmin(axis=1)  # of equals the later state, by the order
    used, all_of = counts[:, ~idle].sum(axis=1), counts.sum(axis=1)
    shown = np.where(used > 0, rarest, np.where(idle, counts, -1).argmax(axis=1))
    for state, most in zip(shown.tolist(), (2 * used > all_of).tolist(), strict=True):
        mark = MARKS[State(state)]
        yield mark.symbol, mark.tile if most else mark.colour
