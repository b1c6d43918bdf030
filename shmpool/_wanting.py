"""What is said to those who want a slot, or room in a queue, and have waited: who has it.

At the end of a time-out by an error, and once in the middle of a long wait by a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from shmpool import _explain, _holders, _story
from shmpool._header import PoolSpec
from shmpool._holders import Holder
from shmpool._layout import ControlView, State, bits_of
from shmpool._sizes import show_age, show_size
from shmpool._text import printable
from shmpool.errors import PoolExhaustedError, QueueFull

_OF_EACH = 3  # lines of those who put, and of those who take

pool_log = logging.getLogger("shmpool.pool")
queue_log = logging.getLogger("shmpool.queue")


class Shortage(NamedTuple):
    """No slot that would do is free: where they all are, and who has them."""

    where: str  # a sentence without its end
    holders: tuple[Holder, ...]
    below: str  # the same in lines, to stand below


def shortage(spec: PoolSpec, view: ControlView, smallest: int, starved: int) -> Shortage:
    """Where the slots are. `smallest`: the first class that would do.

    `starved`: bytes that one more slot could not have.
    """
    first = spec.firsts[smallest]
    holders = _holders.of_slots(spec, view, first)
    lines = _holders.table(holders)
    known = {holder.slot for holder in holders if holder.site}
    # What a line is left for, of a pool that keeps it: where the other slots were taken.
    story = _story.held(spec, view, first, known)
    lines += story[: _holders.MOST - len(lines)]
    return Shortage(_where(spec, view, smallest, starved), holders, _below(lines))


def exhausted(
    spec: PoolSpec, view: ControlView, smallest: int, waited: float, starved: int
) -> PoolExhaustedError:
    """No slot that would do is free: who has them, and what may be done. As for `shortage`."""
    short = shortage(spec, view, smallest, starved)
    message = (
        f"{short.where}; none came back in {waited:.3g} s: "
        f"release earlier, pass a longer timeout=, or create the pool with more slots{short.below}"
    )
    return PoolExhaustedError(
        message, pool=spec.name, slots=spec.slots, holders=short.holders, waited=waited
    )


def warn_of_wait_for_slot(
    spec: PoolSpec, view: ControlView, smallest: int, waited: float, starved: int
) -> None:
    """A wait for a slot has become long: say who has them. As for `shortage`."""
    short = shortage(spec, view, smallest, starved)
    extra = {"pool": spec.name, "holders": short.holders, "waited": waited}
    pool_log.warning("waited %.3g s so far: %s%s", waited, short.where, short.below, extra=extra)


def _where(spec: PoolSpec, view: ControlView, smallest: int, starved: int) -> str:
    first = spec.firsts[smallest]
    count = spec.slots - first
    of_size = "" if smallest == 0 else f" of {show_size(spec.classes[smallest].slot_size)} or more"
    slots = f"the only slot{of_size}" if count == 1 else f"none of the {count} slots{of_size}"
    parts = _whereabouts(spec, view.words()[first:], starved)
    is_free = "is not free" if count == 1 else "is free"
    where = f" ({', '.join(parts)})" if parts else ""
    return f"{slots} of pool {spec.name!r} {is_free}{where}"


def _whereabouts(spec: PoolSpec, words: np.ndarray[Any, Any], starved: int) -> list[str]:
    """How many of some slots are where, of those that are not free."""
    states = np.bincount((words & 7).astype(np.intp), minlength=len(State)).tolist()
    queued = (words[words & 7 == State.QUEUED] >> 3 & 31).astype(np.intp)
    ways = np.bincount(queued, minlength=32).tolist()
    names = ["no queue", *(repr(queue.name) for queue in spec.queues)]
    want = f", and {show_size(starved)} for one more are not free in /dev/shm" if starved else ""
    counts = [
        (states[State.LEASED], "leased"),
        (states[State.SHARED], "shared"),
        (states[State.DRAINING], "released and still read"),
        *((n, f"{'waits' if n == 1 else 'wait'} in {name}") for n, name in zip(ways, names)),  # noqa: B905 - 32 numbers, fewer names
        (states[State.QUARANTINED], "in quarantine: see quarantined()"),
        (states[State.UNCOMMITTED], f"without memory{want}"),
        (states[State.RETIRED], "at the last generation"),
    ]
    return [f"{count} {text}" for count, text in counts if count]


def _below(lines: Sequence[str]) -> str:
    return "".join([":", *(f"\n{line}" for line in lines)]) if lines else ""


class Backlog(NamedTuple):
    """A queue without room: what waits there, who put it, and who takes."""

    pool: str
    queue: str
    length: int
    maxsize: int
    oldest: float  # seconds, of the tickets that wait
    holders: tuple[Holder, ...]
    consumers: tuple[Holder, ...]
    waiting: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What waits, without an end."""
        tickets = "1 ticket" if self.length == 1 else f"{self.length} tickets"
        oldest = f", the oldest for {show_age(self.oldest)}" if self.holders else ""
        where = f"queue {self.queue!r} of pool {self.pool!r}"
        return f"{where} has {tickets} (maxsize={self.maxsize}){oldest}"

    @property
    def below(self) -> str:
        """Who put it and who takes, in lines."""
        put = [f"  put by {line.strip()}" for line in _holders.table(self.holders, _OF_EACH)]
        took = [f"  taken by {line.strip()}" for line in _holders.table(self.consumers, _OF_EACH)]
        waiting = _explain.few(self.waiting) or "nobody"
        idle = "" if took or self.waiting else ", and nobody has a slot that came from it"
        return _below([*put, *took, f"  waiting for a ticket: {waiting}{idle}"])


def backlog(spec: PoolSpec, view: ControlView, number: int) -> Backlog:
    """What a queue is full of."""
    queue, state = spec.queues[number - 1], view.queue_states[number - 1]
    holders, consumers = _holders.of_queue(spec, view, number)
    sleepers = bits_of(state["waiting"])
    waiting = tuple(printable(_explain.who(view, member)) for member in sleepers)
    oldest = max((holder.longest for holder in holders), default=0.0)
    length = view.queue_size(number)
    return Backlog(
        spec.name, queue.name, length, queue.maxsize, oldest, holders, consumers, waiting
    )


def queue_full(spec: PoolSpec, view: ControlView, number: int, waited: float) -> QueueFull:
    """A queue had no room in time: what it is full of, and what may be done."""
    full = backlog(spec, view, number)
    message = (
        f"{full.sentence}, and had no room in {waited:.3g} s: take from it faster, pass a longer "
        f"timeout=, or create it with a larger maxsize{full.below}"
    )
    return QueueFull(message, **full._asdict(), waited=waited)


def warn_of_wait_for_room(spec: PoolSpec, view: ControlView, number: int, waited: float) -> None:
    """A wait for room has become long: say what the queue is full of."""
    full = backlog(spec, view, number)
    message = "waited %.3g s so far: %s, and no room%s"
    extra = full._asdict() | {"waited": waited}
    queue_log.warning(message, waited, full.sentence, full.below, extra=extra)
