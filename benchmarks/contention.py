"""One pool, more and more processes: what all of them together get done in a second.

Up to 64 processes on the CPUs there are. Those that are not on sleep on a pipe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from benchmarks.measure import Series, compare, interleave
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

COUNTS = (1, 2, 4, 8, 16, 32, 64)
_BATCH = 50  # between two looks at the clock
_SOON = 0.02  # seconds, for all to be ready to begin at the same time


class _Member(NamedTuple):
    process: BaseProcess
    orders: Connection


def run(*, quick: bool) -> Outcome:
    """Two kinds of work, each by 1 to 64 processes, in turns."""
    rounds, seconds = (1, 0.1) if quick else (7, 0.5)
    counts = COUNTS[::3] if quick else COUNTS
    counts = tuple(sorted({*counts, 2}))
    with ExitStack() as stack:
        pool = stack.enter_context(
            Pool.create(256, 64, queues=("todo",), members=80, views="raise")
        )
        crew = stack.enter_context(_members(pool.name, counts[-1]))
        rows = [row for kind in WORK for row in _rows(crew, kind, counts, rounds, seconds)]
    note = "operations of all processes together, in a window of time; slots are never short"
    return Outcome.of("contention", rows, note, axis="processes")


def _rows(
    crew: list[_Member], kind: str, counts: Sequence[int], rounds: int, seconds: float
) -> Iterator[Row]:
    sides = [partial(_block, crew[:count], kind, seconds) for count in counts]
    found = dict(zip(counts, interleave(rounds, *sides), strict=True))
    for count, series in found.items():
        yield _row(kind, count, series, found[2])


def _row(kind: str, count: int, series: Series, two: Series) -> Row:
    target = Target("ratio", at_least=0.7, surely=0.1) if count == COUNTS[-1] else None
    ratio = None if count == 2 else compare(series, two)
    name = f"{kind}: {count} process{'es'[: 2 * (count > 1)]}"
    return Row.of(name, series, "M/s", ratio, target, line=kind, at=count)


def _block(members: list[_Member], kind: str, seconds: float) -> list[float]:
    """Millions of operations a second, of all of them."""
    begin = time.monotonic() + _SOON
    for member in members:
        member.orders.send((kind, begin, begin + seconds))
    return [sum(member.orders.recv() for member in members) / seconds / 1e6]


@contextmanager
def _members(name: str, count: int) -> Iterator[list[_Member]]:
    # From a server that has imported everything: 64 fresh interpreters take half a minute.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ExitStack() as stack:
        crew = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(name, theirs), name="member")
            process.start()
            theirs.close()
            stack.callback(_end, process, ours)
            crew.append(_Member(process, ours))
        for member in crew:
            member.orders.recv()
        yield crew


def _end(process: BaseProcess, orders: Connection) -> None:
    orders.close()
    process.join()
    process.close()


def work(name: str, orders: Connection) -> None:
    """Work in windows of time, on order, and say how much was done."""
    with Pool.attach(name) as pool:
        orders.send(None)
        while True:
            try:
                kind, begin, end = orders.recv()
            except EOFError:
                return
            orders.send(_window(WORK[kind], pool, begin, end))


def _window(operation: Callable[[Pool, int], None], pool: Pool, begin: float, end: float) -> int:
    time.sleep(max(begin - time.monotonic(), 0))
    done = 0
    while time.monotonic() < end:
        operation(pool, _BATCH)
        done += _BATCH
    return done


def _lease(pool: Pool, turns: int) -> None:
    for _turn in repeat(None, turns):
        pool.acquire().release()


def _pass_on(pool: Pool, turns: int) -> None:
    queue = pool.queue("todo")
    for _turn in repeat(None, turns):
        queue.put(pool.acquire())
        queue.get().release()


WORK: dict[str, Callable[[Pool, int], None]] = {
    "acquire, release": _lease,
    "acquire, put, get, release": _pass_on,
}
