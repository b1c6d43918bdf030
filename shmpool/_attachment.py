"""One process's attachment to a pool: its membership, its doorbell, and who still lives."""

from __future__ import annotations

import os
import select
import sys
import threading
import warnings
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from shmpool import _core, _explain, _leaks, _poison
from shmpool._doorbell import bell_name, find_bell
from shmpool._header import PoolSpec
from shmpool._layout import ControlView, State, Status
from shmpool._process import Identity, open_pidfd, usable_cpus
from shmpool._segment import check_file, opened
from shmpool.errors import (
    CoordinatorDiedError,
    CorruptSegmentError,
    ForeignLeaseError,
    PoolClosedError,
    SegmentTruncatedError,
    SharedLeaseError,
    SlotOverrunError,
    StaleTicketError,
    ViewsAliveError,
    ViewsCopiedWarning,
    WriteAfterReleaseError,
)

if TYPE_CHECKING:
    from shmpool._lease import Lease

_PACKAGE = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - as in co_filename
CHECK_EVERY = 0.25  # seconds between two looks at the coordinator on the fast path

_all: weakref.WeakSet[Attachment] = weakref.WeakSet()
attached = 0  # how many this process has made, for shmpool.testing


class Attachment(_core.Mapping):
    """The mapping of a pool in this process, and what the core asks of Python.

    Nothing here refers to arrays over the mapping: they keep it alive, and it would
    keep them.
    """

    spec: PoolSpec
    record: np.dtype[Any] | None  # of the spec: each access to a header field asks for it
    name: str
    member_name: str
    doorbell: _core.Doorbell
    is_coordinator: bool
    _pidfd: int | None
    _watch: select.poll | None  # readable when the coordinator is dead
    _died_early: bool  # before we could watch it
    _joining: threading.Lock
    _watching: threading.Lock

    def check(self) -> None:
        """Look around: closed? forked? is the coordinator alive? Then go on for a while.

        Raises PoolClosedError or CoordinatorDiedError.
        """
        _core.raise_touches()
        if self.closed:
            raise PoolClosedError(f"pool {self.spec.name!r} was closed in this process")
        if self.truncated:
            raise SegmentTruncatedError(
                f"a segment of pool {self.spec.name!r} was cut while it was in use: close the pool"
            )
        if not self.joined:
            self._rejoin()
        if self.status == Status.CLOSED:
            raise PoolClosedError(f"pool {self.spec.name!r} was closed by its coordinator")
        if self.status == Status.ORPHANED or self._coordinator_is_dead():
            raise self._orphaned()
        self.check_again(CHECK_EVERY)

    def _coordinator_is_dead(self) -> bool:
        if self.is_coordinator:
            return False
        # Under a lock: a poll object serves one thread at a time, and another may be closing it.
        with self._watching:
            return self._died_early or (self._watch is not None and bool(self._watch.poll(0)))

    def _orphaned(self) -> CoordinatorDiedError:
        if self.status != Status.ORPHANED:
            self.status = Status.ORPHANED
            self.ring_all()
        message = (
            f"the coordinator of pool {self.spec.name!r} (pid {self.spec.coordinator.pid}) died "
            f"without closing it: leases in hand stay readable, nothing new can be had"
        )
        return CoordinatorDiedError(message, pid=self.spec.coordinator.pid)

    def enter(self, member_name: str) -> None:
        """Join the pool: take a member index, watch the coordinator. Raises TooManyMembersError."""
        self.member_name = member_name
        me = Identity.mine()
        self.is_coordinator = me == self.spec.coordinator
        self._watch_coordinator()
        member = self.join(member_name, me.start_time, me.pidfd_inode)
        if not member:
            self._close_pidfd()
            raise _explain.too_many_members(self.spec, self.view())
        self.doorbell = _core.Doorbell(bell_name(self.spec.name, member))
        self.check_again(CHECK_EVERY)

    def _watch_coordinator(self) -> None:
        self._pidfd = None if self.is_coordinator else open_pidfd(self.spec.coordinator)
        self._died_early = self._pidfd is None
        if self._pidfd is not None:
            self._watch = select.poll()
            self._watch.register(self._pidfd, select.POLLIN)

    def _rejoin(self) -> None:
        """In a forked child: become a member of its own."""
        with self._joining:
            if not self.joined:
                self._close_pidfd()
                self.enter(f"{self.member_name}+{os.getpid()}")

    def leave(self) -> None:
        """Take no new rights, and leave when the last one ends."""
        self.close()
        if self.joined or not self.live:
            self._close_pidfd()

    def _close_pidfd(self) -> None:
        with self._watching:
            pidfd, self._pidfd, self._watch = self._pidfd, None, None
            if pidfd is not None:
                os.close(pidfd)

    def view(self) -> ControlView:
        """The tables of the control block. Hold it no longer than a call."""
        return ControlView(self.control(), self.spec.counts)

    def in_hand(self) -> list[int]:
        """Slots to which this process holds a right: its leases and borrows."""
        view, me = self.view(), self.me
        owned = (State.LEASED, State.SHARED)
        return [
            slot
            for slot, word in enumerate(view.unpacked())
            if (word.owner == me and word.state in owned) or me in view.readers_of(slot)
        ]

    def _after_fork(self) -> None:
        self._joining = threading.Lock()
        self._watching = threading.Lock()

    # What the core calls.

    def _ring(self, member: int) -> None:
        """Ring a member whose bell was not rung from here before."""
        bell = find_bell(self.spec.name, member)
        if bell is None:
            return
        self.bells.extend([None] * (member + 1 - len(self.bells)))
        self.bells[member] = bell.ring
        bell.ring()

    def _stale(
        self, action: str, slot: int, generation: int, ending: int, queue: int
    ) -> StaleTicketError:
        return _explain.stale(self.spec, self.view(), action, (slot, generation), (ending, queue))

    def _leaked(
        self, kind: str, slot: int, generation: int, file: str, line: int, seconds: float
    ) -> None:
        _leaks.warn_of_leak(kind, self.spec.name, slot, generation, file, line, seconds)

    def _written_while_free(
        self, slot: int, generation: int, first: int, count: int, found: bytes
    ) -> WriteAfterReleaseError:
        return _poison.written_while_free(self.spec, slot, generation, (first, count, found))

    def _overrun(
        self, action: str, slot: int, generation: int, behind: int,
        first: int, count: int, found: bytes,
    ) -> SlotOverrunError:  # fmt: skip
        damage = first, count, found
        return _poison.overrun(self.spec, action, (slot, generation), behind, damage)

    def _corrupt(self, what: str) -> CorruptSegmentError:
        message = f"the control block of pool {self.spec.name!r} is corrupted: {what}"
        return CorruptSegmentError(message, name=self.spec.name)

    def _foreign(self, lease: Lease) -> ForeignLeaseError:
        message = (
            f"lease {lease} belongs to pool {lease._mapping.spec.name!r}, not to "
            f"{self.spec.name!r} (or another attachment of it): copy the bytes over"
        )
        return ForeignLeaseError(message)

    def _read_only(self, right: _core.RightBase, action: str) -> SharedLeaseError:
        kind = _kind(right)
        message = (
            f"cannot {action} {kind} {right}: slot {right.slot} is shared, others may be reading "
            f"it; write before share(), hand on its ticket, and copy() what you want to change"
        )
        return SharedLeaseError(message, slot=right.slot)

    def _views(
        self, lease: _core.RightBase, action: str, views: int, error: int
    ) -> ViewsAliveError:
        kind = _kind(lease)
        harm = "still be writable" if action == "share" else "see the next holder's bytes"
        things = "1 array or memoryview" if views == 1 else f"{views} arrays or memoryviews"
        message = (
            f"cannot {action} {kind} {lease}: {things} of slot {lease.slot} would {harm}; delete "
            f"them first (del, or leave their scope), or copy what you keep. The {kind} goes on"
        )
        if error:
            message += f". No fence could be put up: {os.strerror(error)} (vm.max_map_count?)"
        return ViewsAliveError(message, slot=lease.slot, views=views)

    def _copied(self, right: _core.RightBase, action: str) -> None:
        message = (
            f"{right.nbytes} bytes of slot {right.slot} were copied for the views that were alive "
            f"at the {action} of {_kind(right)} {right}"
        )
        warnings.warn(message, ViewsCopiedWarning, stacklevel=_depth_of_user())


def _depth_of_user() -> int:
    """Frames from the caller of this up to the innermost that is not ours, as stacklevel counts."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        depth, frame = depth + 1, frame.f_back
    return depth


def _kind(right: _core.RightBase) -> str:
    return "lease" if isinstance(right, _core.LeaseBase) else "borrow"


def attach(spec: PoolSpec, control: int, spin: float) -> Attachment:
    """Map a pool whose header has been checked; not a member yet.

    Raises the errors of `_segment.opened` and `_segment.check_file` for its slabs, and
    ArgumentError for an SHMPOOL_LEAKS that is no level.
    """
    every = _leaks.track_every(spec)
    with ExitStack() as stack:
        slabs = []
        for number, size_class in enumerate(spec.classes):
            name = slab_name(spec.name, number)
            fd = stack.enter_context(opened(name))
            check_file(name, fd, size_class.slab_size)
            slabs.append(fd)
        mapping = Attachment(
            spec.name, control, tuple(slabs), spec.counts, spec.queue_counts, spec.reuse, spec.views
        )
    mapping.spec = spec
    mapping.record = spec.record
    mapping.is_coordinator = False
    mapping._pidfd = mapping._watch = None
    mapping._joining = threading.Lock()
    mapping._watching = threading.Lock()
    mapping._died_early = False
    mapping.track_every = every
    if spec.diagnostics.poison:
        mapping.watch_poison()
    # On a single CPU nobody can make progress while we spin.
    mapping.spin_ns = round(spin * 1e9) if usable_cpus() > 1 else 0
    global attached  # noqa: PLW0603 - one for the process
    attached += 1
    _all.add(mapping)
    return mapping


def attachments() -> list[Attachment]:
    """All of this process."""
    return list(_all)


def slab_name(pool: str, number: int) -> str:
    """Name of the segment that holds the slots of a class."""
    return f"{pool}.slab{number}"


def _after_fork_in_child() -> None:
    for mapping in attachments():
        mapping._after_fork()


# A site is a line of whoever uses us.
_core.set_package(_PACKAGE)
os.register_at_fork(after_in_child=_after_fork_in_child)
