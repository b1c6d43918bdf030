"""What became of a job."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from shmpool._crew import Death
from shmpool._envelope import Envelope, Head, Status
from shmpool._lease import Lease
from shmpool._remote import RemoteTraceback
from shmpool.errors import JobError, JobTimeoutError, StaleTicketError, WorkerDiedError

if TYPE_CHECKING:
    import numpy as np

    from shmpool._dispatch import Sent
    from shmpool.farm import Farm


class Result:
    """What became of one job: its frame, where the worker rendered it.

    Of `map`, valid until the next result is taken; of a future, until it is released, its
    `with` block is left, or it is collected. `keep()` hands its lease over to you.
    """

    __slots__ = ("__weakref__", "_farm", "_head", "_lease", "error", "job", "value")

    def __init__(
        self, farm: Farm, lease: Lease | None, head: Head, job: Any,
        value: Any, error: BaseException | None,
    ) -> None:  # fmt: skip
        self._farm = farm
        self._lease = lease
        self._head = head
        self.job = job
        self.value = value
        self.error = error  # with on_error="yield": why there is no frame

    @property
    def index(self) -> int:
        """Number of the job, in the order they were given."""
        return self._head.number

    @property
    def seconds(self) -> float:
        """How long its functions took, of all stages."""
        return self._head.seconds

    @property
    def attempts(self) -> int:
        """How many workers had it, including the one that did it."""
        return self._head.attempts

    @property
    def worker(self) -> str:
        """Name of the worker that did it, in the last stage."""
        return self._farm._worker_name(self._head.worker)

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The frame, writable. Raises StaleTicketError when the result is over, and its error."""
        return self._farm._envelope.array(self._lease or self._held())

    def keep(self) -> Lease:
        """Take the lease of the frame: yours to read, put on, and release."""
        lease = self._held()
        self._lease = None
        return lease

    def release(self) -> None:
        """Give the slot back. Idempotent; arrays of it are then cut off."""
        lease, self._lease = self._lease, None
        if lease is not None and lease.live:
            lease.release()

    def _held(self) -> Lease:
        if self.error is not None:
            raise self.error
        if self._lease is None:
            message = (
                f"the result of job {self.index} is over: it was kept, released, or the next one "
                f"was taken; use it before that, or keep() its lease"
            )
            raise StaleTicketError(message, index=self.index)
        return self._lease

    def _end(self) -> None:
        """The next one is taken: arrays that the loop still names hold their slot until they go."""
        lease, self._lease = self._lease, None
        if lease is not None and lease.live:
            lease.leave_to_views()

    def __del__(self) -> None:
        """Of a loop that was left early, or a future's: its slot goes back when nobody looks."""
        if getattr(self, "_lease", None) is not None:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = f"failed: {self.error!r}" if self.error else f"by {self.worker}"
        return f"<Result of job {self.index}, {state}>"


def unreadable(lease: Lease, head: Head, sent: Sent, why: Exception) -> JobError:
    """Why the value of a job that is done is none here; ends its lease."""
    lease.release()
    which = f"job {head.number} ({sent.job!r:.80})"
    error = JobError(
        f"{which} is done, but its value cannot be unpickled here: {type(why).__name__}: {why}"
    )
    error.__cause__ = why
    return error


def failed(
    envelope: Envelope, lease: Lease, head: Head, sent: Sent,
    death_of: Callable[[int], Death | None], timeout: float | None,
) -> BaseException:  # fmt: skip
    """Why a job has no frame; ends its lease. `death_of` tells how a worker died, by its pid."""
    which = f"job {head.number} ({sent.job!r:.80})"
    if head.status == Status.FAILED:
        error, text = envelope.outcome(lease, head)
        lease.release()
        error.add_note(f"in {which}")
        error.__cause__ = RemoteTraceback(text)
        raised: BaseException = error
        return raised
    attempts, last = lease.attempts, lease._death >> 32
    lease.release()
    death = death_of(last)
    facts = {"job": sent.job, "attempts": attempts, "pid": last}
    if death is not None and death.overdue:
        message = (
            f"{which} took longer than {timeout:g} s in each of {attempts} workers "
            f"(the last: {death.worker}, pid {last})"
        )
        return JobTimeoutError(message, **facts)
    times = "1 worker" if attempts == 1 else f"{attempts} workers"
    how = f": the last, {death}" if death else ""
    return WorkerDiedError(f"{which} killed {times}{how}", **facts)
