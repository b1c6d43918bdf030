"""What moves in a pool: two looks at it, made into rates. For `shmpool top`, as values.

Nothing is drawn or read here. Rates are per second between the two looks, by the counters
that members keep; ages are those at the second look, by a clock that goes in steps of some
milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmpool import _survey
from shmpool._layout import ControlView, Standing, State, Status, bits_of
from shmpool._life import Life
from shmpool._look import Look
from shmpool.cli.ls import pool_state
from shmpool.cli.portrait import waits_for

FLOWS = ("acquired", "released", "put", "got", "claimed", "shared", "borrowed", "received", "waits",
         "waited_ns")  # fmt: skip
EVENTS = ("reaped_members", "reaped_leases", "requeued", "dead_lettered", "sent_to_quarantine",
          "repaired_bits", "expired_tickets")  # fmt: skip
_HELD = (State.LEASED, State.SHARED, State.DRAINING)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Flow:
    """What happened, per second."""

    acquired: float
    released: float
    put: float
    got: float
    claimed: float
    shared: float
    borrowed: float
    received: float  # bytes of the slots that were got, claimed and borrowed
    waits: float  # that ended
    waiting: float  # seconds of waits that ended; of one with threads it may be more than 1

    @property
    def rights(self) -> float:
        """Rights that were taken."""
        return self.acquired + self.got + self.claimed + self.borrowed


@dataclass(frozen=True, slots=True)
class Ages:
    """How long some slots have been what they are: not a latency, which only ends can tell."""

    count: int
    p50: float | None = None  # seconds
    p99: float | None = None
    oldest: float | None = None


@dataclass(frozen=True, slots=True)
class MemberMotion:
    """One entry of the member table."""

    index: int
    name: str
    pid: int
    standing: str
    life: Life
    held: int  # slots that it leases or shares
    longest: float | None  # seconds for which it has held one of them
    flow: Flow
    stale: int  # rights that were over when it used them, since it joined
    waits: int
    waited: float  # seconds, since it joined
    waits_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueueMotion:
    """One queue."""

    name: str
    length: int
    maxsize: int | None
    closed: bool
    put: float  # tickets that came in, per second
    got: float  # that went out
    ages: Ages  # of those that wait
    waiting: tuple[str, ...]  # members, for a ticket
    waiting_for_room: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """A slot that somebody has a right to."""

    slot: int
    generation: int
    state: str
    age: float
    member: int | None  # its owner; None of what is released and still read
    holders: tuple[str, ...]  # the owner, or who reads it
    pid: int | None
    queue: str | None  # from which it was taken
    slot_size: int


@dataclass(frozen=True, slots=True)
class Motion:
    """A pool between two looks."""

    name: str
    state: str
    pid: int  # of the coordinator
    coordinator: Life
    named: bool  # whether its name still leads to it
    age: float  # seconds since it was made
    seconds: float  # between the looks, 0 if there was one
    slots: int
    by_state: dict[str, int]
    payload_bytes: int
    control_bytes: int
    flow: Flow
    tickets: Ages  # of what waits, in any queue or in none
    holds: Ages  # of what somebody has a right to
    stale: int  # of the members that are there
    events: dict[str, int]  # since the pool was made
    events_seen: dict[str, int]  # since the first look
    members: tuple[MemberMotion, ...]
    queues: tuple[QueueMotion, ...]
    longest: tuple[Hold, ...]  # longest first
    states: tuple[int, ...]  # of every slot
    owners: tuple[int, ...]  # the same: member indices, 0 where nobody is


# Orders of members.
SORTS: dict[str, Callable[[MemberMotion], float]] = {
    "rate": lambda member: -member.flow.rights - member.flow.put,
    "held": lambda member: -member.held,
    "longest": lambda member: -(member.longest or 0.0),
    "waited": lambda member: -member.flow.waiting - bool(member.waits_for),
    "stale": lambda member: -member.stale,
    "index": lambda member: member.index,
}


def motion(before: Look, now: Look, first: Look | None = None, most: int | None = None) -> Motion:
    """Of two looks at one pool; `most`: how many of the longest holds are named.

    Raises CorruptSegmentError.
    """
    spec, statistics, words = now.spec, now.statistics(), now.view.columns()
    seconds = _seconds(before, now)
    ages = _ages(now)
    held = np.isin(words.state, _HELD)
    flows = _flows(before.view, now.view, seconds)
    members = tuple(_members(now, flows, ages))
    events = {name: getattr(statistics, name) for name in EVENTS}
    began = _events(first or before)
    return Motion(
        name=spec.name,
        state=_state(now),
        pid=spec.coordinator.pid,
        coordinator=now.coordinator,
        named=now.named,
        age=max(0.0, time.time() - spec.created_ns / 1e9),
        seconds=seconds,
        slots=spec.slots,
        by_state={state.name.lower(): getattr(statistics, state.name.lower()) for state in State},
        payload_bytes=statistics.payload_bytes,
        control_bytes=statistics.control_bytes,
        flow=_sum_of(flows),
        tickets=_sum_up(ages[words.state == State.QUEUED]),
        holds=_sum_up(ages[held]),
        stale=sum(member.stale for member in members),
        events=events,
        events_seen={name: max(0, count - began[name]) for name, count in events.items()},
        members=members,
        queues=tuple(_queues(before.view, now, seconds, ages)),
        longest=tuple(_longest(now, ages, np.flatnonzero(held), most)),
        states=tuple(words.state.tolist()),
        owners=tuple(words.owner.tolist()),
    )


def flow(before: Look, now: Look) -> Flow:
    """What all members did between two looks."""
    return _sum_of(_flows(before.view, now.view, _seconds(before, now)))


def _sum_of(flows: Array) -> Flow:
    return Flow(*flows[1:].sum(axis=0).tolist())


def _seconds(before: Look, now: Look) -> float:
    return max(0.0, (now.when_ns - before.when_ns) / 1e9)


def _state(seen: Look) -> str:
    """As `ls` says it; but what was closed and has no name is no orphan when its maker has gone."""
    closed = int(seen.view.status["status"]) == Status.CLOSED and not seen.named
    return "closed" if closed else pool_state(seen)


def _ages(seen: Look) -> Array:
    """Seconds for which each slot has been what it is."""
    since = seen.view.slots["since_ns"].astype(np.int64)
    ages: Array = np.maximum(0, seen.when_ns - since) / 1e9
    return ages


def _sum_up(ages: Array) -> Ages:
    if not ages.size:
        return Ages(0)
    p50, p99 = np.percentile(ages, (50, 99)).tolist()
    return Ages(ages.size, p50, p99, float(ages.max()))


def _events(seen: Look) -> dict[str, int]:
    renamed = {"sent_to_quarantine": "quarantined"}
    return {name: int(seen.view.status[renamed.get(name, name)]) for name in EVENTS}


def _flows(before: ControlView, now: ControlView, seconds: float) -> Array:
    """A row for each entry of the member table, of `FLOWS` per second."""
    was, new = before.members, now.members
    # Is it the same process? If not, it joined in between, and so all of its counts are new.
    same = (was["identity"] >> 8 == new["identity"] >> 8) & (was["joined_ns"] == new["joined_ns"])
    rates = np.zeros((len(new), len(FLOWS)))
    for column, name in enumerate(FLOWS):
        risen = new[name] - np.where(same, was[name], 0)
        rates[:, column] = np.maximum(0, risen.astype(np.int64))
    rates[:, FLOWS.index("waited_ns")] /= 1e9
    rates[new["identity"] == 0] = 0
    flows: Array = rates / seconds if seconds else np.zeros_like(rates)
    return flows


def _members(seen: Look, flows: Array, ages: Array) -> Iterator[MemberMotion]:
    view, words, waits = seen.view, seen.view.columns(), waits_for(seen)
    held, longest = _survey.held_by(words), _longest_of_each(seen, ages)
    for index in view.present():
        if not index:
            continue
        record = view.members[index]
        yield MemberMotion(
            index=index,
            name=view.member_name(index),
            pid=view.pid(index),
            standing=view.standing(index).name.lower(),
            life=_life(seen, index),
            held=held[index],
            longest=longest[index] if held[index] else None,
            flow=Flow(*flows[index].tolist()),
            stale=int(record["stale"]),
            waits=int(record["waits"]),
            waited=int(record["waited_ns"]) / 1e9,
            waits_for=tuple(waits.get(index, ())),
        )


def _longest_of_each(seen: Look, ages: Array) -> list[float]:
    words, longest = seen.view.columns(), np.zeros(256)
    owned = (words.state == State.LEASED) | (words.state == State.SHARED)
    np.maximum.at(longest, words.owner[owned], ages[owned])
    found: list[float] = longest.tolist()
    return found


def _life(seen: Look, index: int) -> Life:
    """By the coordinator's word while there is one: asking the system for 255 takes too long."""
    if seen.coordinator is Life.ALIVE and seen.view.standing(index) is Standing.ACTIVE:
        return Life.ALIVE
    return seen.member_life(index)


def _queues(before: ControlView, seen: Look, seconds: float, ages: Array) -> Iterator[QueueMotion]:
    spec, view, words = seen.spec, seen.view, seen.view.columns()
    queued = words.state == State.QUEUED
    for number, queue in enumerate(spec.queues, 1):
        was, new = before.queue_states[number - 1], view.queue_states[number - 1]
        yield QueueMotion(
            name=queue.name,
            length=view.queue_size(number),
            maxsize=queue.maxsize or None,
            closed=bool(new["closed"]),
            put=_risen(was["tail"], new["tail"], seconds),
            got=_risen(was["head"], new["head"], seconds),
            ages=_sum_up(ages[queued & (words.queue == number)]),
            waiting=_names(view, new["waiting"]),
            waiting_for_room=_names(view, new["waiting_space"]),
        )


def _risen(was: Any, new: Any, seconds: float) -> float:
    return max(0, int(new) - int(was)) / seconds if seconds else 0.0


def _names(view: ControlView, mask: Array) -> tuple[str, ...]:
    return tuple(view.member_name(member) for member in bits_of(mask))


def _longest(seen: Look, ages: Array, held: Array, most: int | None) -> Iterator[Hold]:
    """The slots that are held, longest first."""
    spec, view = seen.spec, seen.view
    for slot in held[np.argsort(-ages[held], kind="stable")][:most].tolist():
        word = view.word(slot)
        owned = word.state is not State.DRAINING
        readers = tuple(view.member_name(member) for member in view.readers_of(slot))
        yield Hold(
            slot=slot,
            generation=word.generation,
            state=word.state.name.lower(),
            age=float(ages[slot]),
            member=word.owner if owned else None,
            holders=(view.member_name(word.owner),) if owned else readers,
            pid=view.pid(word.owner) if owned else None,
            queue=spec.queues[word.queue - 1].name if 0 < word.queue <= len(spec.queues) else None,
            slot_size=spec.class_of(slot).slot_size,
        )
