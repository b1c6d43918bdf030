"""Processes that misbehave on request: they hold, wait or die, at a gate that says when.

For tests, and for looking at what a pool does about it.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np

from shmpool import Pool, Queue


def hold(pool: Pool, gate: Event) -> None:
    """Lease a slot, open the gate, and sit on it until killed."""
    lease = pool.acquire()
    lease.array((3,), np.uint8)[:] = 7
    gate.set()
    signal.pause()


def take(queue: Queue, gate: Event) -> None:
    """Take a ticket from a queue, open the gate, and sit on it until killed."""
    lease = queue.get()
    gate.set()
    signal.pause()
    lease.release()


def wait(queue: Queue, gate: Event) -> None:
    """Open the gate and wait for a ticket, which is then released."""
    gate.set()
    queue.get().release()


def send(queue: Queue, gate: Event) -> None:
    """Put a slot into a queue, open the gate, and wait to be killed."""
    lease = queue.pool.acquire()
    lease.array((3,), np.uint8)[:] = 7
    queue.put(lease)
    gate.set()
    signal.pause()


def echo(source: Queue, target: Queue) -> None:
    """Pass slots on until the source is closed."""
    for lease in source:
        target.put(lease)


def render(job: Any, frame: np.ndarray[Any, Any]) -> Any:
    """A farm function: fill the frame with a number, or do what the job says.

    "raise", "die" (SIGKILL), "keep" (a view of the frame), "unpicklable", "exit".
    """
    match job:
        case int():
            frame[...] = job % 256
        case "raise":
            raise LookupError("as told")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(0)
        case "keep":
            _kept.append(frame[1:])
        case "unpicklable":
            return lambda: None
    return job


_kept: list[Any] = []
