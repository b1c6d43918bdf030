"""Recording what happens to the slots of a pool, from outside: see `_tracing` and sp_trace.h.

Of everything that is read from the rings nothing is believed: a member may write there what it
likes, or die over it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shmpool import _core, _look, _story
from shmpool._create import read
from shmpool._header import NAME, PoolSpec
from shmpool._layout import TRACE_EVENT, TRACE_RING, ControlView, Standing, Status
from shmpool._life import Life, life
from shmpool._process import Identity
from shmpool._segment import opened, read_at
from shmpool._tracing import EVENTS, Segment, segment, switch
from shmpool.errors import NotAPoolError, SegmentError

WAITS, WOKE = _core.TRACE_WAITS, _core.TRACE_WOKE
STALE, DIED, LEFT = _core.TRACE_STALE, _core.TRACE_DIED, _core.TRACE_LEFT
KINDS = {number: name for number, name in enumerate(_core.EVENTS) if name}
KINDS |= {WAITS: "waits", WOKE: "woke", STALE: "stale", DIED: "died", LEFT: "left"}
_OF_SLOTS = [number for number in KINDS if number < WAITS]
_REAPED = [*(n for n in _OF_SLOTS if KINDS[n] in _story._REAPED), DIED, LEFT]
_LEEWAY = 1_000_000_000  # nanoseconds between reading the clock and noting it, in a sleepy member
EVENT = np.dtype(
    [("when", "<i8"), ("slot", "<u2"), ("generation", "<i8"), ("kind", "u1"), ("queue", "u1"),
     ("member", "u1"), ("ring", "u1"), ("pid", "<u4")]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recording:
    """What was seen of a pool for a while."""

    spec: PoolSpec
    began_ns: int  # by time.monotonic_ns()
    ended_ns: int
    before: ControlView  # private copies of the control block
    after: ControlView
    events: np.ndarray[Any, Any]  # of dtype EVENT, in the order in which each member wrote them
    lost: dict[int, int]  # member index: events that were written over before they were read
    names: dict[tuple[int, int], str] = field(default_factory=dict)  # of members: index, pid

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.ended_ns - self.began_ns) / 1e9


class Recorder:
    """A pool that is being traced. Made by `recorder`."""

    def __init__(self, spec: PoolSpec, control: int, made: Segment) -> None:
        self.spec = spec
        self._control, self._segment = control, made
        self._read = [0] * (made.members + 1)
        self._parts: list[np.ndarray[Any, Any]] = []
        self._lost: dict[int, int] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._before = self._view()
        self._began = time.monotonic_ns()
        switch(spec, control, made.id)

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return (time.monotonic_ns() - self._began) / 1e9

    def _view(self) -> ControlView:
        view = ControlView(_look._copy(self.spec, self._control, None), self.spec.counts)
        for member in view.present():
            self._names[member, view.pid(member)] = view.member_name(member)
        return view

    def poll(self) -> int:
        """Take over what was noted since the last time: how many events. Does not block."""
        return sum(self._poll_ring(ring) for ring in range(1, self._segment.members + 1))

    def _poll_ring(self, ring: int) -> int:
        head, done = self._head(ring), self._read[ring]
        count = int(head["count"])
        if count == done:
            return 0
        # A count that went back, or further than a member could count, is nobody's.
        if not done < count < 1 << 62:
            self._read[ring] = count if count < 1 << 62 else done
            return 0
        name = bytes(head["name"]).split(b"\0")[0].decode(errors="replace")
        self._names[ring, int(head["pid"])] = name
        first = max(done, count - self._segment.events)
        numbers, raw = self._copy(ring, first, count)
        # What the writer may have begun to write over meanwhile is lost, too.
        oldest = int(self._head(ring)["count"]) - self._segment.events
        whole = raw["turn"] == numbers + 1
        kept = whole & (numbers.astype(np.int64) > oldest)
        events = _decoded(raw[kept], ring)
        events = events[self._possible(events, ring)]
        self._lost[ring] = self._lost.get(ring, 0) + count - done - len(events)
        self._read[ring] = count
        self._parts.append(events)
        return len(events)

    def _possible(self, events: np.ndarray[Any, Any], ring: int) -> np.ndarray[Any, Any]:
        """Which events are of what there is in this pool, and of this time."""
        spec, kind, slot = self.spec, events["kind"], events["slot"]
        here = np.isin(kind, _OF_SLOTS)
        of_slot = here & (slot < spec.slots) & (events["generation"] > 0)
        of_none = np.isin(kind, (WAITS, WOKE, STALE, DIED, LEFT))
        by_itself = (events["member"] == ring) | np.isin(kind, _REAPED)
        known = (events["member"] > 0) & (events["member"] <= spec.members)
        queues = events["queue"] <= max(len(spec.queues), len(spec.classes))
        now = time.monotonic_ns()
        timely = (events["when"] >= self._began - _LEEWAY) & (events["when"] <= now)
        possible: np.ndarray[Any, Any] = (of_slot | of_none) & by_itself & known & queues & timely
        return possible

    def _head(self, ring: int) -> Any:
        raw = np.zeros(1, TRACE_RING)
        _fill(raw, self._segment, self._segment.offset(ring))
        return raw[0]

    def _copy(self, ring: int, first: int, end: int) -> tuple[Any, Any]:
        """Events number `first` to `end`, in one or two pieces."""
        events = self._segment.events
        numbers = np.arange(first, end, dtype=np.uint64)
        raw = np.zeros(end - first, TRACE_EVENT)
        begin, done = self._segment.offset(ring) + TRACE_RING.itemsize, 0
        while done < len(raw):
            place = (first + done) % events
            some = min(len(raw) - done, events - place)
            _fill(raw[done : done + some], self._segment, begin + place * TRACE_EVENT.itemsize)
            done += some
        return numbers, raw

    def over(self) -> bool:
        """Whether nothing more can come: the pool is closed or orphaned, and nobody is attached."""
        status = int(self._view().status["status"])
        coordinator = life(self.spec, self.spec.coordinator)
        if status == Status.OPEN and coordinator is not Life.DEAD:
            return False
        return not any(self._attached())

    def _attached(self) -> Iterator[int]:
        view = self._view()
        for member in view.present():
            if not 0 < view.pid(member) < 1 << 31:
                continue
            row = view.members[member]
            who = Identity(view.pid(member), int(row["start_time"]), int(row["pidfd_inode"]))
            known = int(view.members["identity"][member]) & 255 == Standing.ACTIVE
            if known and life(self.spec, who) is not Life.DEAD:
                yield member

    def stop(self) -> Recording:
        """Tell the members that nobody listens any more, and read what is left."""
        switch(self.spec, self._control, 0, only=self._segment.id)
        ended = time.monotonic_ns()
        with suppress(SegmentError):  # it was cut: what was read before is there
            self.poll()
        after = self._view()
        events = np.concatenate([np.zeros(0, EVENT), *self._parts])
        lost = {ring: count for ring, count in self._lost.items() if count}
        spec, before = self.spec, self._before
        return Recording(spec, self._began, ended, before, after, events, lost, self._names)


def _fill(records: np.ndarray[Any, Any], made: Segment, offset: int) -> None:
    read_at(made.name, made.fd, records.view(np.uint8).data, offset)


def _decoded(raw: np.ndarray[Any, Any], ring: int) -> np.ndarray[Any, Any]:
    """Events as they may be believed: those of no kind that there is are left out."""
    what, ticket = raw["what"], raw["ticket"]
    events = np.zeros(len(raw), EVENT)
    events["when"] = raw["when_ns"].astype(np.int64)
    events["slot"] = ticket >> np.uint64(_core.GENERATION_BITS)
    events["generation"] = ticket & np.uint64(_core.GENERATION_MAX)
    events["kind"] = what & np.uint64(255)
    events["member"] = what >> np.uint64(8) & np.uint64(255)
    events["queue"] = what >> np.uint64(16) & np.uint64(255)
    events["pid"] = what >> np.uint64(32)
    events["ring"] = ring
    return events


@contextmanager
def recorder(name: str, events: int = EVENTS) -> Iterator[Recorder]:
    """Trace a pool for the length of the block. `events`: in a ring, a power of two.

    Writes one word of the pool's control block, and a segment of its own. Raises SegmentError's
    kinds, also if the pool is being traced already.
    """
    if not NAME.fullmatch(name):
        raise NotAPoolError(f"{name!r} is no name of a pool", name=name)
    with opened(name) as control:
        spec = read(name, control)
        with segment(spec, events) as made:
            listening = Recorder(spec, control, made)
            try:
                yield listening
            finally:
                with suppress(OSError):
                    switch(spec, control, 0, only=made.id)


def forget_dead_tracer(pool: str, dead: int) -> bool:
    """Switch off what a dead tracer left switched on in a pool: whether there was something."""
    try:
        with opened(pool) as control:
            return switch(read(pool, control), control, 0, only=dead)
    except SegmentError:  # the pool is gone, or somebody else's
        return False
