"""The pool: slots of shared memory, leased, handed on by queues, given back."""

from __future__ import annotations

import os
import sys
from multiprocessing import current_process, util
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import DTypeLike

from shmpool import _audit, _core, _create, _explain
from shmpool._attachment import Attachment
from shmpool._header import PoolSpec
from shmpool._layout import ControlView, Standing, State, Status, Word
from shmpool._lease import Lease
from shmpool._queue import Queue
from shmpool._reaper import Reaper
from shmpool._sizes import show_size
from shmpool._statistics import MemberStatistics, PoolStatistics
from shmpool._ticket import Ticket
from shmpool._waiting import wait_for
from shmpool.errors import ArgumentError, LeasesAliveError, SizeError

SPIN = 50e-6  # seconds: about what a sleep and a wake-up cost


class Pool(_core.PoolBase):
    """A pool of equal slots in shared memory, made by `create` or joined by `attach`.

    A context manager: leaving it closes the pool. A Pool pickled into the arguments of a
    child process attaches there; a forked child joins at its first use. Threads may share it.

    >>> import shmpool
    >>> with shmpool.Pool.create(slots=4, slot_size="1 MiB", queues=("todo",)) as pool:
    ...     with pool.acquire() as lease:
    ...         lease.array((512, 512), "f4")[:] = 1
    ...         pool.queue("todo").put(lease)
    ...     with pool.queue("todo").get() as lease:
    ...         float(lease.array().sum())
    262144.0
    """

    def __init__(
        self,
        mapping: Attachment,
        reaper: Reaper | None = None,
        estate: _create.Estate | None = None,
    ) -> None:
        """Use `create` or `attach`."""
        self._bind(mapping)
        self._spec: PoolSpec = mapping.spec
        self._queues: dict[str, Queue] = {}
        self._estate = estate
        self._pid = os.getpid()
        # Runs when the pool is collected, and at the exit of this process (not of a forked child).
        self._finish = util.Finalize(self, _close, args=(mapping, reaper, estate), exitpriority=10)

    @classmethod
    def create(
        cls,
        slots: int,
        slot_size: int | str,
        *,
        queues: _create.QueueNames = (),
        name: str | None = None,
        header: DTypeLike | None = None,
        members: int = _core.MAX_MEMBERS,
        reuse: str = "warm",
        views: str = "raise",
        spin: float = SPIN,
        orphan_grace: float = 10.0,
        member_name: str | None = None,
    ) -> Self:
        """Make a pool and become its coordinator: its reaper, and who unlinks it.

        slots: 1 to 65,535. slot_size: bytes, or a text such as "6 MiB"; slots of a page or
        more take whole pages. queues: names, or names with QueueOptions, at most 31.
        name: for `attach`; a random one by default. header: a structured dtype, a record of
        which travels with each slot. members: how many processes may attach, at most 255.
        reuse: "warm" gives the lowest free slot, still in the cache; "cold" goes round.
        views: "raise" refuses to end a lease under living arrays; "ignore" does not look.
        spin: seconds to poll before sleeping, where there is more than one CPU; 0 never.
        orphan_grace: seconds for which a detached ticket outlives its sender.

        All memory is there when this returns: nothing fails later for want of it. Does not
        block. Raises SizeError, ArgumentError, OutOfSharedMemoryError, PoolExistsError,
        OrphanedPoolError.
        """
        spec = _create.plan(
            slots, slot_size, queues, name, header, members, reuse, views, orphan_grace
        )
        mapping, estate = _create.make(spec, spin, member_name or _own_name())
        try:
            reaper = Reaper(mapping)
            _create.open_up(mapping)
            reaper.start()
        except BaseException:
            mapping.leave()
            estate.unlink()
            raise
        return cls(mapping, reaper, estate)

    @classmethod
    def attach(cls, name: str, *, spin: float = SPIN, member_name: str | None = None) -> Self:
        """Join a pool by name, from any process of this user in its pid namespace.

        Does not block. Raises PoolNotFoundError, PoolNotReadyError, NotAPoolError,
        VersionError, ForeignSegmentError, TruncatedSegmentError, CorruptSegmentError,
        PidNamespaceError, TooManyMembersError, PoolClosedError, CoordinatorDiedError.
        """
        return cls(_create.join(name, spin, member_name or _own_name()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (type(self), self.name, self._mapping.spin_ns / 1e9)

    @property
    def name(self) -> str:
        """Name by which other processes attach."""
        return self._spec.name

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return self._spec.slots

    @property
    def slot_size(self) -> int:
        """Bytes of a slot."""
        return self._spec.classes[0].slot_size

    @property
    def closed(self) -> bool:
        """Whether the pool was closed, here or by its coordinator."""
        return bool(self._mapping.closed or self._mapping.status != Status.OPEN)

    def queue(self, name: str) -> Queue:
        """One of the queues named at create. Raises ArgumentError for any other."""
        if name not in self._queues:
            names = [queue.name for queue in self._spec.queues]
            if name not in names:
                message = f"pool {self.name!r} has no queue {name!r}: it was made with {names}"
                raise ArgumentError(message)
            self._queues[name] = Queue(self, name, names.index(name) + 1)
        return self._queues[name]

    def claim(self, ticket: Ticket | int) -> Lease:
        """Turn a detached ticket, come by any channel, into a lease: once. Does not block.

        Raises AlreadyClaimedError or StaleTicketError, PoolClosedError, CoordinatorDiedError.
        """
        ticket = Ticket(ticket)
        self._mapping.check()
        lease: Lease = self._mapping.claim(ticket)
        return lease

    def _acquire_slow(self, nbytes: int | None = None, /, *, timeout: float | None = None) -> Lease:
        if nbytes is not None and not 0 <= nbytes <= self.slot_size:
            message = f"{nbytes} bytes do not fit into a slot of {self.slot_size}"
            raise SizeError(message, needed=nbytes, slot_size=self.slot_size)
        mapping = self._mapping
        lease = wait_for(mapping, (_core.FOR_SLOT, 0), lambda: self._try_acquire(0), timeout)
        if lease is None:
            mapping.count_exhausted()
            raise _explain.exhausted(self._spec, mapping.view(), timeout or 0.0)
        return lease

    def _acquire_nowait_slow(self, nbytes: int | None = None, /) -> Lease:
        return self._acquire_slow(nbytes, timeout=0)

    def audit(self) -> dict[str, int]:
        """Check every invariant of the pool against its memory: slots by state.

        Exact while no other process moves. Raises AuditError naming slot, word and rule.
        """
        counts = _audit.audit(self._spec, self._mapping.view())
        return {state.name.lower(): counts[state] for state in State}

    def statistics(self) -> PoolStatistics:
        """A frozen snapshot of slots, queues and members, as of a moment ago."""
        view = self._mapping.view()
        words = [Word.unpack(packed) for packed in view.words().tolist()]
        states = {s.name.lower(): sum(w.state is s for w in words) for s in State}
        totals = view.status.dtype.names or ()
        kept = [name for name in totals if name not in ("status", "joins", "doorbells")]
        return PoolStatistics(
            name=self.name,
            slots=self.slots,
            **states,
            slot_size=self.slot_size,
            stride=self._spec.classes[0].stride,
            payload_bytes=self._spec.payload_size,
            control_bytes=self._spec.control_size,
            queues={q.name: self.queue(q.name).qsize() for q in self._spec.queues},
            **{name: int(view.status[name]) for name in kept},
            members=_member_statistics(view, words),
        )

    def unlink(self) -> None:
        """Remove the pool's names from /dev/shm now: nobody can attach any more, all else goes on.

        Raises ArgumentError anywhere but in the coordinator. Idempotent.
        """
        if self._estate is None or not self._mapping.is_coordinator:
            raise ArgumentError(f"only the coordinator of pool {self.name!r} unlinks it")
        self._estate.unlink()

    def close(self) -> None:
        """Leave the pool; in the coordinator, close it for everybody and unlink it. Idempotent.

        Wakes every waiter: waits and acquires raise PoolClosedError. Leases in hand stay
        usable until they are released. Blocks for a round of the reaper, some 20 ms at most.

        Raises LeasesAliveError, when all that is done, if this process still holds leases.
        Arrays whose lease was collected are no leases: they stay readable.
        """
        if self._mapping.closed:
            return
        if os.getpid() == self._pid:
            self._finish()
        else:
            self._mapping.leave()  # a forked child: only its own membership ends
        # They refer to us: without them the memory goes with the last reference, not some day.
        self._queues.clear()
        leases = self._mapping.leases
        if leases:
            slots = self._slots_in_hand()
            message = (
                f"pool {self.name!r} was closed with {leases} leases in hand (slots {slots}): it "
                f"is closed, and they stay usable, but release them first, or use `with`"
            )
            raise LeasesAliveError(message, slots=slots)

    def _slots_in_hand(self) -> list[int]:
        me = self._mapping.me
        words = [Word.unpack(packed) for packed in self._mapping.view().words().tolist()]
        return [slot for slot, w in enumerate(words) if w.state is State.LEASED and w.owner == me]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except LeasesAliveError:
            # An error on its way holds leases in its traceback, and is the one to be seen.
            if error is None:
                raise

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.slots} slots of {show_size(self.slot_size)}"
        return f"<Pool {self.name!r}, {state}>"


def _attach(kind: type[Pool], name: str, spin: float) -> Pool:
    return kind.attach(name, spin=spin)


def _own_name() -> str:
    name = current_process().name
    return name if name != "MainProcess" else Path(sys.argv[0]).name or "python"


def _member_statistics(view: ControlView, words: list[Word]) -> tuple[MemberStatistics, ...]:
    counters = ("acquired", "released", "put", "got", "detached", "claimed", "stale", "rung",
                "waits", "exhausted", "overflows")  # fmt: skip
    rows = []
    for index in range(1, len(view.members)):
        if view.standing(index) is not Standing.ACTIVE:
            continue
        record = view.members[index]
        held = sum(w.owner == index and w.state in (State.LEASED, State.SHARED) for w in words)
        counted: dict[str, Any] = {name: int(record[name]) for name in counters}
        waited = int(record["waited_ns"]) / 1e9
        who = (index, view.member_name(index), view.pid(index), held)
        rows.append(MemberStatistics(*who, **counted, waited=waited))
    return tuple(rows)


def _close(mapping: Attachment, reaper: Reaper | None, estate: _create.Estate | None) -> None:
    """Do everything that closing does, without the Pool: it may be gone already."""
    if reaper is not None and mapping.status == Status.OPEN:
        mapping.status = Status.CLOSED
        mapping.ring_all()
        reaper.stop()
    mapping.leave()
    if estate is not None:
        estate.unlink()
