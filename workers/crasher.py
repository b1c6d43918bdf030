"""Processes that misbehave on request: they hold, wait or die, at a gate that says when.

For tests, and for looking at what a pool does about it: `python -m workers.crasher segfault`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from shmpool import ArraySpec, Farm, Pool, Queue

Array: TypeAlias = np.ndarray[Any, Any]


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
    """A farm function: fill the frame with a number, or do what the job says, see JOBS.

    Of a tuple (job, file) only until the file exists, which it then creates: a fault that passes.
    """
    match job:
        case int():
            frame[...] = job % 256
        case (str(), Path()):
            name, mark = job
            if not mark.exists():
                mark.touch()
                return render(name, frame)
        case str():
            return JOBS[job](frame)
    return job


def _raise(_frame: Array) -> Any:
    raise LookupError("as told")


def _die(_frame: Array) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(_frame: Array) -> Any:
    os._exit(0)


def _segfault(_frame: Array) -> Any:
    ctypes.string_at(0)


def _abort(_frame: Array) -> Any:
    os.abort()


def _hang(_frame: Array) -> Any:
    """Wait for nothing, in the system."""
    while True:
        signal.pause()


def _busy(_frame: Array) -> Any:
    """Compute for ever, deaf to all that can be ignored."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGSEGV, signal.SIGBUS})
    while True:
        pass


def _leak(_frame: Array) -> Any:
    """Keep ever more private memory: MemoryError, in a farm with a memory_limit."""
    _kept.clear()
    try:
        while True:
            _kept.append(bytearray(_MEGABYTE))
    except MemoryError:
        _kept.clear()
        raise


def _gorge(_frame: Array) -> Any:
    """Keep one more megabyte each time: what recycle_after is for."""
    _kept.append(bytearray(_MEGABYTE))
    return len(_kept)


def _keep(frame: Array) -> Any:
    _kept.append(frame[1:])
    return "keep"


def _late(frame: Array) -> Any:
    """Write into what an earlier job kept, which is no longer this worker's."""
    for view in _kept:
        view[...] = 255
    frame[...] = 1
    return "late"


def _overrun(frame: Array) -> Any:
    """Write past the frame, as C code does that is wrong by a line: over the farm's own."""
    line = 64
    frame[...] = 2
    end = frame.ctypes.data + -(-frame.nbytes // line) * line
    ctypes.memset(end, 0xFF, line)


def _stray(frame: Array) -> Any:
    """Remember the address of the frame, and write there in a later job: no fence can tell."""
    if _stray_addresses:
        ctypes.memset(_stray_addresses.pop(), 0xEE, 1)
    _stray_addresses.append(frame.ctypes.data)
    frame[...] = 3


def _unpicklable(_frame: Array) -> Any:
    return lambda: None


JOBS: dict[str, Callable[[Array], Any]] = {
    "raise": _raise,  # LookupError
    "die": _die,  # SIGKILL
    "exit": _exit,  # without a word
    "segfault": _segfault,
    "abort": _abort,
    "hang": _hang,
    "busy": _busy,
    "leak": _leak,
    "gorge": _gorge,
    "keep": _keep,  # a view of the frame
    "late": _late,  # write into what "keep" kept
    "overrun": _overrun,
    "stray": _stray,
    "unpicklable": _unpicklable,  # a value that cannot travel
}
_MEGABYTE = 1 << 20
_kept: list[Any] = []
_stray_addresses: list[int] = []


def main() -> int:
    """Run a job that misbehaves between two that do not, and print what becomes of them."""
    parser = argparse.ArgumentParser(prog="python -m workers.crasher", description=main.__doc__)
    parser.add_argument("job", choices=JOBS, nargs="+")
    parser.add_argument("--job-timeout", type=float, default=2.0, metavar="S")
    parser.add_argument("--memory-limit", default="512 MiB", metavar="SIZE")
    options = parser.parse_args()
    with Farm(
        render,
        ArraySpec((4, 5), np.uint8),
        workers=1,
        retries=1,
        job_timeout=options.job_timeout,
        memory_limit=options.memory_limit,
        on_error="yield",
    ) as farm:
        for result in farm.map([1, *options.job, 2]):
            error = result.error
            told = f"{type(error).__name__}: {error}" if error else result.array[0, 0]
            print(f"{result.job!r}: {told}")
        done = farm.statistics()
    print(f"{done.failed} of {done.jobs} failed, {done.replaced} workers replaced")
    return 0


if __name__ == "__main__":
    sys.exit(main())
