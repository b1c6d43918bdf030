"""What a pool's metrics are, and their values: a table of families, and rows from one look.

Names, units and kinds are as Prometheus has them: base units, and a counter's samples end in
`_total`. Nothing here needs a client of any monitoring system.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shmpool._layout import State, Status, bits_of
from shmpool._life import Life
from shmpool._look import Look
from shmpool._statistics import MemberStatistics, PoolStatistics
from shmpool._text import printable

GAUGE, COUNTER = "gauge", "counter"
_MEMBER = ("member", "pid", "index")
_HELD = (State.LEASED, State.SHARED, State.DRAINING)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name, without `_total`, and labels besides `pool`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A value of a family, with a value for each of its labels."""

    family: str
    value: float
    labels: tuple[str, ...] = ()


_GAUGES = (
    ("up", "Whether the pool could be read: 1 or 0. Without it there are no other metrics."),
    ("status", "1 for what the pool is: open, closed, orphaned or forming; else 0.", "status"),
    ("created_timestamp_seconds", "When the pool was made, in seconds since 1970."),
    ("slots", "Slots by the size of their class, in bytes, and by state.", "class", "state"),
    ("memory_bytes", "Memory behind the slots, and of the control block, by part.", "part"),
    ("members", "Processes that are attached."),
    ("waiting_members", "Members that wait for a slot of a class.", "class"),
    ("longest_hold_seconds", "For how long the slot is held that is held for longest."),
    ("member_slots", "Slots that the member leases or shares.", *_MEMBER),
    ("member_longest_hold_seconds", "For how long the member has had its oldest slot.", *_MEMBER),
    ("queue_length", "Tickets that wait in the queue.", "queue"),
    ("queue_maxsize", "How many tickets may wait before put waits; 0 for no limit.", "queue"),
    ("queue_closed", "Whether the queue is closed: 1 or 0.", "queue"),
    ("queue_oldest_ticket_seconds", "For how long the oldest ticket waits; 0: none.", "queue"),
    ("queue_waiting_members", "Members that wait for a ticket, or for room.", "queue", "want"),
)
_OF_POOL = {  # by field of PoolStatistics
    "reaped_members": ("reaped_members", "Members that left or died, and were cleared away."),
    "reaped_leases": ("reaped_leases", "Slots that were freed because their holder died."),
    "requeued": ("requeued", "Tickets that are delivered again because their holder died."),
    "dead_lettered": ("dead_lettered", "Tickets that went to a dead-letter queue."),
    "sent_to_quarantine": ("quarantined", "Slots that were held out because their holder died."),
    "repaired_bits": ("repairs", "Entries of the free map that the reaper has put right."),
    "expired_tickets": ("expired_tickets", "Detached tickets that nobody claimed in time."),
}
_OF_MEMBER = {  # by field of MemberStatistics
    "acquired": ("acquired", "Slots that the member has acquired."),
    "released": ("released", "Rights that it has released."),
    "put": ("put", "Leases that it has put into queues."),
    "got": ("got", "Leases that it has got from queues."),
    "detached": ("detached", "Leases that it has turned into tickets."),
    "claimed": ("claimed", "Tickets that it has claimed."),
    "shared": ("shared", "Leases that it has shared."),
    "borrowed": ("borrowed", "Shared slots that it has borrowed."),
    "stale": ("stale", "Rights that it tried to use when they were over: each is a bug."),
    "rung": ("rung", "Sleeping members that it has woken."),
    "waits": ("waits", "Times that it has waited for a slot, a ticket or room."),
    "waited": ("waited_seconds", "How long it has waited in all."),
    "exhausted": ("exhausted", "Acquires that timed out."),
    "overflows": ("overflows", "Writes that did not fit into their slot."),
    "moved": ("moved", "Of these, those that went on in a larger slot."),
    "received": ("received_bytes", "Bytes of the slots that it has got, claimed and borrowed."),
}
FAMILIES = (
    *(Family(f"shmpool_{name}", GAUGE, text, tuple(labels)) for name, text, *labels in _GAUGES),
    *(Family(f"shmpool_{name}", COUNTER, text) for name, text in _OF_POOL.values()),
    *(
        Family(f"shmpool_member_{name}", COUNTER, text, _MEMBER)
        for name, text in _OF_MEMBER.values()
    ),
)


def rows(seen: Look) -> Iterator[Row]:
    """All values of a pool, as of one moment. Raises CorruptSegmentError."""
    said = seen.statistics()
    yield Row("shmpool_up", 1)
    yield from _pool(seen, said)
    yield from _slots(seen)
    yield from _queues(said)
    longest = _longest_holds(seen)
    for member in said.members:
        yield from _member(member, longest.get(member.index, 0.0))


def _pool(seen: Look, said: PoolStatistics) -> Iterator[Row]:
    status = int(seen.view.status["status"])
    is_what = Status.ORPHANED if seen.coordinator is Life.DEAD else status
    for one in Status:
        yield Row("shmpool_status", is_what == one, (one.name.lower(),))
    yield Row("shmpool_created_timestamp_seconds", seen.spec.created_ns / 1e9)
    yield Row("shmpool_memory_bytes", said.payload_bytes, ("slots",))
    yield Row("shmpool_memory_bytes", said.control_bytes, ("control",))
    yield Row("shmpool_members", len(said.members))
    for field, (name, _) in _OF_POOL.items():
        yield Row(f"shmpool_{name}", getattr(said, field))


def _slots(seen: Look) -> Iterator[Row]:
    states, since = seen.view.words() & 7, seen.view.slots["since_ns"]
    for number, size_class in enumerate(seen.spec.classes):
        first, size = seen.spec.firsts[number], str(size_class.slot_size)
        those = states[first : first + size_class.max_count]
        for state in State:
            count = int(np.count_nonzero(those == state))
            yield Row("shmpool_slots", count, (size, state.name.lower()))
        waiting = len(bits_of(seen.view.class_states["waiting"][number]))
        yield Row("shmpool_waiting_members", waiting, (size,))
    held = since[np.isin(states, _HELD)]
    longest = seen.age(int(held.min())) if len(held) else 0.0
    yield Row("shmpool_longest_hold_seconds", longest)


def _longest_holds(seen: Look) -> dict[int, float]:
    """For how long each member that leases or shares slots has had its oldest, by index."""
    words, since = seen.view.words(), seen.view.slots["since_ns"]
    owned = np.isin(words & 7, (State.LEASED, State.SHARED))
    began = np.full(256, np.iinfo(np.uint64).max)
    np.minimum.at(began, (words[owned] >> 8 & 255).astype(np.intp), since[owned])
    return {member: seen.age(int(began[member])) for member in range(256)}


def _queues(said: PoolStatistics) -> Iterator[Row]:
    for queue in said.queue_statistics:
        name = (printable(queue.name),)
        yield Row("shmpool_queue_length", queue.length, name)
        yield Row("shmpool_queue_maxsize", queue.maxsize, name)
        yield Row("shmpool_queue_closed", queue.closed, name)
        yield Row("shmpool_queue_oldest_ticket_seconds", queue.oldest or 0.0, name)
        yield Row("shmpool_queue_waiting_members", queue.waiting, (*name, "ticket"))
        yield Row("shmpool_queue_waiting_members", queue.waiting_for_room, (*name, "room"))


def _member(member: MemberStatistics, longest: float) -> Iterator[Row]:
    # The index makes it one: a process may be attached twice under one name.
    labels = (printable(member.name), str(member.pid), str(member.index))
    yield Row("shmpool_member_slots", member.held, labels)
    yield Row("shmpool_member_longest_hold_seconds", longest, labels)
    for field, (name, _) in _OF_MEMBER.items():
        yield Row(f"shmpool_member_{name}", getattr(member, field), labels)
