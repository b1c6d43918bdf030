"""The body of a farm's worker process."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from multiprocessing import current_process
from typing import Any

from shmpool._envelope import Envelope, Status, failure
from shmpool._lease import Lease
from shmpool.errors import CoordinatorDiedError, PoolClosedError
from shmpool.pool import Pool

Function = Callable[[Any, Any], Any]


def work(pool: Pool, function: Function, envelope: Envelope) -> None:
    """Take jobs until there are no more, or nobody to do them for."""
    # Ctrl-C reaches the whole process group; the coordinator decides what it means. It was
    # blocked so far, which the job's own children would inherit.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        for lease in pool.queue("todo"):
            render(lease, function, envelope)
            # Whatever of the frame the function kept is fenced off.
            pool.queue("done").put(lease)
    except (PoolClosedError, CoordinatorDiedError):
        return
    finally:
        pool.close()


def render(lease: Lease, function: Function, envelope: Envelope) -> None:
    """Do the job of a slot, in the slot."""
    header = lease.header
    header.status = Status.PENDING
    header.attempts = lease.attempts + 1
    header.worker = current_process().name.encode()
    began = time.perf_counter()
    try:
        outcome = function(envelope.job(lease), lease.array())
        status = Status.DONE
    except Exception as error:  # noqa: BLE001 - all that a job may raise goes to its owner
        outcome, status = failure(error), Status.FAILED
    header.seconds = time.perf_counter() - began
    envelope.fill(lease, status, outcome)
