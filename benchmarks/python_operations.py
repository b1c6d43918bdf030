"""The operations of Python's side, to be counted, on pools that another process has made.

    python -m benchmarks.python_operations TURNS ROUNDS PIDFD NAME NAME NAME

For each operation: ten times as many turns that do not count, until Python has specialised its
bytecode, and then, in each round, so many and twice as many. After each of these stands a
getppid(), by which callgrind is told to write down what it has counted. Prints the names, in
order.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from itertools import repeat

import numpy as np

from shmpool import Pool, Queue, QueueEmpty, Ticket, _attachment

Loop = Callable[[int], None]
SHAPE, KIND = (16, 64), np.dtype(np.uint8)


def operations(small: Pool, classes: Pool, large: Pool) -> dict[str, Loop]:
    """Loops over each operation, by name."""
    jobs = small.queue("jobs")
    return {
        "nothing": _nothing,
        **_of_leases(small),
        **_of_looks(small, jobs),
        **_of_transport(small, jobs),
        "acquire(nbytes), release, third class": _sized(classes, 16384),
        "acquire, release, 65,535 slots half held": _bare(large),
        "Ticket(number)": _number,
    }


def _of_leases(pool: Pool) -> dict[str, Loop]:
    return {
        "acquire, release": _bare(pool),
        "with acquire": _with(pool),
    }


def _of_looks(pool: Pool, jobs: Queue) -> dict[str, Loop]:
    return {
        "acquire, array(shape, dtype), release": _array(pool),
        "acquire, array, put, get, array(), release": _described(pool, jobs),
        "header field, written and read": _header(pool),
    }


def _of_transport(pool: Pool, jobs: Queue) -> dict[str, Loop]:
    return {
        "acquire, put, get, release": _cycle(pool, jobs),
        "get_nowait from an empty queue, refused": _empty(jobs),
        "acquire, detach, claim, release": _detached(pool),
        "acquire, share, borrow, release both": _shared(pool),
    }


def _nothing(turns: int) -> None:
    for _turn in repeat(None, turns):
        pass


def _bare(pool: Pool) -> Loop:
    def loop(turns: int) -> None:
        for _turn in repeat(None, turns):
            pool.acquire().release()

    return loop


def _with(pool: Pool) -> Loop:
    def loop(turns: int) -> None:
        for _turn in repeat(None, turns):
            with pool.acquire():
                pass

    return loop


def _sized(pool: Pool, nbytes: int) -> Loop:
    def loop(turns: int) -> None:
        for _turn in repeat(None, turns):
            pool.acquire(nbytes).release()

    return loop


def _array(pool: Pool) -> Loop:
    def loop(turns: int) -> None:
        for _turn in repeat(None, turns):
            lease = pool.acquire()
            lease.array(SHAPE, KIND)
            lease.release()

    return loop


def _described(pool: Pool, jobs: Queue) -> Loop:
    def loop(turns: int) -> None:
        for _turn in repeat(None, turns):
            lease = pool.acquire()
            lease.array(SHAPE, KIND)
            jobs.put(lease)
            lease = jobs.get()
            lease.array()
            lease.release()

    return loop


def _header(pool: Pool) -> Loop:
    def loop(turns: int) -> None:
        with pool.acquire() as lease:
            for turn in range(turns):
                lease.header["frame"] = turn
                lease.header["frame"]

    return loop


def _cycle(pool: Pool, jobs: Queue) -> Loop:
    def loop(turns: int) -> None:
        for _turn in repeat(None, turns):
            jobs.put(pool.acquire())
            jobs.get().release()

    return loop


def _empty(jobs: Queue) -> Loop:
    def loop(turns: int) -> None:
        for _turn in repeat(None, turns):
            try:
                jobs.get_nowait()
            except QueueEmpty:
                pass
            else:
                raise AssertionError

    return loop


def _detached(pool: Pool) -> Loop:
    def loop(turns: int) -> None:
        for _turn in repeat(None, turns):
            ticket = pool.acquire().detach()
            pool.claim(ticket).release()

    return loop


def _shared(pool: Pool) -> Loop:
    def loop(turns: int) -> None:
        for _turn in repeat(None, turns):
            lease = pool.acquire()
            borrow = pool.borrow(lease.share())
            borrow.release()
            lease.release()

    return loop


def _number(turns: int) -> None:
    for number in range(1, 1 + turns):
        Ticket(number)


def _count(loop: Loop, turns: int) -> None:
    loop(turns)
    os.getppid()


def _of_each_size(count: Callable[[int], int]) -> list[object]:
    """New small objects, so many of each of the sizes in which Python keeps memory for them."""
    made: list[object] = []
    for size in range(48, 513, 16):
        made += [bytes(size - 33) for _ in range(count(size))]
    return made


def _half_used() -> list[object]:
    """What leaves room for small objects of each size: every second one of four pools of 16 KiB."""
    return _of_each_size(lambda size: 4 * 16384 // size)[::2]


def _say(names: tuple[str, ...]) -> None:
    print("\n".join(names), flush=True)


def main() -> None:
    """Attach, and run every operation."""
    turns, rounds, pidfd = map(int, sys.argv[1:4])
    # valgrind before 3.21 knows no pidfd_open: the parent, whom we ask for, has brought one.
    os.pidfd_open = lambda pid, flags=0: os.dup(pidfd)  # noqa: ARG005 - as it is called
    _attachment.CHECK_EVERY = 3600  # seconds: what comes from time to time would be counted, or not
    small, classes, large = (Pool.attach(name) for name in sys.argv[4:7])
    loops = operations(small, classes, large)
    gc.collect()
    gc.disable()
    kept = _half_used()
    for loop in loops.values():
        loop(10 * turns)
        # A pool that is full but for one object comes first, and an operation that takes and
        # returns that one pays each time. Whether there is one depends on all there is.
        kept += _of_each_size(lambda _size: 8)
        os.getppid()
        for _round in repeat(None, rounds):
            _count(loop, turns)
            _count(loop, 2 * turns)
    del kept
    _say(tuple(loops))


if __name__ == "__main__":
    main()
