"""The farm: a function, many jobs, worker processes; results are read where they were rendered."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from shmpool._crew import Crew
from shmpool._dispatch import Arrived, Dispatcher, Frame
from shmpool._envelope import DONE, ArraySpec, Envelope, Maker, Status
from shmpool._farm_checks import (
    check_count,
    check_workers,
    frame_bytes,
    job_room,
    own_queues,
    size_of,
    yields_errors,
)
from shmpool._farm_statistics import Activity, FarmStatistics
from shmpool._farm_worker import Function, Stage
from shmpool._futures import FutureDesk
from shmpool._interrupts import held_back
from shmpool._process import usable_cpus
from shmpool._queue import QueueOptions
from shmpool._remote import RemoteTraceback
from shmpool._result import Result, failed, unreadable
from shmpool._source import Drain, Source
from shmpool.errors import (
    ArgumentError,
    FarmError,
    LeasesAliveError,
    QueueClosedError,
    QueueEmpty,
)
from shmpool.pool import Pool

__all__ = ["Activity", "ArraySpec", "Farm", "FarmStatistics", "RemoteTraceback", "Result"]


class Farm:
    """Runs `function(job, frame)` in worker processes; `frame` is an array over a slot of a pool.

    function: importable by name, for spawn; what it returns comes back as `result.value`.
    frame: an ArraySpec, or a function of the job that returns one; then frame_size is room for
    the largest. workers: processes, by default one for each CPU. slots: frames that may be
    under way or kept at a time, by default two for each worker and two more. initializer,
    initargs: called in each worker before its first job. retries: how often a job is given to
    another worker after its own died. job_timeout: seconds after which a worker that still has
    a job is killed. memory_limit: bytes of private memory for each worker, beyond which a job
    gets MemoryError. recycle_after: jobs after which a worker is replaced. depth: jobs under
    way at a time, by default as many as there are slots. job_size: room for a pickled job in
    its slot, and for the value that function returns, at least 1 KiB; a bigger job takes slots of
    its own.
    on_error: "raise" what a job raised, or "yield" a result with `error`, and go on. views: as
    in Pool.create. queues: names of further queues of `farm.pool`, for what comes after.

    Workers start when the farm is entered or first used. Ctrl-C is left to this process.

    >>> from shmpool import ArraySpec, Farm
    >>> from workers.crasher import render  # fills the frame with the job's number
    >>> with Farm(render, ArraySpec((2, 2), "u1"), workers=1) as farm:
    ...     [int(result.array.sum()) for result in farm.map(range(3))]
    [0, 4, 8]
    """

    _maker = Maker()

    def __init__(
        self,
        function: Function,
        frame: Frame,
        *,
        workers: int | None = None,
        slots: int | None = None,
        frame_size: int | str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        retries: int = 2,
        job_timeout: float | None = None,
        memory_limit: int | str | None = None,
        recycle_after: int | None = None,
        depth: int | None = None,
        job_size: int | str = "16 KiB",
        on_error: str = "raise",
        views: str = "fence",
        queues: Iterable[str] = (),
        start_method: str = "spawn",
        name: str | None = None,
    ) -> None:
        check_count("retries", retries, 0)
        if job_timeout is not None and not job_timeout > 0:
            raise ArgumentError(f"job_timeout is {job_timeout!r}: give seconds > 0, or None")
        if depth is not None:
            check_count("depth", depth, 1)
        yields_errors(on_error)
        self._frame = frame
        self._frame_bytes = frame_bytes(frame, frame_size)
        spec = frame if isinstance(frame, ArraySpec) else None
        self._envelope = Envelope(spec, self._frame_bytes, job_room(job_size), self._maker)
        self._slots, self._depth, self._retries = slots, depth, retries
        self._job_timeout, self._on_error, self._views = job_timeout, on_error, views
        self._queues, self._start_method, self._name = own_queues(queues), start_method, name
        self._stages: list[Stage] = []
        self._jobs = self._failed = 0
        self._drain = Drain()
        self._starting = threading.RLock()
        self._closing = threading.RLock()
        self._parts: tuple[Pool, Crew, Dispatcher] | None = None
        self._desk: FutureDesk | None = None
        self._last: weakref.WeakSet[Result] = weakref.WeakSet()
        self._closed = False
        self.then(
            function, workers=workers, initializer=initializer, initargs=initargs,
            recycle_after=recycle_after or 0, memory_limit=memory_limit or 0,
        )  # fmt: skip

    def then(
        self,
        function: Function,
        *,
        workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        recycle_after: int = 0,
        memory_limit: int | str = 0,
    ) -> Self:
        """One more stage: `function(job, frame)` gets the frame as the stage before has left it.

        In place, by workers of its own. A value other than None replaces that of the stage
        before. Before the farm is entered or used. Returns the farm.
        """
        if self._parts is not None:
            raise ArgumentError("the farm has started: add stages before it is entered or used")
        count = usable_cpus() if workers is None else workers
        check_workers(count, self.workers)
        number = len(self._stages)
        source = "todo" if number == 0 else f"stage-{number + 1}"
        target = f"stage-{number + 2}"
        check_count("recycle_after", recycle_after, 0)
        limits = recycle_after, size_of("memory_limit", memory_limit)
        self._stages.append(Stage(function, count, source, target, initializer, initargs, *limits))
        return self

    # Starting.

    @property
    def workers(self) -> int:
        """How many processes work, in all stages."""
        return sum(stage.workers for stage in self._stages)

    @property
    def pool(self) -> Pool:
        """The pool of the frames; starts the farm."""
        return self._started()[0]

    def _started(self) -> tuple[Pool, Crew, Dispatcher]:
        with self._starting:
            if self._parts is None:
                if self._closed:
                    raise FarmError("the farm is closed")
                with held_back():  # half a crew would write its errors over Ctrl-C's
                    self._parts = self._start()
            return self._parts

    def _open_parts(self) -> tuple[Pool, Crew, Dispatcher]:
        """As `_started`, for new jobs."""
        if self._closed:
            raise FarmError("the farm is closed")
        return self._started()

    def _start(self) -> tuple[Pool, Crew, Dispatcher]:
        stages = _linked(self._stages)
        options = QueueOptions(max_attempts=self._retries + 1, dead_letter="done")
        queues = {stage.source: options for stage in stages} | {"done": QueueOptions()}
        queues |= dict.fromkeys(self._queues, QueueOptions())
        slots = 2 * self.workers + 2 if self._slots is None else self._slots
        size = self._envelope.slot_size
        pool = Pool.create(slots, size, queues=queues, views=self._views, name=self._name)
        try:
            crew = Crew(
                pool, stages, self._envelope, self._retries, self._job_timeout, self._start_method
            )
        except BaseException:
            pool.close()
            raise
        return pool, crew, Dispatcher(pool, self._envelope, self._frame, crew)

    # Working.

    def map(
        self, jobs: Iterable[Any], *, ordered: bool = True, on_error: str | None = None
    ) -> Generator[Result]:
        """Results in the order of the jobs, or as they come; each valid until the next.

        jobs may be endless: never more than `slots` are under way. Blocks for the next result.
        Raises what the function raised, with the worker's traceback as its cause;
        WorkerDiedError for a job that killed `retries + 1` workers, JobTimeoutError for one
        that took too long as often (with on_error="yield": results with these as `error`);
        FarmError when no worker can work, or when results that you keep leave no slot.
        """
        yields = yields_errors(self._on_error if on_error is None else on_error)
        pool, _, dispatcher = self._open_parts()
        slots = pool.slots
        # A loop inside this one, or a future, needs a slot too; where they are few, workers first.
        most = slots - 1 if slots > self.workers + 1 else slots
        depth = self._depth or slots
        plenty = max(depth // 4, self.workers + 1)  # one for each worker, and one that waits
        run = dispatcher.begin(thread=threading.get_ident())
        source = result = None
        try:
            source = Source(
                dispatcher, run, jobs,
                depth=depth, most=most, plenty=plenty, drain=self._drain,
            )  # fmt: skip
            for arrived in source.ordered() if ordered else source.unordered():
                result = self._open(arrived, yields=yields)
                del arrived
                yield result
                result._end()
        finally:
            if result is not None:
                self._last.add(result)  # of a loop that was left: good until the farm is closed
            if source is not None:
                source.forget()
            dispatcher.end(run)

    def submit(self, job: Any) -> Future[Result]:
        """A future of one job's Result; use that in a `with` block, or release() it.

        Does not block. From any thread. `concurrent.futures.wait` and `as_completed` work on it.
        """
        return self._futures().submit(job)

    def _futures(self) -> FutureDesk:
        dispatcher = self._started()[2]
        with self._starting:
            if self._closed:
                raise FarmError("the farm is closed")
            if self._desk is None:
                opened = partial(self._open, yields=False)
                self._desk = FutureDesk(dispatcher, opened, self._depth or self.pool.slots)
            return self._desk

    def drain(self) -> None:
        """Begin no more jobs: `map` ends when those under way have come back. Idempotent.

        May be called from a signal handler.
        """
        self._drain.begun = True

    def _open(self, arrived: Arrived, *, yields: bool) -> Result:
        lease, head, sent = arrived
        self._jobs += 1
        # Did its last worker die? Then the head is of an earlier stage, or of an earlier attempt.
        if lease.attempts:
            head = head._replace(status=Status.PENDING, attempts=lease.attempts)
        error: BaseException
        if head.status == DONE:
            try:
                value = self._envelope.outcome(lease, head) if head.outcome_length else None
                return Result(self, lease, head, sent.job, value, None)
            except Exception as why:  # noqa: BLE001 - of this job alone
                error = unreadable(lease, head, sent, why)
        else:
            crew = self._started()[1]
            error = failed(self._envelope, lease, head, sent, crew.death_of, self._job_timeout)
        self._failed += 1
        if not yields:
            raise error
        return Result(self, None, head, sent.job, None, error)

    def _worker_name(self, pid: int) -> str:
        return self._started()[1].names.get(pid, str(pid))

    def statistics(self) -> FarmStatistics:
        """A frozen snapshot."""
        pool, crew, _ = self._started()
        seen = pool.statistics()
        me = next((m for m in seen.members if m.pid == os.getpid()), None)
        frame = self._envelope.at if self._envelope.frame is None else self._frame_bytes
        return FarmStatistics(
            jobs=self._jobs,
            failed=self._failed,
            frame_bytes=(self._jobs - self._failed) * frame,
            waits=me.waits if me else 0,
            waited=me.waited if me else 0.0,
            requeued=seen.requeued,
            replaced=crew.replaced,
            recycled=crew.recycled,
            overdue=crew.overdue,
        )

    def activity(self) -> tuple[Activity, ...]:
        """What each worker does. From any thread."""
        _, crew, dispatcher = self._started()
        jobs, holding = dispatcher.jobs_in_slots(), crew.holding()
        return tuple(
            Activity(crew.names.get(pid, str(pid)), pid, jobs.get(holding.get(pid, -1)))
            for pid in crew.pids()
        )

    # Ending.

    def close(self, *, cancel: bool = True) -> None:
        """Let workers finish the jobs that they have begun, and close the pool. Idempotent.

        Workers that are stopped (SIGSTOP) are continued.

        cancel: futures of jobs that nobody has begun are cancelled; else they are done first.
        """
        with self._starting:
            self._closed = True
            parts = self._parts
        if parts is None:
            return
        with self._closing:  # a second one waits for the first
            if not parts[0].closed:
                self._close(*parts[:2], cancel=cancel)

    def _close(self, pool: Pool, crew: Crew, *, cancel: bool) -> None:
        if self._desk is not None:
            self._desk.close(cancel=cancel)
        for number, stage in enumerate(_linked(self._stages)):
            _discard(pool, stage.source)
            pool.queue(stage.source).close()
            crew.dismiss_stage(number)
        crew.dismiss()
        _discard(pool, "done")
        for result in list(self._last):
            result._end()
        pool.close()

    def terminate(self) -> None:
        """Kill all workers now, whatever they are doing; what waits for them gets FarmError.

        `close()` still has to be called.
        """
        if self._parts is not None:
            self._parts[1].terminate()

    def __enter__(self) -> Self:
        try:
            self._open_parts()
        except BaseException as error:  # Ctrl-C when all has started: no __exit__ will be called
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.terminate()
        try:
            self.close()
        except LeasesAliveError:
            # The error on its way is the one to be seen; its traceback may hold frames.
            if error is None:
                raise
        except BaseException:  # Ctrl-C, while the last jobs are done
            self.terminate()
            with suppress(LeasesAliveError):
                self.close()
            raise


def _linked(stages: list[Stage]) -> list[Stage]:
    """The last one's target is where results are taken."""
    return [*stages[:-1], replace(stages[-1], target="done")]


def _discard(pool: Pool, queue: str) -> None:
    with suppress(QueueEmpty, QueueClosedError):
        while True:
            pool.queue(queue).get_nowait().release()
