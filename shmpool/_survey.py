"""Snapshots taken from the control block: what was so a moment ago, in frozen records."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from shmpool._attachment import Attachment
from shmpool._header import PoolSpec
from shmpool._layout import Columns, ControlView, Standing, State, bits_of
from shmpool._statistics import (
    ClassStatistics,
    MemberStatistics,
    PoolStatistics,
    Quarantined,
    QueueStatistics,
)
from shmpool._ticket import Ticket

_NOT_COUNTED = {"status", "joins", "doorbells", "trace"}  # fields of the status record
_COUNTERS = ("acquired", "released", "put", "got", "detached", "claimed", "shared", "borrowed",
             "stale", "rung", "waits", "exhausted", "overflows", "moved", "received")  # fmt: skip


def pool_statistics(spec: PoolSpec, view: ControlView, now_ns: int | None = None) -> PoolStatistics:
    """A whole pool: see `Pool.statistics`. `now_ns`: when the view was taken, if not now."""
    words = view.columns()
    counts = np.bincount(words.state, minlength=len(State)).tolist()
    classes = _class_statistics(spec, words)
    totals = [name for name in view.status.dtype.names or () if name not in _NOT_COUNTED]
    renamed = {"quarantined": "sent_to_quarantine"}  # the other is a state
    numbers = range(1, len(spec.queues) + 1)
    return PoolStatistics(
        name=spec.name,
        slots=spec.slots,
        **{state.name.lower(): counts[state] for state in State},
        slot_size=classes[-1].slot_size,
        stride=classes[-1].stride,
        payload_bytes=sum(c.committed_bytes for c in classes),
        control_bytes=spec.control_size,
        classes=classes,
        queues={spec.queues[n - 1].name: view.queue_size(n) for n in numbers},
        queue_statistics=_queue_statistics(spec, view, now_ns),
        **{renamed.get(name, name): int(view.status[name]) for name in totals},
        members=_member_statistics(view, words),
    )


def _class_statistics(spec: PoolSpec, words: Columns) -> tuple[ClassStatistics, ...]:
    rows = []
    for first, c in zip(spec.firsts, spec.classes, strict=True):
        states = words.state[first : first + c.max_count].tolist()
        counts = states.count(State.FREE), states.count(State.UNCOMMITTED)
        rows.append(ClassStatistics(c.slot_size, c.stride, c.max_count, *counts))
    return tuple(rows)


def _queue_statistics(
    spec: PoolSpec, view: ControlView, now_ns: int | None
) -> tuple[QueueStatistics, ...]:
    words, since = view.words(), view.slots["since_ns"].copy()
    now = time.monotonic_ns() if now_ns is None else now_ns
    rows = []
    for number, queue in enumerate(spec.queues, 1):
        state = view.queue_states[number - 1]
        tickets = since[words & 0xFF == number << 3 | State.QUEUED]
        oldest = max(0.0, (now - int(tickets.min())) / 1e9) if len(tickets) else None
        waiting = (len(bits_of(state[name])) for name in ("waiting", "waiting_space"))
        said = (queue.name, view.queue_size(number), queue.maxsize, bool(state["closed"]))
        rows.append(QueueStatistics(*said, oldest, *waiting))
    return tuple(rows)


def _member_statistics(view: ControlView, words: Columns) -> tuple[MemberStatistics, ...]:
    rows = []
    held = held_by(words)
    table = {name: view.members[name].tolist() for name in (*_COUNTERS, "waited_ns")}
    for index in view.present():
        if not index or view.standing(index) is not Standing.ACTIVE:
            continue
        counted: dict[str, Any] = {name: table[name][index] for name in _COUNTERS}
        waited = table["waited_ns"][index] / 1e9
        who = (index, view.member_name(index), view.pid(index), held[index])
        rows.append(MemberStatistics(*who, **counted, waited=waited))
    return tuple(rows)


def held_by(words: Columns) -> list[int]:
    """How many slots each member index leases or shares; owners are bytes, so there are 256."""
    owned = (words.state == State.LEASED) | (words.state == State.SHARED)
    held: list[int] = np.bincount(words.owner[owned], minlength=256).tolist()
    return held


def quarantined(mapping: Attachment) -> tuple[Quarantined, ...]:
    """The slots in quarantine: see `Pool.quarantined`."""
    spec, view = mapping.spec, mapping.view()
    rows = []
    for slot, word in enumerate(view.unpacked()):
        if word.state is not State.QUARANTINED or not 0 < word.queue <= len(spec.queues):
            continue
        ticket = Ticket.of(slot, word.generation)
        attempts = int(view.slots["delivery"][slot]) >> 32
        pid = int(view.slots["death"][slot]) >> 32
        queue, nbytes = spec.queues[word.queue - 1].name, spec.class_of(slot).slot_size
        rows.append(Quarantined(ticket, queue, attempts, pid, nbytes))
    return tuple(rows)
