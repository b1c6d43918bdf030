"""How soon the slot of a process that is killed is there for whoever waits."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

from benchmarks.measure import Series
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

_NEWCOMER = 0.002  # seconds: the coordinator looks for new members every 20 ms


def run(*, quick: bool) -> Outcome:
    """Kill the holder of the only slot while the coordinator waits for it."""
    rounds = 2 if quick else 50
    chance = random.Random(1)
    known, new = [], []
    with Pool.create(slots=1, slot_size="6 MiB") as pool:
        for _ in range(rounds):
            # Anywhere between two ticks of the reaper, and between two slices of the wait.
            known.append(_kill(pool, after=0.05 + chance.random() / 10))
            new.append(_kill(pool, after=_NEWCOMER))
    rows = (
        Row.of("SIGKILL until acquire() returns", Series.of(known), "ms", target=Target("p99", 20)),
        Row.of("the same, of a member of 2 ms", Series.of(new), "ms"),
    )
    return Outcome.of("kill", rows, f"p99 of {rounds} is nearly their maximum")


def _kill(pool: Pool, after: float) -> float:
    """Nanoseconds from the signal to a lease in hand."""
    returned: list[int] = []
    waiter = threading.Thread(target=_wait, args=(pool, returned))
    with _holder(pool.name) as pid:
        waiter.start()
        time.sleep(after)
        began = time.perf_counter_ns()
        os.kill(pid, signal.SIGKILL)
        waiter.join()
    return returned[0] - began


def _wait(pool: Pool, returned: list[int]) -> None:
    lease = pool.acquire(timeout=10)
    returned.append(time.perf_counter_ns())
    lease.release()


@contextmanager
def _holder(name: str) -> Iterator[int]:
    """A process that holds a slot, by its pid; killed afterwards, if not before."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=hold, args=(name, theirs), name="holder")
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def hold(name: str, parent: Connection) -> None:
    """Lease a slot, say so, and never give it back."""
    with Pool.attach(name) as pool, pool.acquire(timeout=10):
        parent.send(os.getpid())
        while True:
            signal.pause()
