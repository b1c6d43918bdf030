"""Who has what of a pool: a row for each member, for the errors and warnings of those who want it.

All of it is a hint, as of a moment ago. Tables are copied once and looked at as arrays: a pool may
have 65,535 slots, and it is asked for when time is short already.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmpool import _story
from shmpool._header import PoolSpec
from shmpool._layout import ControlView, State
from shmpool._sizes import show_age
from shmpool._text import printable

MOST = 8  # lines of a table
_OWNED = {"leased": State.LEASED, "shared": State.SHARED, "queued": State.QUEUED}
_Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Holder:
    """What one member of a pool has, as of a moment ago.

    `leased` and `shared`: slots that it owns; `borrowed`: slots of others that it reads; `queued`:
    slots that it put or detached, and that nobody has taken. `longest`: seconds for which it has
    had one of them (of a borrow: since its slot was leased), and `slot` which one that is. `site`:
    the line that took that one, `render.py:57`, in a pool made with debug=True; else "".
    `index`: the member's, as in `Pool.statistics`: one process may have several.
    """

    name: str
    pid: int
    index: int
    leased: int
    shared: int
    borrowed: int
    queued: int
    longest: float
    slot: int
    site: str

    @property
    def slots(self) -> int:
        """How many it has in all."""
        return self.leased + self.shared + self.borrowed + self.queued

    @property
    def who(self) -> str:
        """As people name it: `worker-2 (pid 812)`."""
        return f"{self.name} (pid {self.pid})"

    def __str__(self) -> str:
        kinds = ("leased", "shared", "borrowed", "queued")
        counts = ", ".join(f"{getattr(self, kind)} {kind}" for kind in kinds if getattr(self, kind))
        longest = f"for {'up to ' if self.slots > 1 else ''}{show_age(self.longest)}"
        which = f"slot {self.slot} " if self.slots > 1 else ""
        return f"{self.who}: {counts} {longest}{f', {which}at {self.site}' if self.site else ''}"


def of_slots(spec: PoolSpec, view: ControlView, first: int) -> tuple[Holder, ...]:
    """Who has slots from number `first` on, longest first."""
    words = view.words()
    return _by_member(spec, view, _rights(view, words, np.arange(len(words)) >= first))


def of_queue(
    spec: PoolSpec, view: ControlView, number: int
) -> tuple[tuple[Holder, ...], tuple[Holder, ...]]:
    """Who put what waits in a queue, most first; who has what was taken from it, longest first."""
    words = view.words()
    rights = list(_rights(view, words, words >> 3 & 31 == number))
    put = [right for right in rights if right[0] == "queued"]
    taken = [right for right in rights if right[0] != "queued"]
    most_first = sorted(_by_member(spec, view, put), key=lambda holder: -holder.queued)
    return tuple(most_first), _by_member(spec, view, taken)


def table(holders: Sequence[Holder], most: int = MOST) -> list[str]:
    """A line for each, at most so many: the last then counts the others."""
    shown = holders if len(holders) <= most else holders[: most - 1]
    lines = [f"  {holder}" for holder in shown]
    rest = holders[len(shown) :]
    if rest:
        slots = sum(holder.slots for holder in rest)
        lines.append(f"  and {len(rest)} more with {slots} {'slot' if slots == 1 else 'slots'}")
    return lines


_Rights = tuple[str, _Numbers, _Numbers]  # kind; members; their slots


def _rights(view: ControlView, words: _Numbers, chosen: _Numbers) -> Iterator[_Rights]:
    states = words & 7
    for kind, state in _OWNED.items():
        slots = np.flatnonzero(chosen & (states == state))
        yield kind, words[slots] >> 8 & 255, slots
    read = np.flatnonzero(chosen & ((states == State.SHARED) | (states == State.DRAINING)))
    masks = view.slots["readers"][read]
    rows, readers = np.nonzero(np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little"))
    yield "borrowed", view.readers[readers], read[rows]


def _by_member(
    spec: PoolSpec, view: ControlView, rights: Iterator[_Rights] | list[_Rights]
) -> tuple[Holder, ...]:
    kept = list(rights)
    # After the words: a right begins with its word, and its time comes a moment later.
    since, now = view.slots["since_ns"].copy(), time.monotonic_ns()
    members = {int(member) for _, owners, _ in kept for member in np.unique(owners)} - {0}
    rows = [_one(spec, view, member, kept, since, now) for member in members]
    return tuple(sorted(rows, key=lambda row: -row.longest))


def _one(
    spec: PoolSpec, view: ControlView, member: int, rights: list[_Rights], since: _Numbers, now: int
) -> Holder:
    mine = {kind: slots[owners == member] for kind, owners, slots in rights}
    oldest = {kind: int(slots[since[slots].argmin()]) for kind, slots in mine.items() if len(slots)}
    kind, slot = min(oldest.items(), key=lambda item: int(since[item[1]]))
    pid = view.pid(member)
    counts = {kind: len(mine.get(kind, ())) for kind in ("leased", "shared", "borrowed", "queued")}
    return Holder(
        name=printable(view.member_name(member)),
        pid=pid,
        index=member,
        **counts,
        longest=max(0.0, (now - int(since[slot])) / 1e9),
        slot=slot,
        site=_story.site_of(spec, view, slot, kind, pid),
    )
