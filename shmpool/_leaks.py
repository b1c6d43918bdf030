"""Leaks: how closely rights are watched in this process, and what is said of those nobody ended."""

from __future__ import annotations

import os
import time
import warnings
from typing import NamedTuple

from shmpool import _core
from shmpool._header import LEAKS, PoolSpec
from shmpool._layout import ControlView
from shmpool.errors import ArgumentError, LeakWarning

VARIABLE = "SHMPOOL_LEAKS"
_EVERY = {"off": 0, "sampled": 128, "all": 1}  # as Netty's leak detector samples
_MOST = 8  # rights that a message names

forced: str | None = (
    None  # a level for all pools that are attached from now on: see shmpool.testing
)


class Founding(NamedTuple):
    """Who made a pool that is not closed yet."""

    number: int  # counted in this process
    name: str
    file: str
    line: int
    when: float  # monotonic clock


founded: dict[str, Founding] = {}
foundings = 0  # how many pools this process has made


def note_founding(name: str) -> None:
    """Remember which line of the user's code made a pool, until it is closed."""
    global foundings  # noqa: PLW0603 - one for the process
    foundings += 1
    founded[name] = Founding(foundings, name, *_core.site(), time.monotonic())


def asked_level() -> str | None:
    """The level that this process is to have whatever its pools say, None for theirs.

    Raises ArgumentError for a level in the environment that is none.
    """
    level = forced or os.environ.get(VARIABLE)
    if not level:
        return None
    if level not in LEAKS:
        message = f"{VARIABLE} is {level!r}: one of {', '.join(map(repr, LEAKS))}"
        raise ArgumentError(message)
    return level


def track_every(spec: PoolSpec) -> int:
    """One right in how many is tracked in this process, 0 for none. Raises ArgumentError."""
    return _EVERY[asked_level() or LEAKS[spec.diagnostics.leaks]]


def place(file: str, line: int) -> str:
    """A line of code as people name it."""
    return f"{file}:{line}" if file else "a place without Python code"


def warn_of_leak(
    kind: str, pool: str, slot: int, generation: int, file: str, line: int, seconds: float
) -> None:
    """A right was collected that nobody had ended: a LeakWarning, where it was taken."""
    message = (
        f"a {kind} of slot {slot}@{generation} of pool {pool!r}, acquired at {place(file, line)}, "
        f"was collected {seconds:.3g} s later and never ended: use `with`, release() it, or call "
        f"leave_to_views() where its arrays are to keep it"
    )
    warnings.warn_explicit(message, LeakWarning, file or "<unknown>", line or 1)


def in_hand(spec: PoolSpec, view: ControlView, slots: list[int]) -> str:
    """Which rights this process still has, since when and, if tracked, from where."""
    acquired: dict[int, list[str]] = {}
    for _, pool, slot, _, file, line, _ in _core.tracked():
        if pool == spec.name:
            acquired.setdefault(slot, []).append(place(file, line))
    now = time.monotonic_ns()
    texts = []
    for slot in slots[:_MOST]:
        seconds = max(0.0, (now - int(view.slots["since_ns"][slot])) / 1e9)
        where = f", acquired at {' and '.join(acquired[slot])}" if slot in acquired else ""
        texts.append(f"slot {slot} for {seconds:.3g} s{where}")
    more = f"; and {len(slots) - _MOST} more" if len(slots) > _MOST else ""
    return "; ".join(texts) + more


def _after_fork_in_child() -> None:
    founded.clear()  # the parent's


os.register_at_fork(after_in_child=_after_fork_in_child)
