"""A process that takes frames from a queue, and what such processes make of them.

An output is anything with `write(number, pixels)`, `skip(number)` and `close()`: a film, still
pictures, an array file. `fill` feeds one from a queue, `Consumer` does so in a process of its
own, and workers.fan feeds several from the same slots.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol, Self

import numpy.typing as npt

from shmpool import Lease, Queue, QueueClosedError, RemoteTraceback

Pixels = npt.NDArray[Any]

# Characters of what is told of a failure: a pipe holds that, whether anybody reads or not.
_REASON, _TRACEBACK = 300, 700


class Output(Protocol):
    """What becomes of frames."""

    def write(self, number: int, pixels: Pixels) -> None:
        """Take frame `number`. May keep `pixels`: the array holds the slot."""

    def skip(self, number: int) -> None:
        """Do not wait for frame `number`: there will be none."""

    def close(self) -> None:
        """Complete what was written."""


Make = Callable[[], Output]  # travels to the process that writes: a class, or a partial of one


def fill(queue: Queue, output: Output) -> int:
    """Write the frames of a queue until it is closed, numbered as they come: how many."""
    number = 0
    for lease in queue:
        pixels = lease.array()
        lease.leave_to_views()  # the array holds the slot, for as long as somebody has it
        output.write(number, pixels)
        del pixels
        number += 1
    output.close()
    return number


def start(target: Callable[..., None], arguments: tuple[Any, ...], name: str) -> BaseProcess:
    """Start a process which Ctrl-C does not reach: it completes its output of what there is."""
    process = get_context("spawn").Process(target=target, args=arguments, name=name, daemon=True)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return process


class Consumer:
    """Fills an output in a process of its own; `write` hands it a slot.

    A context manager: leaving it waits until the output is complete. If the process fails or
    is killed, the slots that were on their way to it are freed and `write` raises
    QueueClosedError; `close` says why, with the end of the traceback as the cause.

    queue: nobody else may take from it. make: called there, for the output. name: of the
    process. product: what there is none of if it fails, for the message.
    """

    def __init__(
        self, queue: Queue, make: Make, *, name: str = "consume", product: str = "output"
    ) -> None:
        self._queue, self._product, self.name = queue, product, name
        self._failure: tuple[str, str] | None = None  # the reason, and the traceback's end
        self._told, theirs = Pipe(duplex=False)
        with theirs:
            self._process = start(_run, (queue, make, theirs), name)
        self._watcher = threading.Thread(target=self._watch, name=f"{name}-watch", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    def write(self, lease: Lease) -> None:
        """Send a frame to be written after those before it."""
        self._queue.put(lease)

    def _watch(self) -> None:
        wait([self._told, self._process.sentinel])
        with self._told, suppress(EOFError, OSError):  # killed, or done: nothing is told
            if self._told.poll():
                self._failure = self._told.recv()
        self._process.join()
        # Orderly or not, nobody takes frames any more.
        self._queue.close()
        for lease in self._queue:
            lease.release()

    def close(self) -> None:
        """Wait until every frame is written. Raises RuntimeError if that was not to be."""
        self._queue.close()
        self._watcher.join()
        if self._process.exitcode:
            reason, trace = self._failure or ("", "")
            raise RuntimeError(
                f"process {self.name!r} ended with exit code {self._process.exitcode}: "
                f"no {self._product}{reason and f', {reason}'}"
            ) from (RemoteTraceback(trace) if trace else None)

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
        except RuntimeError:
            # QueueClosedError only tells that the process is gone; this says why.
            if error is None or isinstance(error, QueueClosedError):
                raise


def _run(queue: Queue, make: Make, told: Connection) -> None:
    try:
        with queue.pool:
            fill(queue, make())
    except Exception as error:  # noqa: BLE001 - told there, by `close`
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        told.send((reason[:_REASON], traceback.format_exc()[-_TRACEBACK:]))
        sys.exit(1)
