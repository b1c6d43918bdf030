"""The pool: slots of shared memory, leased, handed on by queues, given back."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from shmpool import _audit, _core, _create, _exits, _leaks, _peek, _plan, _story, _touches
from shmpool._acquiring import acquire, fitting
from shmpool._attachment import Attachment
from shmpool._borrow import Borrow
from shmpool._header import PoolSpec
from shmpool._interrupts import held_back
from shmpool._layout import State, Status
from shmpool._lease import Lease
from shmpool._queue import Queue
from shmpool._reaper import Reaper
from shmpool._right import Array
from shmpool._segment import out_of_memory
from shmpool._sizes import show_size
from shmpool._story import Transition
from shmpool._ticket import Ticket
from shmpool.errors import ArgumentError, LeasesAliveError, SizeError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from shmpool._statistics import PoolStatistics, Quarantined

SPIN = 50e-6  # seconds: about what a sleep and a wake-up cost


@_core.own_methods
class Pool(_core.PoolBase):
    """A pool of slots in shared memory, made by `create` or joined by `attach`.

    A context manager: leaving it closes the pool. A Pool pickled into the arguments of a
    child process attaches there; a forked child joins at its first use. Threads may share it.
    One that is open when the process exits is closed then, after what was registered with atexit
    since it was made.

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
        self._finish = _exits.when_gone(self, _close, mapping, reaper, estate)

    @classmethod
    def create(
        cls,
        slots: int | None = None,
        slot_size: int | str | None = None,
        *,
        max_slots: int | None = None,
        classes: _plan.SizeClasses | None = None,
        queues: _plan.QueueNames = (),
        name: str | None = None,
        header: DTypeLike | None = None,
        members: int = _core.MAX_MEMBERS,
        reuse: str = "warm",
        views: str = "fence",
        spin: float = SPIN,
        orphan_grace: float = 10.0,
        debug: bool | None = None,
        poison: bool = False,
        leaks: str | None = None,
        lease_warning: float | None = None,
        member_name: str | None = None,
    ) -> Self:
        """Make a pool and become its coordinator: its reaper, and who unlinks it.

        slots: 1 to 65,535, from 0 if there may be more later. slot_size: bytes, or a text such
        as "6 MiB"; slots of a page or more take whole pages. max_slots: how many there may be;
        those beyond `slots` get memory when all others are held. classes: instead of these,
        slots of several sizes, up to 8: (slot_size, slots) or (slot_size, slots, max_slots) for
        each. queues: names, or names with QueueOptions, at most 31.
        name: for `attach`; a random one by default. header: a structured dtype, a record of
        which travels with each slot. members: how many processes may attach, at most 255.
        reuse: "warm" gives the lowest free slot, still in the cache; "cold" goes round.
        views: what becomes of arrays and memoryviews that are alive when their lease ends.
        "fence": they are cut off from the slot, and touching one raises UseAfterReleaseError;
        "raise": the lease does not end, ViewsAliveError; "copy": they keep a private copy;
        "ignore": nothing, and they show the next holder's bytes. With "fence" and "copy" every
        slot takes whole pages, however small it is.
        spin: seconds to poll before sleeping, where there is more than one CPU; 0 never.
        orphan_grace: seconds for which a detached ticket outlives its sender.
        debug: keep the last 16 transitions of each slot, with file and line, so that errors tell
        its story; by default if the environment has SHMPOOL_DEBUG=1. poison: fill free slots
        and the bytes behind every slot, and check them, to find writes that bypass everything;
        implies debug. leaks: which leases are watched, for those that nobody ends: "off",
        "sampled" (1 in 128; the default in debug) or "all"; SHMPOOL_LEAKS in the environment
        overrules it for its process. lease_warning: seconds after which
        a lease that is still held is reported.

        The memory of `slots` is there when this returns: they fail no more for want of it. Does
        not block. Raises SizeError, ArgumentError, OutOfSharedMemoryError, PoolExistsError,
        OrphanedPoolError.
        """
        size_classes = _plan.plan_classes(slots, slot_size, max_slots, classes)
        diagnostics = _plan.plan_diagnostics(
            debug=debug, poison=poison, leaks=leaks, lease_warning=lease_warning
        )
        spec = _plan.plan(
            size_classes, queues, name, header, members, reuse, views, orphan_grace, diagnostics
        )
        _touches.watch()
        with held_back():  # half a pool would have nobody to unlink it
            return cls(*_found(spec, spin, member_name or _own_name()))

    @classmethod
    def attach(cls, name: str, *, spin: float = SPIN, member_name: str | None = None) -> Self:
        """Join a pool by name, from any process of this user in its pid namespace.

        Does not block. Raises PoolNotFoundError, PoolNotReadyError, NotAPoolError,
        VersionError, ForeignSegmentError, TruncatedSegmentError, CorruptSegmentError,
        PidNamespaceError, TooManyMembersError, PoolClosedError, CoordinatorDiedError.
        """
        _touches.watch()
        return cls(_create.join(name, spin, member_name or _own_name()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (type(self), self.name, self._mapping.spin_ns / 1e9)

    @property
    def name(self) -> str:
        """Name by which other processes attach."""
        return self._spec.name

    @property
    def slots(self) -> int:
        """How many slots there are, with those that have no memory yet."""
        return self._spec.slots

    @property
    def slot_size(self) -> int:
        """Bytes of a slot; of the largest, where there are several sizes."""
        return self._spec.classes[-1].slot_size

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

    def _acquire_slow(self, nbytes: int | None = None, /, *, timeout: float | None = None) -> Lease:
        return acquire(self._mapping, nbytes, timeout)

    def _claim_slow(self, ticket: int, /) -> Lease:
        ticket = Ticket(ticket)
        self._mapping.check()
        lease: Lease = self._mapping.claim(ticket)
        return lease

    def _borrow_slow(self, ticket: int, /) -> Borrow:
        ticket = Ticket(ticket)
        self._mapping.check()
        borrow: Borrow = self._mapping.borrow(ticket)
        return borrow

    def _acquire_nowait_slow(self, nbytes: int | None = None, /) -> Lease:
        return self._acquire_slow(nbytes, timeout=0)

    def peek(self, ticket: Ticket | int) -> Array:
        """Copy what a ticket stands for, without a right to it and without keeping anybody from it.

        A new array as the sender described it, the whole slot in bytes if nobody did. Of tickets
        that wait in a queue or are detached, shared or in quarantine: in these nobody writes.
        The slot is looked at before and after the copy. Does not block.

        Raises StaleTicketError if the ticket is over, or was by the end of the copy; a
        CorruptSegmentError or ShapeError for a description that is none.

        >>> import shmpool
        >>> with shmpool.Pool.create(slots=1, slot_size=4096) as pool:
        ...     lease = pool.acquire()
        ...     lease.array(3, "u1")[:] = 7
        ...     ticket = lease.detach()
        ...     pool.peek(ticket), pool.claim(ticket).release()
        (array([7, 7, 7], dtype=uint8), None)
        """
        ticket = Ticket(ticket)
        self._mapping.check()
        return _peek.peek(self._mapping, ticket)

    def quarantined(self) -> tuple[Quarantined, ...]:
        """The slots held out by on_death="quarantine", as of a moment ago.

        `peek(ticket)` looks at one; `claim(ticket)` turns it into a lease, to be released or
        sent on.
        """
        from shmpool import _survey  # noqa: PLC0415 - few ask: see `statistics`

        return _survey.quarantined(self._mapping)

    def history(self, slot: int) -> tuple[Transition, ...]:
        """The last 16 transitions of a slot, oldest first, in a pool made with debug=True.

        None in other pools. Does not block, and gives the state of a moment ago. Raises
        SizeError if there is no such slot.

        >>> import shmpool
        >>> with shmpool.Pool.create(slots=1, slot_size=64, debug=True) as pool:
        ...     pool.acquire().release()
        ...     [(t.what, t.generation) for t in pool.history(0)]
        [('leased', 1), ('released', 1)]
        """
        if not 0 <= slot < self.slots:
            raise SizeError(f"slot is {slot!r}: the pool has slots 0 to {self.slots - 1}")
        return tuple(_story.transitions(self._spec, self._mapping.view(), slot))

    def grow(self, slots: int = 1, nbytes: int | None = None) -> int:
        """Fetch memory for up to `slots` more slots of `nbytes` bytes now: for how many.

        Of the smallest class that fits, as `acquire` would one by one. Blocks for as long as
        the system takes. Raises SizeError, and OutOfSharedMemoryError with `grown` slots done.
        """
        mapping = self._mapping
        mapping.check()
        number = fitting(self._spec, nbytes)
        if slots < 0:
            raise SizeError(f"slots is {slots!r}: how many more, 0 or a positive number")
        for grown in range(slots):
            if not mapping.grow(number):
                if mapping.starved():
                    raise out_of_memory(mapping.starved(), "one more slot", grown=grown)
                return grown
        return slots

    def trim(self) -> int:
        """Give the memory of all free slots back to the system: how many bytes.

        The next acquire fetches it again, and may then fail for want of it. Slots smaller than
        a page keep theirs: they share it. Blocks for as long as the system takes.
        """
        mapping = self._mapping
        mapping.check()
        trimmed = 0
        for number, size_class in enumerate(self._spec.classes):
            below = size_class.max_count
            while (below := mapping.trim(number, below)) >= 0:
                trimmed += size_class.stride
        return trimmed

    def audit(self) -> dict[str, int]:
        """Check every invariant of the pool against its memory: slots by state.

        Exact while no other process moves. Raises AuditError naming slot, word and rule.
        """
        counts = _audit.audit(self._spec, self._mapping.view(), self._mapping.shown)
        return {state.name.lower(): counts[state] for state in State}

    def statistics(self) -> PoolStatistics:
        """A frozen snapshot of slots, queues and members, as of a moment ago."""
        from shmpool import _survey  # noqa: PLC0415 - five dataclasses: their making takes 4 ms

        return _survey.pool_statistics(self._mapping.spec, self._mapping.view())

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

        Raises LeasesAliveError, when all that is done, if this process still holds leases or
        borrows.
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
            slots = self._mapping.in_hand()
            them = "1 lease or borrow" if leases == 1 else f"{leases} leases or borrows"
            kept = ", those of arrays included" if len(slots) > leases else ""
            message = (
                f"pool {self.name!r} was closed with {them} in hand (slots {slots}{kept}): it is "
                f"closed, and they stay usable, but release them first, or use `with`. "
                f"{_leaks.in_hand(self._spec, self._mapping.view(), slots)}"
            )
            raise LeasesAliveError(message, slots=slots)

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
        sizes = " and ".join(
            f"{c.max_count} slots of {show_size(c.slot_size)}" for c in self._spec.classes
        )
        state = "closed" if self.closed else sizes
        return f"<Pool {self.name!r}, {state}>"


def _found(
    spec: PoolSpec, spin: float, member_name: str
) -> tuple[Attachment, Reaper, _create.Estate]:
    _exits.prepare()
    mapping, estate = _create.make(spec, spin, member_name)
    _leaks.note_founding(spec.name)
    try:
        reaper = Reaper(mapping)
        _create.open_up(mapping)
        reaper.start()
    except BaseException:
        _close(mapping, None, estate)
        raise
    return mapping, reaper, estate


def _attach(kind: type[Pool], name: str, spin: float) -> Pool:
    return kind.attach(name, spin=spin)


def _own_name() -> str:
    name = _exits.process_name()
    return name if name != "MainProcess" else Path(sys.argv[0]).name or "python"


def _close(mapping: Attachment, reaper: Reaper | None, estate: _create.Estate | None) -> None:
    """Do everything that closing does, without the Pool: it may be gone already."""
    with held_back():  # half of it would leave names behind
        if reaper is not None:
            mapping.status = Status.CLOSED
            mapping.ring_all()
            reaper.stop()
        mapping.leave()
        if estate is not None:
            estate.unlink()
            _leaks.founded.pop(mapping.spec.name, None)
