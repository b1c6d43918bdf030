"""A timeline in the Trace Event Format, which Perfetto (ui.perfetto.dev) opens.

Three processes: `members`, `slots`, and `queues` with how many tickets are in each. A member has
a row for its waits, and as many for what it holds as it holds slots at once, since slices of a
row may not overlap; a slot has one row.
Arrows lead from a put to the queue to the get.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any

from shmpool._story import _REAPED
from shmpool.cli.timeline import (
    PARTED,
    Event,
    Handoff,
    Lasting,
    Span,
    Timeline,
    Wait,
    Who,
    by_member,
)
from shmpool.cli.trace_summary import waited_for

MEMBERS, SLOTS, QUEUES = 1, 2, 3  # process ids
# Thread ids. Perfetto shows them behind the names, puts rows in their order, and before all
# others the one whose id is its process's.
_ROWS = 1000  # a member's begin with a multiple of this
_SLOT_ROWS = 100_000  # slot 7 is 100007
_NAMES = {MEMBERS: "members", SLOTS: "slots", QUEUES: "queues"}
Record = dict[str, Any]


def trace_events(line: Timeline) -> Record:
    """The whole file, as data."""
    drawn = _Drawing(line)
    events = sorted([*drawn.slices(), *drawn.arrows(), *drawn.marks(), *drawn.depths()], key=_when)
    recording = line.recording
    about = {"pool": recording.spec.name, "lost": sum(recording.lost.values()),
             "misfits": line.misfits}  # fmt: skip
    return {"traceEvents": [*drawn.names(), *events], "displayTimeUnit": "ns", "otherData": about}


def _when(record: Record) -> float:
    return float(record["ts"])


def lanes(spans: Iterable[Lasting], since: int = 0) -> Iterator[tuple[int, Lasting]]:
    """Each with the lowest lane in which nothing is at its time, in order of their begins.

    What was before `since` is then.
    """
    ends: list[int] = []
    for span in sorted(spans, key=attrgetter("begin")):
        begin = max(span.begin, since)
        lane = next((n for n, end in enumerate(ends) if end <= begin), len(ends))
        ends[lane : lane + 1] = [max(span.end, begin + 1)]
        yield lane, span


class _Drawing:
    def __init__(self, line: Timeline) -> None:
        self._line = line
        self._origin = line.recording.began_ns
        self._rows: dict[Who, int] = {}
        self._lanes: dict[int, int] = {}  # id of a span or wait: its thread
        self._titles: dict[int, str] = {}  # of threads
        waits, held = by_member(line.waits), by_member((*line.holds(), *line.borrows))
        end = _ROWS
        for who in line.members:
            self._rows[who] = -(-end // _ROWS) * _ROWS  # of one that holds thousands there are more
            after = self._place(who, self._rows[who], "waits", waits.get(who, []))
            end = self._place(who, after, "holds", held.get(who, []))
        # In a row of its own no span begins before the last one ends, not by a nanosecond.
        self._in_slot: dict[int, tuple[int, int]] = {}
        ends: dict[int, int] = {}
        for span in line.spans:
            begin = max(span.begin, self._origin, ends.get(span.slot, 0))
            ends[span.slot] = max(span.end, begin + 1)
            self._in_slot[id(span)] = begin, ends[span.slot]

    def _place(self, who: Who, row: int, what: str, things: Iterable[Lasting]) -> int:
        """Find a row for each, from `row` on: the row behind the last."""
        title, end = f"{self._line.name(who)} (pid {who.pid}) {what}", row + 1
        self._titles[row] = title
        for lane, thing in lanes(things, self._origin):
            self._lanes[id(thing)] = row + lane
            if lane:
                self._titles[row + lane] = f"{title} +{lane}"
            end = max(end, row + lane + 1)
        return end

    def _at(self, when: int) -> float:
        """Microseconds since the trace began, in thousandths. Never before."""
        return max(0, when - self._origin) / 1000

    def _lasting(self, begin: int, end: int) -> Record:
        begin = max(begin, self._origin)
        # Some readers add in floating point, and bind an arrow at the begin of a slice to the one
        # that ends there: less a tenth of a nanosecond, which rounding to nanoseconds gives back.
        dur = (10 * max(end - begin, 1) - 1) / 10_000
        return {"ph": "X", "ts": self._at(begin), "dur": dur}

    def names(self) -> Iterator[Record]:
        """What the rows are called, and in which order they stand."""
        for pid, name in _NAMES.items():
            yield _about("process_name", pid, 0, name=name)
            yield _about("process_sort_index", pid, 0, sort_index=pid)
        for row, title in self._titles.items():
            yield from _row(MEMBERS, row, title)
        for slot in range(self._line.recording.spec.slots):
            yield from _row(*_of_slot(slot), f"slot {slot}")

    def slices(self) -> Iterator[Record]:
        """What lasts."""
        for span in self._line.spans:
            row = _of_slot(span.slot)
            yield self._slice(span, self._title(span), *row, *self._in_slot[id(span)])
        for span in (*self._line.holds(), *self._line.borrows):
            title = f"slot {span.slot}" + (f" {span.what}" if span.what != "held" else "")
            row = MEMBERS, self._lanes[id(span)]
            yield self._slice(span, title, *row, span.begin, span.end)
        for wait in self._line.waits:
            yield self._wait(wait)

    def _slice(self, span: Span, title: str, pid: int, tid: int, begin: int, end: int) -> Record:
        about: Record = {"slot": span.slot, "generation": span.generation, "until": span.until}
        if span.who is not None:
            about["member"] = self._line.name(span.who)
        if span.queue:
            about["queue"] = self._line.queue(span.queue)
        if span.guessed:
            about["guessed"] = True
        lasting = self._lasting(begin, end)
        return {**lasting, "name": title, "cat": span.what, "pid": pid, "tid": tid, "args": about}

    def _title(self, span: Span) -> str:
        if span.who is not None:
            return f"{self._line.name(span.who)}{' (shared)' if span.what == 'shared' else ''}"
        where = self._line.queue(span.queue)
        return f"{span.what} in {where}" if where else span.what

    def _wait(self, wait: Wait) -> Record:
        title = f"waits for {waited_for(self._line, wait)}"
        lasting = self._lasting(wait.begin, wait.end)
        row = {"pid": MEMBERS, "tid": self._lanes[id(wait)]}
        return {**lasting, **row, "name": title, "cat": "wait", "args": {"over": wait.over}}

    def arrows(self) -> Iterator[Record]:
        """A start, a step and an end for each hand-off, within the slices that they join."""
        for number, handoff in enumerate(self._line.handoffs, 1):
            yield from self._arrow(number, handoff)

    def _arrow(self, number: int, handoff: Handoff) -> Iterator[Record]:
        sent, queued, got = handoff.sent, handoff.queued, handoff.got
        name = self._line.queue(handoff.queue) or "ticket"
        base = {"name": name, "cat": "hand-off", "id": number}
        leaves, comes = self._lanes[id(sent)], self._lanes[id(got)]
        pid, tid = _of_slot(queued.slot)
        # A slice has ended at its end: a nanosecond before.
        start = max(sent.begin, sent.end - 1, self._origin)
        step = self._in_slot[id(queued)][0]
        end = max(got.begin, step)
        yield {**base, "ph": "s", "ts": self._at(start), "pid": MEMBERS, "tid": leaves}
        yield {**base, "ph": "t", "ts": self._at(step), "pid": pid, "tid": tid}
        yield {**base, "ph": "f", "bp": "e", "ts": self._at(end), "pid": MEMBERS, "tid": comes}

    def marks(self) -> Iterator[Record]:
        """What is of one moment: stale rights, deaths, and what became of the dead's slots."""
        for mark in self._line.marks:
            yield self._mark(mark)

    def _mark(self, mark: Event) -> Record:
        name = self._line.name(mark.who)
        on_slot = mark.kind in _REAPED
        title = f"{mark.kind}: {name} died" if on_slot else f"{name} {_MARKS[mark.kind]}"
        about = {} if mark.kind in PARTED else {"slot": mark.slot, "generation": mark.generation}
        row = _of_slot(mark.slot) if on_slot else (MEMBERS, self._rows[mark.who])
        scope = "p" if mark.kind in PARTED else "t"
        return {"ph": "i", "ts": self._at(mark.when), "name": title, "cat": mark.kind, "s": scope,
                "pid": row[0], "tid": row[1], "args": about}  # fmt: skip

    def depths(self) -> Iterator[Record]:
        """How many tickets are in each queue, whenever that changes."""
        changes = sorted(
            (when, -by, span.queue)  # what comes first, so that it is never less than none
            for span in self._line.spans
            if span.what == "queued"
            for when, by in ((span.begin, 1), (span.end, -1))
            if when < self._line.recording.ended_ns
        )
        depth: dict[int, int] = {}
        for when, less, queue in changes:
            depth[queue] = depth.get(queue, 0) - less
            yield {"ph": "C", "ts": self._at(when), "name": self._line.queue(queue), "pid": QUEUES,
                   "args": {"tickets": depth[queue]}}  # fmt: skip


_MARKS = {"died": "died", "left": "left", "stale": "used a right that was over"}


def _of_slot(slot: int) -> tuple[int, int]:
    """Process and thread."""
    return SLOTS, _SLOT_ROWS + slot


def _row(pid: int, tid: int, name: str) -> Iterator[Record]:
    yield _about("thread_name", pid, tid, name=name)
    yield _about("thread_sort_index", pid, tid, sort_index=tid)


def _about(what: str, pid: int, tid: int, **about: Any) -> Record:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": about}
