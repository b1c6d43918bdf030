"""From the events of a trace to what was when: who held which slot, what waited in which queue.

The events of a slot are put in order by generation, since members note them after the fact, and
two of them may note in another order than they acted. Where events are missing, what is next to
the gap is a guess, and is marked as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, TypeVar

import numpy as np

from shmpool import _core
from shmpool._layout import State, Word
from shmpool._story import _BEGINS, _REAPED
from shmpool._trace import KINDS, Recording

HELD, SHARED, DRAINING = "held", "shared", "draining"
QUEUED, DETACHED, QUARANTINED = "queued", "detached", "quarantined"
_OF_STATE = {
    State.LEASED: HELD,
    State.SHARED: SHARED,
    State.DRAINING: DRAINING,
    State.QUARANTINED: QUARANTINED,
}
PARTED = {"died", "left"}  # what becomes of members
_BEFORE = {  # what a slot was before an event; HELD or SHARED if it is not among these
    "leased": (),
    "got": (QUEUED,),
    "claimed": (DETACHED, QUARANTINED),
    "shared": (HELD,),
    "expired": (DETACHED,),
}
_RANKS = dict.fromkeys(_BEGINS, 0) | {"shared": 1}  # 2: by time alone


class Who(NamedTuple):
    """A member: an index may be several processes' one after the other."""

    member: int
    pid: int


class Event(NamedTuple):
    """As it was noted; queue is a number, 0 for none."""

    when: int
    slot: int
    generation: int
    kind: str
    queue: int
    who: Who


@dataclass(slots=True)
class Span:
    """What a slot was for a while. Times in nanoseconds by time.monotonic_ns()."""

    what: str
    slot: int
    generation: int
    begin: int
    end: int
    who: Who | None = None  # who held it
    queue: int = 0  # where it waited
    until: str = ""  # the event that ended it, "" if it goes on
    guessed: bool = False  # its begin or its end was lost

    @property
    def length(self) -> int:
        """Nanoseconds."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Wait:
    """A member that waited: for a slot of a class, or a queue's ticket or room."""

    who: Who
    begin: int
    end: int
    kind: int  # as _core.FOR_SLOT
    number: int
    over: bool  # not when the trace ended

    @property
    def length(self) -> int:
        """Nanoseconds."""
        return self.end - self.begin


Lasting = TypeVar("Lasting", Span, Wait)


@dataclass(frozen=True, slots=True)
class Handoff:
    """A ticket's way: through a queue, or by another channel, which is queue 0."""

    queue: int
    sent: Span  # held by the sender
    queued: Span
    got: Span  # held by the receiver

    @property
    def latency(self) -> int:
        """Nanoseconds from put to get, or detach to claim.

        Both note after the fact: 0 if the receiver noted first.
        """
        return self.queued.length


@dataclass(slots=True)
class Timeline:
    """All that a trace tells."""

    recording: Recording
    spans: list[Span] = field(default_factory=list)  # of slots: in each slot one after the other
    borrows: list[Span] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    handoffs: list[Handoff] = field(default_factory=list)
    marks: list[Event] = field(default_factory=list)  # stale, died, left, and what the reaper did
    misfits: int = 0  # events that do not follow from those before them
    members: list[Who] = field(default_factory=list)

    def name(self, who: Who) -> str:
        """Of a member, as people know it."""
        return self.recording.names.get(who) or f"member {who.member}"

    def queue(self, number: int) -> str:
        """Name of a queue, "" for none."""
        queues = self.recording.spec.queues
        return queues[number - 1].name if 0 < number <= len(queues) else ""

    def holds(self) -> Iterator[Span]:
        """What members held."""
        return (span for span in self.spans if span.who is not None)


def build(recording: Recording) -> Timeline:
    """Make it of a recording."""
    line = Timeline(recording)
    events = _events(recording)
    ordered = sorted(events, key=_order)
    by_slot = {slot: list(group) for slot, group in groupby(ordered, attrgetter("slot"))}
    by_slot.pop(_core.TRACE_NO_SLOT, None)
    deaths = {e.who: e.when for e in events if e.kind in PARTED}
    words = recording.before.unpacked()
    for slot, word in enumerate(words):
        walk = _Walk(line, slot, word, deaths)
        for event in by_slot.get(slot, []):
            walk.take(event)
        walk.finish(recording.ended_ns)
    line.waits = list(_waits(recording, events, deaths))
    line.marks = [e for e in events if e.kind in _REAPED | PARTED | {"stale"}]
    line.members = _members(line, events)
    return line


def _events(recording: Recording) -> list[Event]:
    columns = (recording.events[name].tolist() for name in ("when", "slot", "generation", "kind",
                                                             "queue", "member", "pid"))  # fmt: skip
    rows = zip(*columns, strict=True)
    return [Event(w, s, g, KINDS[k], q, Who(m, p)) for w, s, g, k, q, m, p in rows]


def _order(event: Event) -> tuple[int, int, int, int]:
    return event.slot, event.generation, _RANKS.get(event.kind, 2), event.when


def _members(line: Timeline, events: list[Event]) -> list[Who]:
    seen = {e.who for e in events} | {s.who for s in line.holds() if s.who}
    return sorted(seen | {Who(*key) for key in line.recording.names if key[1]})


class _Walk:
    """One slot, from the moment at which the trace began."""

    def __init__(self, line: Timeline, slot: int, word: Word, deaths: dict[Who, int]) -> None:
        self._line, self._slot, self._deaths = line, slot, deaths
        self._generation = word.generation
        self._last: Span | None = None  # of a sender
        self._readers: dict[Who, list[Span]] = {}
        self._now: Span | None = None
        self._since = line.recording.began_ns  # when the last one ended
        self._first = True  # nothing has been noted of it yet
        before = line.recording.before
        what = _OF_STATE.get(word.state)
        if word.state is State.QUEUED:
            what = QUEUED if word.queue else DETACHED
        if what is not None:
            owner = Who(word.owner, before.pid(word.owner))
            self._now = Span(what, slot, word.generation, line.recording.began_ns, 0)
            self._now.queue = word.queue if what == QUEUED else 0
            self._now.who = owner if what in (HELD, SHARED) else None
        for reader in before.readers_of(slot) if what in (SHARED, DRAINING) else []:
            if reader:
                who = Who(reader, before.pid(reader))
                self._borrow(who, word.generation, line.recording.began_ns)

    def take(self, event: Event) -> None:
        """Go on by one event."""
        self._bury(event.when)
        if event.kind in ("borrowed", "returned"):
            self._read(event)
        elif event.kind in ("stale", "moved") or event.generation < self._generation:
            return  # of the past, or no transition
        else:
            self._go_on(event)

    def _go_on(self, event: Event) -> None:
        if self._first and not self._line.recording.lost:
            self._correct(event)
        self._first = False
        if event.kind in _BEGINS:
            self._begin(event)
        elif event.kind == "shared":
            self._share(event)
        else:
            self._end(event)

    def _correct(self, event: Event) -> None:
        """Does the first event not follow from what the slot was? Then that is a moment too old.

        It was looked at before members were told to note what they do.
        """
        what = _BEFORE.get(event.kind, (HELD, SHARED))
        free = self._now is None or self._now.what == DRAINING
        fits = self._is(*what) or (free and not what)
        if fits and (event.generation == self._generation or free):
            return
        self._now, self._generation = None, event.generation
        if what:
            who = event.who if what[0] == HELD else None
            queue = event.queue if what[0] == QUEUED else 0
            self._open(what[0], event, event.generation, who=who, queue=queue, since=self._since)

    def _begin(self, event: Event) -> None:
        waited = (QUEUED, DETACHED, QUARANTINED)
        free = self._now is None or self._now.what == DRAINING
        fits = free if event.kind == "leased" else not free and self._is(*waited)
        fits &= event.generation == self._generation or event.kind == "leased"
        queued = self._close(event.when, event.kind, guessed=not fits)
        self._open(HELD, event, event.generation, who=event.who, guessed=not fits)
        if fits and queued and self._last and self._now:
            handoff = Handoff(event.queue, self._last, queued, self._now)
            self._line.handoffs.append(handoff)
        self._last = None

    def _share(self, event: Event) -> None:
        fits = self._is(HELD) and event.generation == self._generation
        self._close(event.when, event.kind, guessed=not fits)
        self._open(SHARED, event, event.generation, who=event.who, guessed=not fits)

    def _end(self, event: Event) -> None:
        expired = event.kind == "expired"
        fits = self._is(DETACHED, QUEUED) if expired else self._is(HELD, SHARED)
        fits &= event.generation == self._generation
        if not fits and self._now is None and event.generation > self._generation:
            # Its begin was lost: it was at some time since the last that we know of.
            self._open(HELD, event, event.generation, who=event.who, guessed=True)
        shared = self._is(SHARED)
        held = self._close(event.when, event.kind, guessed=not fits)
        self._generation = event.generation + 1
        # Where events were lost, what ends here may have been in a queue, with nobody.
        sent = held is not None and held.who is not None and event.kind in ("put", "detached")
        self._last = held if sent else None
        match event.kind:
            case "put" | "requeued":
                self._open(QUEUED, event, event.generation + 1, queue=event.queue)
            case "dead-lettered":
                letter = self._letter(event.queue)
                self._open(QUEUED, event, event.generation + 1, queue=letter)
            case "detached":
                self._open(DETACHED, event, event.generation + 1)
            case "quarantined":
                self._open(QUARANTINED, event, event.generation + 1, queue=event.queue)
            case _ if shared and self._readers:
                self._open(DRAINING, event, event.generation + 1)

    def _letter(self, queue: int) -> int:
        queues = self._line.recording.spec.queues
        return queues[queue - 1].dead_letter if 0 < queue <= len(queues) else 0

    def _is(self, *states: str) -> bool:
        return self._now is not None and self._now.what in states

    def _open(
        self, what: str, event: Event, generation: int, *,
        who: Who | None = None, queue: int = 0, guessed: bool = False, since: int | None = None,
    ) -> None:  # fmt: skip
        self._generation = generation
        # Who notes late may note after the next one.
        begin = max(event.when, self._since) if since is None else since
        self._now = Span(what, self._slot, generation, begin, 0, who, queue, guessed=guessed)

    def _close(self, when: int, until: str, *, guessed: bool) -> Span | None:
        span, self._now = self._now, None
        self._line.misfits += guessed
        if span is not None:
            self._since = max(when, span.begin)
            span.end, span.until = self._since, until
            span.guessed |= guessed
            self._line.spans.append(span)
        return span

    def _read(self, event: Event) -> None:
        if event.kind == "borrowed":
            self._borrow(event.who, event.generation, event.when)
        elif self._readers.get(event.who):  # if not, it was borrowed as the trace began
            self._return(event.who, event.when, "returned")

    def _bury(self, now: int) -> None:
        """The borrows of those who are dead by now end with them."""
        for who in [who for who in self._readers if self._deaths.get(who, now + 1) <= now]:
            while who in self._readers:
                self._return(who, self._deaths[who], "died")

    def _borrow(self, who: Who, generation: int, when: int) -> None:
        span = Span("borrowed", self._slot, generation, when, 0, who)
        self._readers.setdefault(who, []).append(span)

    def _return(self, who: Who, when: int, until: str) -> None:
        borrows = self._readers[who]
        span = borrows.pop(0)
        span.end, span.until = max(when, span.begin), until
        self._line.borrows.append(span)
        if not borrows:
            del self._readers[who]
        if not self._readers and self._is(DRAINING):
            self._close(when, until, guessed=False)

    def finish(self, when: int) -> None:
        """Close what goes on."""
        self._bury(when)
        for span in (span for borrows in self._readers.values() for span in borrows):
            span.end = max(when, span.begin)
            self._line.borrows.append(span)
        if self._now is not None:
            self._now.end = max(when, self._now.begin)
            self._line.spans.append(self._now)


def _waits(recording: Recording, events: list[Event], deaths: dict[Who, int]) -> Iterator[Wait]:
    """A sleeper says in every slice of its sleep what it waits for, and in the end how long."""
    began: dict[Who, Event] = {}
    for event in events:
        if event.kind == "waits":
            began.setdefault(event.who, event)
        elif event.kind == "woke" and event.who in began:
            first = began.pop(event.who)
            begin = max(event.when - event.generation, recording.began_ns)
            what = first.generation, first.queue
            yield Wait(first.who, min(begin, event.when), event.when, *what, over=True)
    for who, first in began.items():
        end = max(deaths.get(who, recording.ended_ns), first.when)
        yield Wait(who, first.when, end, first.generation, first.queue, over=who in deaths)


def by_member(things: Iterable[Lasting]) -> dict[Who, list[Lasting]]:
    """What is each member's, in the same order."""
    found: dict[Who, list[Lasting]] = {}
    for thing in things:
        if thing.who is not None:
            found.setdefault(thing.who, []).append(thing)
    return found


def percentile(values: list[int], share: float) -> int:
    """The value below which lies this share of them, 0 if there are none.

    >>> percentile([3, 1, 2], 0.5), percentile([], 0.5)
    (2, 0)
    """
    return int(np.quantile(values, share, method="inverted_cdf")) if values else 0
