"""Queues: FIFOs of slots on their way from one process to another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shmpool import _core, _wanting
from shmpool._header import ON_DEATH, QueueSpec
from shmpool._lease import Lease
from shmpool._waiting import check_timeout, wait_for
from shmpool.errors import ArgumentError, QueueClosedError, QueueEmpty, SizeError

if TYPE_CHECKING:
    from shmpool._attachment import Attachment
    from shmpool.pool import Pool


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How a queue behaves.

    `maxsize`: put waits while so many tickets wait; 0 for no limit (a queue then holds every
    slot there is). It is kept loosely: processes that put at one moment may pass it.
    `on_death`: what becomes of a slot whose holder took it from this queue and died:
    "requeue" puts it back, to be delivered again; "free" gives it up; "quarantine" holds it
    out, with its bytes, until somebody claims it: see `Pool.quarantined`.
    `max_attempts`: after so many deaths it is no longer requeued; 0 for no limit.
    `dead_letter`: the queue that then gets it; without one it is freed.
    """

    maxsize: int = 0
    on_death: str = "requeue"
    max_attempts: int = 0
    dead_letter: str | None = None

    def spec(self, name: str, names: list[str]) -> QueueSpec:
        """As it is stored. Raises SizeError or ArgumentError."""
        if self.on_death not in ON_DEATH:
            message = (
                f"on_death of queue {name!r} is {self.on_death!r}: one of {', '.join(ON_DEATH)}"
            )
            raise ArgumentError(message)
        if self.dead_letter is not None and self.dead_letter not in names:
            message = f"dead_letter of queue {name!r} is {self.dead_letter!r}: one of {names}"
            raise ArgumentError(message)
        if not (0 <= self.maxsize < 1 << 32 and 0 <= self.max_attempts < 1 << 32):
            message = f"queue {name!r}: maxsize and max_attempts are 0 for no limit, or positive"
            raise SizeError(message)
        letter = names.index(self.dead_letter) + 1 if self.dead_letter else 0
        return QueueSpec(
            name, ON_DEATH.index(self.on_death), self.max_attempts, letter, self.maxsize
        )


@_core.own_methods
class Queue(_core.QueueBase):
    """A FIFO of slots, for any number of producers and consumers in any processes.

    Iterating takes leases until the queue is closed and drained. A Queue can be pickled
    into a child's arguments; it brings its pool along.
    """

    def __init__(self, pool: Pool, name: str, number: int) -> None:
        self._pool = pool
        self.name = name
        self._bind(self._attachment(), number)

    def _attachment(self) -> Attachment:
        attachment: Attachment = self._pool._mapping
        return attachment

    @property
    def pool(self) -> Pool:
        """The pool that the queue belongs to."""
        return self._pool

    def put_nowait(self, lease: Lease) -> None:
        """As `put`, but raises QueueFull at once."""
        self.put(lease, timeout=0)

    def get_many(self, most: int, *, timeout: float | None = None) -> list[Lease]:
        """Up to `most` leases, oldest first; blocks, as `get` does, for the first only."""
        if most < 1:
            raise SizeError(f"get_many({most}): ask for one or more")
        leases = [self.get(timeout=timeout)]
        while len(leases) < most and (lease := self._try_get()) is not None:
            leases.append(lease)
        return leases

    def close(self) -> None:
        """Let nothing more in; what is there is still delivered. Wakes everybody. Idempotent."""
        self._attachment().queue_close(self._number)

    @property
    def closed(self) -> bool:
        """Whether somebody has closed the queue."""
        return self._attachment().queue_closed(self._number)

    def qsize(self) -> int:
        """How many tickets wait, as of a moment ago."""
        return self._attachment().queue_size(self._number)

    def empty(self) -> bool:
        """Whether no ticket waited a moment ago."""
        return self.qsize() == 0

    def __iter__(self) -> Iterator[Lease]:
        while True:
            try:
                yield self.get()
            except QueueClosedError:
                return

    def _get_slow(self, *, timeout: float | None = None) -> Lease:
        thing = (_core.FOR_TICKET, self._number)
        lease = wait_for(self._attachment(), (thing,), self._take, timeout)
        if lease is None and timeout == 0:
            return self._nothing()
        if lease is None:
            raise QueueEmpty(f"nothing came through queue {self.name!r} in {timeout:.3g} s")
        return lease

    def _get_nowait_slow(self) -> Lease:
        return self._get_slow(timeout=0)

    def _nothing(self) -> Lease:
        raise QueueEmpty(f"nothing waits in queue {self.name!r}")

    def _take_slow(self) -> Lease | None:
        # Closed after our look? Whatever was put before that is there now.
        lease = self._try_get()
        if lease is None and self._attachment().joined:
            raise QueueClosedError(f"queue {self.name!r} is closed, and drained")
        return lease

    def _put_slow(self, lease: Lease, /, *, timeout: float | None = None) -> None:
        def attempt() -> bool | None:
            if self.closed:
                raise QueueClosedError(f"queue {self.name!r} is closed: lease {lease} stays yours")
            return self._try_put(lease) or None

        def impatient(waited: float) -> None:
            _wanting.warn_of_wait_for_room(mapping.spec, mapping.view(), self._number, waited)

        check_timeout(timeout)
        self._check(lease)
        mapping, room = self._attachment(), (_core.FOR_SPACE, self._number)
        if not wait_for(mapping, (room,), attempt, timeout, impatient):
            waited = timeout or 0.0
            raise _wanting.queue_full(mapping.spec, mapping.view(), self._number, waited)

    def __reduce__(self) -> tuple[Any, ...]:
        return _requeue, (self._pool, self.name)

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<Queue {self.name!r} of pool {self._pool.name!r}, {self.qsize()} waiting{state}>"


def _requeue(pool: Pool, name: str) -> Queue:
    return pool.queue(name)
