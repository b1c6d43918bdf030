"""What a lease costs: acquire and release, beside those of a semaphore."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from typing import TypeVar

import posix_ipc

from benchmarks.measure import Block, compare, interleave
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

T = TypeVar("T")


def run(*, quick: bool) -> Outcome:
    """Batches of operations that never wait, in one process, less an empty loop."""
    rounds, turns = (5, 2_000) if quick else (300, 10_000)
    with Pool.create(slots=8, slot_size=4096) as pool, _semaphore() as semaphore:
        loops = (
            batch(_nothing, None, turns),
            batch(leases, pool, turns),
            batch(_with, pool, turns),
            batch(_raw, semaphore, turns),
        )
        empty, *sides = interleave(rounds, *loops)
    loop = empty.percentile(50)
    bare, with_block, raw = (side.less(loop) for side in sides)
    rows = (
        Row.of("posix_ipc.Semaphore acquire() + release()", raw, "ns"),
        Row.of("pool.acquire().release()", bare, "ns", compare(bare, raw), Target("ratio", 1.5)),
        Row.of("with pool.acquire(): pass", with_block, "ns", compare(with_block, raw),
               Target("ratio", 2.5)),
    )  # fmt: skip
    note = f"a sample is the mean of {turns:,} in a row, less {loop:.1f} ns for the empty loop"
    return Outcome.of("op_cost", rows, note)


def batch(loop: Callable[[T, int], None], subject: T, turns: int) -> Block:
    """A block of one sample: nanoseconds for one turn of `loop(subject, turns)`."""
    return partial(_batch, loop, subject, turns)


def _batch(loop: Callable[[T, int], None], subject: T, turns: int) -> list[float]:
    began = time.perf_counter_ns()
    loop(subject, turns)
    return [(time.perf_counter_ns() - began) / turns]


def _nothing(_: None, turns: int) -> None:
    for _turn in repeat(None, turns):
        pass


def leases(pool: Pool, turns: int) -> None:
    """Acquire and release, so many times."""
    for _turn in repeat(None, turns):
        pool.acquire().release()


def _with(pool: Pool, turns: int) -> None:
    for _turn in repeat(None, turns):
        with pool.acquire():
            pass


def _raw(semaphore: posix_ipc.Semaphore, turns: int) -> None:
    for _turn in repeat(None, turns):
        semaphore.acquire()
        semaphore.release()


@contextmanager
def _semaphore() -> Iterator[posix_ipc.Semaphore]:
    semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=1)
    semaphore.unlink()
    try:
        yield semaphore
    finally:
        semaphore.close()
