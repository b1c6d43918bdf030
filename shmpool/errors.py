"""Every error that shmpool raises, named by whose fault it is.

ShmpoolError
├── ArgumentError (ValueError)             you asked for something that cannot be
│   ├── SizeError                          slots, sizes or counts out of range
│   ├── ShapeError                         an array that does not fit its slot, or is not described
│   ├── SlotOverflowError                  more bytes written than the slot has
│   ├── ForeignLeaseError                  a lease of one pool given to another
│   └── SharedLeaseError                   a shared slot is read-only, and cannot be sent on
├── StaleTicketError                       a right that is over
│   ├── AlreadyEndedError                  you released, put or detached it before
│   ├── AlreadyClaimedError                somebody has claimed the ticket before
│   └── NotOwnerError                      the lease is another process's (the parent's, after fork)
├── UseAfterReleaseError                   a view was touched after its lease was over
├── ViewsAliveError (BufferError)          arrays or memoryviews would outlive the lease
├── LeasesAliveError                       a pool closed with leases in hand
├── PoolExhaustedError (TimeoutError)      every slot is held
├── QueueEmpty (queue.Empty)               nothing came in time
├── QueueFull (queue.Full)                 no room in time
├── QueueClosedError                       closed: one of yours closed the queue
├── PoolClosedError                        closed: one of yours closed the pool
├── CoordinatorDiedError                   broken: the coordinator is gone without closing
├── TooManyMembersError                    the member table is full
├── UnsupportedPlatformError               the system lacks what the pool stands on
├── AuditError                             an invariant of the pool does not hold
├── WriteAfterReleaseError                 poison: somebody wrote to a slot while it was free
├── SlotOverrunError                       poison: somebody wrote beyond a slot
├── FarmError                              a job of a farm failed
│   ├── JobError                           what its function did cannot be sent home
│   ├── JobTimeoutError (TimeoutError)     it took too long in every worker that tried it
│   └── WorkerDiedError                    it killed every worker that tried it
└── SegmentError (OSError)                 the shared memory itself
    ├── OutOfSharedMemoryError             /dev/shm is too small or full
    ├── PoolExistsError (FileExistsError)  the name is taken, by a living pool
    ├── OrphanedPoolError (FileExistsError) the name is taken, by a dead one
    ├── PoolNotFoundError (FileNotFoundError)
    ├── ForeignSegmentError (PermissionError) it belongs to somebody else
    ├── NotAPoolError                      it is no control block of ours
    ├── PoolNotReadyError                  it is still being made, or its maker died over it
    ├── VersionError                       another version of shmpool made it
    ├── TruncatedSegmentError              it is shorter than it says
    │   └── SegmentTruncatedError          it was cut while it was in use
    ├── CorruptSegmentError                it contradicts itself
    └── PidNamespaceError                  its coordinator cannot see this process die

Warnings: each is a UserWarning.
LeakWarning                                somebody forgot to end a right, or is slow to
ViewsCopiedWarning                         views="copy": bytes were copied at the end of a lease
"""

from __future__ import annotations

import queue
from typing import Any

__all__ = [
    "AlreadyClaimedError",
    "AlreadyEndedError",
    "ArgumentError",
    "AuditError",
    "CoordinatorDiedError",
    "CorruptSegmentError",
    "FarmError",
    "ForeignLeaseError",
    "ForeignSegmentError",
    "JobError",
    "JobTimeoutError",
    "LeakWarning",
    "LeasesAliveError",
    "NotAPoolError",
    "NotOwnerError",
    "OrphanedPoolError",
    "OutOfSharedMemoryError",
    "PidNamespaceError",
    "PoolClosedError",
    "PoolExhaustedError",
    "PoolExistsError",
    "PoolNotFoundError",
    "PoolNotReadyError",
    "QueueClosedError",
    "QueueEmpty",
    "QueueFull",
    "SegmentError",
    "SegmentTruncatedError",
    "ShapeError",
    "SharedLeaseError",
    "ShmpoolError",
    "SizeError",
    "SlotOverflowError",
    "SlotOverrunError",
    "StaleTicketError",
    "TooManyMembersError",
    "TruncatedSegmentError",
    "UnsupportedPlatformError",
    "UseAfterReleaseError",
    "VersionError",
    "ViewsAliveError",
    "ViewsCopiedWarning",
    "WorkerDiedError",
    "WriteAfterReleaseError",
]


class ShmpoolError(Exception):
    """Root of the tree. `facts` holds the numbers of the message, for programs."""

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args[0] if self.args else "", self.facts)


def _rebuild(kind: type[ShmpoolError], message: str, facts: dict[str, Any]) -> ShmpoolError:
    return kind(message, **facts)


class LeakWarning(UserWarning):
    """A lease or borrow was collected that nobody ended, or is held for too long. Not an error."""


class ArgumentError(ShmpoolError, ValueError):
    """You asked for something that cannot be."""


class SizeError(ArgumentError):
    """A number of slots, bytes, queues or members is out of range."""


class ShapeError(ArgumentError):
    """An array does not fit its slot, or nobody described the one that is asked for."""


class SlotOverflowError(ArgumentError):
    """More bytes were written than the slot has: `needed`, `slot_size`.

    `holders`: who has the larger slots, if there are any and none came free in time.
    """


class ForeignLeaseError(ArgumentError):
    """A lease of one pool was given to another."""


class SharedLeaseError(ArgumentError):
    """A shared slot is read-only, for its owner too, and can be neither put nor detached."""


class StaleTicketError(ShmpoolError):
    """A right to a slot is over.

    `slot`, `generation`, and what the slot is now: `current_generation`, `state`, `holder`, `pid`.
    `history`: its last transitions, in a pool made with debug=True, where the message tells them.
    """


class AlreadyEndedError(StaleTicketError):
    """The lease was released, put or detached before, here."""


class AlreadyClaimedError(StaleTicketError):
    """The ticket has been claimed (a ticket is claimed once), or nobody did in its time."""


class NotOwnerError(StaleTicketError):
    """The lease belongs to another process: after a fork, to the parent."""


class UseAfterReleaseError(ShmpoolError):
    """An array or memoryview was touched after its lease was over. The slot was not.

    `pool`, `slot`, `generation`, `offset` in bytes, `write` (None: unknown), `thread` (native id).
    Raised in the main thread, a moment after the touch: as KeyboardInterrupt is.
    """


class ViewsAliveError(ShmpoolError, BufferError):
    """Arrays or memoryviews of the lease are alive; the lease goes on: `views`."""


class LeasesAliveError(ShmpoolError):
    """The pool was closed with leases in hand; it is closed, and they stay readable: `slots`."""


class PoolExhaustedError(ShmpoolError, TimeoutError):
    """Every slot is held and none came back in time: `pool`, `slots`, `waited` in seconds.

    `holders`: a Holder for each member that has some, longest first.
    """


class QueueEmpty(ShmpoolError, queue.Empty):  # noqa: N818 - as in the standard library
    """No ticket came in time."""


class QueueFull(ShmpoolError, queue.Full):  # noqa: N818 - as in the standard library
    """A queue with maxsize had no room in time: `pool`, `queue`, `waited` in seconds.

    `length`, `maxsize`, `oldest` in seconds: what waits there. `holders`: who put it,
    most first; `consumers`: who has slots that came from the queue, longest first; each a
    Holder. `waiting`: names of the members that wait for a ticket of it.
    """


class QueueClosedError(ShmpoolError):
    """The queue is closed: nothing can be put, and it is drained."""


class PoolClosedError(ShmpoolError):
    """The pool was closed in good order, here or by its coordinator."""


class CoordinatorDiedError(ShmpoolError):
    """The coordinator is gone without closing the pool; leases in hand stay readable."""


class TooManyMembersError(ShmpoolError):
    """As many processes are attached as the pool was made for."""


class UnsupportedPlatformError(ShmpoolError):
    """The operating system lacks what the pool stands on."""


class AuditError(ShmpoolError):
    """An invariant does not hold: `slot`, `word`, `rule`."""


class WriteAfterReleaseError(ShmpoolError):
    """Somebody wrote to a slot while it was free: `slot`, `offset`, `damaged`, `found`.

    Raised by the acquire that finds it, and not where it was done. The slot is whole again.
    """


class SlotOverrunError(ShmpoolError):
    """Somebody wrote beyond a slot: `slot`, `behind`, `offset`, `damaged`, `found`.

    Raised when the lease ends. It goes on, and what was overwritten is whole again.
    """


class FarmError(ShmpoolError):
    """A job of a farm failed."""


class JobError(FarmError):
    """The job's function kept its frame, or what it returned or raised cannot travel."""


class JobTimeoutError(FarmError, TimeoutError):
    """The job took too long in every worker that tried it: `job`, `attempts`."""


class WorkerDiedError(FarmError):
    """The job killed every worker that tried it: `job`, `attempts`."""


class SegmentError(ShmpoolError, OSError):
    """Something is wrong with the shared memory itself."""


class OutOfSharedMemoryError(SegmentError):
    """The shared memory is too small or too full: `needed`, `free`, `total`."""


class PoolExistsError(SegmentError, FileExistsError):
    """The name is taken by a living pool."""


class OrphanedPoolError(SegmentError, FileExistsError):
    """The name is taken by a pool whose coordinator is dead."""


class PoolNotFoundError(SegmentError, FileNotFoundError):
    """No pool of that name is here."""


class ForeignSegmentError(SegmentError, PermissionError):
    """The segment belongs to another user, or others may write to it."""


class NotAPoolError(SegmentError):
    """The segment is no control block of shmpool."""


class PoolNotReadyError(SegmentError):
    """The pool is still being made, or its maker died over it."""


class VersionError(SegmentError):
    """Another version of shmpool made the pool."""


class TruncatedSegmentError(SegmentError):
    """The segment is shorter than its own header says."""


class SegmentTruncatedError(TruncatedSegmentError):
    """A segment was cut while it was in use: what was behind the cut is gone, and reads zeros."""


class CorruptSegmentError(SegmentError):
    """The segment contradicts itself."""


class PidNamespaceError(SegmentError):
    """The coordinator lives in another pid namespace and could not see this process die."""


class ViewsCopiedWarning(UserWarning):
    """Bytes were copied since views of them were alive at the end of their lease."""
