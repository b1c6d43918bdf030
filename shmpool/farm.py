"""The farm: a function, many jobs, worker processes; results are read where they were rendered."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from shmpool import _survey
from shmpool._crew import Crew
from shmpool._envelope import HEADER, ArraySpec, Envelope, RemoteTraceback, Status
from shmpool._farm_worker import Function
from shmpool._lease import Lease
from shmpool._process import usable_cpus
from shmpool._queue import QueueOptions
from shmpool._right import Array
from shmpool._sizes import parse_size
from shmpool.errors import (
    FarmError,
    LeasesAliveError,
    PoolExhaustedError,
    QueueClosedError,
    QueueEmpty,
    SizeError,
    StaleTicketError,
    WorkerDiedError,
)
from shmpool.pool import Pool

__all__ = ["ArraySpec", "Farm", "FarmStatistics", "RemoteTraceback", "Result"]


@dataclass(frozen=True, slots=True)
class FarmStatistics:
    """What a farm has done so far."""

    jobs: int
    frame_bytes: int  # that came from workers without a copy
    waits: int  # of the coordinator, for a slot or a result
    waited: float  # seconds
    requeued: int  # jobs given to another worker because theirs died
    replaced: int  # workers


class Result:
    """What became of one job: its frame, where the worker rendered it.

    Valid until the next result is taken; `keep()` hands its lease over to you.
    """

    def __init__(self, lease: Lease, job: Any, value: Any) -> None:
        header = lease.header
        self._lease: Lease | None = lease
        self.job = job
        self.value = value
        self.index = int(header.index)
        self.seconds = float(header.seconds)
        self.worker = bytes(header.worker).decode()
        self.attempts = int(header.attempts)

    @property
    def array(self) -> Array:
        """The frame. Raises StaleTicketError when the result is over."""
        return self._held().array()

    def keep(self) -> Lease:
        """Take the lease of the frame: yours to read, put on, and release."""
        lease = self._held()
        self._lease = None
        return lease

    def _held(self) -> Lease:
        if self._lease is None:
            message = (
                f"the result of job {self.index} is over: it was kept, or the next one was taken; "
                f"use it before that, or keep() its lease"
            )
            raise StaleTicketError(message, index=self.index)
        return self._lease

    def _end(self) -> None:
        # Not release(): arrays that the loop still names hold their slot until they go.
        lease, self._lease = self._lease, None
        if lease is not None and lease.live:
            lease.leave_to_views()

    def __del__(self) -> None:
        """Of a loop that was left early: its last result ends when nobody looks any more."""
        if hasattr(self, "_lease"):
            self._end()


class Farm:
    """Runs `function(job, frame)` in worker processes; `frame` is an array over a slot of a pool.

    function: importable by name, for spawn. frame: an ArraySpec. workers: processes, by
    default one for each CPU. slots: frames that may be under way at a time, by default two
    for each worker and two more. retries: how often a job is given to another worker after
    its own died. job_size: room for a pickled job, and for the value that function returns.
    queues: names of further queues of `farm.pool`, for what comes after.

    >>> from shmpool import ArraySpec, Farm
    >>> from workers.crasher import render  # fills the frame with the job's number
    >>> with Farm(render, ArraySpec((2, 2), "u1"), workers=1) as farm:
    ...     [int(result.array.sum()) for result in farm.map(range(3))]
    [0, 4, 8]
    """

    def __init__(
        self,
        function: Function,
        frame: ArraySpec,
        *,
        workers: int | None = None,
        slots: int | None = None,
        retries: int = 2,
        job_size: int | str = "16 KiB",
        queues: Iterable[str] = (),
        start_method: str = "spawn",
        name: str | None = None,
    ) -> None:
        count = usable_cpus() if workers is None else workers
        if count < 1 or retries < 0:
            raise SizeError(f"workers={count} and retries={retries}: at least 1 and 0")
        self.workers = count
        self._envelope = Envelope(frame, parse_size(job_size, "job_size"))
        todo = QueueOptions(max_attempts=retries + 1, dead_letter="done")
        self.pool = Pool.create(
            2 * count + 2 if slots is None else slots,
            self._envelope.slot_size,
            queues={"todo": todo, "done": QueueOptions()} | dict.fromkeys(queues, QueueOptions()),
            header=HEADER,
            name=name,
        )
        self._todo, self._done = self.pool.queue("todo"), self.pool.queue("done")
        self._run = self._jobs = 0
        self._outstanding = 0  # jobs sent and not come back, of loops left early too
        self._crew = Crew(self.pool, function, self._envelope, count, retries, start_method)

    def map(self, jobs: Iterable[Any]) -> Generator[Result]:
        """Results in the order of the jobs, each valid until the next; jobs may be endless.

        Never more than `slots` jobs are under way. Blocks for the next result. Raises what
        the function raised, with the worker's traceback as its cause; WorkerDiedError for a
        job that killed `retries + 1` workers; FarmError when no worker can work, or when
        results that you keep leave no slot.
        """
        self._run += 1
        work = _Run(self, self._run, jobs)
        try:
            for lease in work.leases():
                result = self._open(lease)
                del lease
                yield result
                result._end()
        finally:
            work.forget()
            self._take_back()

    def _open(self, lease: Lease) -> Result:
        try:
            return self._result(lease)
        except BaseException:
            if lease.live:
                lease.leave_to_views()  # the traceback may hold some
            raise

    def _result(self, lease: Lease) -> Result:
        job = self._envelope.job(lease)
        self._crew.progress()
        self._jobs += 1
        status = Status(int(lease.header.status))
        if status is Status.DONE:
            return Result(lease, job, self._envelope.outcome(lease))
        which, attempts = f"job {lease.header.index} ({job!r:.80})", lease.attempts
        outcome = self._envelope.outcome(lease) if status is Status.FAILED else None
        lease.release()
        if outcome is None:
            message = f"{which} killed {attempts} workers"
            raise WorkerDiedError(message, job=job, attempts=attempts)
        error, text = outcome
        error.add_note(f"in {which}")
        raise error from RemoteTraceback(text)

    def _take_back(self) -> None:
        """Jobs that nobody has begun are not to be done."""
        with suppress(QueueEmpty, QueueClosedError):
            while True:
                self._todo.get_nowait().release()
                self._outstanding -= 1

    def statistics(self) -> FarmStatistics:
        """A frozen snapshot."""
        pool = self.pool.statistics()
        me = next((m for m in pool.members if m.pid == os.getpid()), None)
        return FarmStatistics(
            jobs=self._jobs,
            frame_bytes=self._jobs * self._envelope.frame.nbytes,
            waits=me.waits if me else 0,
            waited=me.waited if me else 0.0,
            requeued=pool.requeued,
            replaced=self._crew.replaced,
        )

    def close(self) -> None:
        """Let workers finish the jobs that they have begun, and close the pool. Idempotent."""
        if not self.pool.closed:
            self._take_back()
            self._todo.close()
            self._crew.dismiss()
            self._discard_results()
        self.pool.close()

    def _discard_results(self) -> None:
        with suppress(QueueEmpty, QueueClosedError):
            while True:
                self._done.get_nowait().release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._crew.terminate()
        try:
            self.close()
        except LeasesAliveError:
            # The error on its way is the one to be seen; its traceback may hold frames.
            if error is None:
                raise


class _Run:
    """One call of map: hands out jobs in order, and brings their slots back in order.

    Slots are leased in job order, together with their jobs. Were they leased by the workers,
    later jobs could take every slot and wait, in order, for one that has none.
    """

    def __init__(self, farm: Farm, number: int, jobs: Iterable[Any]) -> None:
        self._farm = farm
        self._number = number
        self._jobs = enumerate(jobs)
        self._next_job = self._read_job()
        self._arrived: dict[int, Lease] = {}
        self._under_way = 0

    def leases(self) -> Iterator[Lease]:
        """The slots of all jobs, done or failed, in job order."""
        wanted = 0
        while True:
            self._hand_out()
            if wanted in self._arrived:
                yield self._arrived.pop(wanted)
                wanted += 1
            elif self._next_job is None and not self._under_way:
                return
            elif self._farm._outstanding:
                self._receive()
            else:
                self._hand_out_to(self._wait_for_slot())

    def _read_job(self) -> tuple[int, bytes] | None:
        # Packed before there is a slot for it: an error then holds none.
        numbered = next(self._jobs, None)
        return None if numbered is None else (numbered[0], self._farm._envelope.pack(*numbered))

    def forget(self) -> None:
        """Free what has arrived and nobody will look at."""
        while self._arrived:
            self._arrived.popitem()[1].release()

    def _hand_out(self) -> None:
        """Send jobs as long as there are free slots."""
        while (
            self._next_job is not None
            and (lease := self._farm.pool._mapping.try_acquire(0)) is not None
        ):
            self._hand_out_to(lease)

    def _hand_out_to(self, lease: Lease) -> None:
        with lease:  # of a farm that was closed meanwhile it goes back
            if self._next_job is None:
                return
            self._farm._envelope.address(lease, self._number, *self._next_job)
            self._farm._todo.put(lease)
        self._under_way += 1
        self._farm._outstanding += 1
        self._next_job = self._read_job()

    def _receive(self) -> None:
        try:
            lease = self._farm._done.get()
        except QueueClosedError:
            raise self._farm._crew.failure() from None
        self._farm._outstanding -= 1
        if lease.header.run != self._number:
            lease.release()  # of a loop that was left before its end
            return
        self._under_way -= 1
        self._arrived[int(lease.header.index)] = lease

    def _wait_for_slot(self) -> Lease:
        """No job is under way and no slot is free: others have them, or the caller keeps them."""
        pool = self._farm.pool
        while True:
            try:
                return pool.acquire(timeout=1)
            except PoolExhaustedError as error:
                mine = _survey.in_hand(pool._mapping)
                if len(mine) == pool.slots:
                    message = f"results that you keep hold all {len(mine)} slots: release some"
                    raise FarmError(message, slots=mine) from error
