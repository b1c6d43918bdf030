"""The body of a farm's worker process."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import current_process
from typing import Any

from shmpool import _core
from shmpool._envelope import DONE, Envelope, Head, Status
from shmpool._lease import Lease
from shmpool._relay import Outlet
from shmpool._remote import failure
from shmpool.errors import CoordinatorDiedError, PoolClosedError, QueueClosedError
from shmpool.pool import Pool

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """One function of a farm, and who runs it."""

    function: Function
    workers: int
    source: str  # queue it takes from
    target: str  # queue that what is done goes to
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    recycle_after: int = 0
    memory_limit: int = 0  # bytes, 0: none

    @property
    def name(self) -> str:
        """Of its workers."""
        return getattr(self.function, "__name__", "work").strip("<>_") or "work"


def work(pool: Pool, stage: Stage, envelope: Envelope, end: socket.socket, level: int) -> None:
    """Take jobs until there are no more, or nobody to do them for."""
    # Ctrl-C reaches the whole process group; the coordinator decides what it means. It was
    # blocked so far, which the job's own children would inherit.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    outlet = Outlet(end, current_process().name)
    outlet.install(level)
    # A thread that an earlier job left running is not to fail the one that runs now.
    _core.spare_main_thread()
    try:
        _begin(stage)
        outlet.send("begun", None)
        _Worker(pool, stage, envelope, outlet).run()
    except (PoolClosedError, QueueClosedError, CoordinatorDiedError):
        return
    except BaseException as error:
        outlet.send("failure", failure(error)[1][-30_000:])
        raise
    finally:
        outlet.flush()
        pool.close()


def _begin(stage: Stage) -> None:
    if stage.memory_limit:
        # Private memory only: the pool's own does not count, of which everybody maps all.
        resource.setrlimit(resource.RLIMIT_DATA, (stage.memory_limit, stage.memory_limit))
    if stage.initializer is not None:
        stage.initializer(*stage.initargs)


class _Worker:
    def __init__(self, pool: Pool, stage: Stage, envelope: Envelope, outlet: Outlet) -> None:
        self._pool = pool
        self._stage = stage
        self._function = stage.function
        self._envelope = envelope
        self._outlet = outlet
        self._pid = os.getpid()

    def run(self) -> None:
        """Until the queue is closed, or this process has done its share."""
        stage, pool = self._stage, self._pool
        target, done = pool.queue(stage.target), pool.queue("done")
        left = stage.recycle_after
        for lease in pool.queue(stage.source):
            try:
                status = self._do(lease)
                # Whatever of the frame the function kept is fenced off by this.
                (target if status is DONE else done).put(lease)
            except BaseException:
                # Not the function's: no memory for the outcome, say. Released, the job would be
                # lost; so we die over it, and the reaper gives it to another.
                if lease.live:
                    _core.forget(lease)
                raise
            left -= 1
            if left == 0:
                return

    def _do(self, lease: Lease) -> Status:
        """Do the job of a slot, in the slot."""
        envelope, outlet = self._envelope, self._outlet
        head = envelope.head(lease)
        outlet.number = head.number
        began = time.perf_counter()
        try:
            outcome = self._function(self._job(lease, head), envelope.array(lease))
            status = DONE
        except BaseException as error:  # noqa: BLE001 - a job's sys.exit() too goes to its owner
            outcome, status = failure(error), Status.FAILED
        seconds = head.seconds + time.perf_counter() - began
        status = envelope.fill(lease, head, status, outcome, seconds, self._pid)
        outlet.flush()
        return status

    def _job(self, lease: Lease, head: Head) -> Any:
        if not head.tickets:
            # Our own coordinator wrote it.
            return pickle.loads(self._envelope.packed_job(lease, head))  # noqa: S301
        tickets = self._envelope.tickets(lease, head)
        with ExitStack() as stack:
            parts = [stack.enter_context(self._pool.borrow(ticket)) for ticket in tickets]
            views = [stack.enter_context(memoryview(part)) for part in parts]
            return pickle.loads(b"".join(views)[: head.job_length])  # noqa: S301 - likewise
