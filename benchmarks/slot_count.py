"""Finding a free slot: among 8 or 65,535, when half are free and when one is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import repeat
from typing import NamedTuple

from benchmarks.measure import Block, compare, interleave
from benchmarks.op_cost import batch
from benchmarks.result import Outcome, Row, Target
from shmpool import Lease, Pool

COUNTS = (8, 64, 512, 4096, 65_535)


class _Stock(NamedTuple):
    pool: Pool
    held: list[Lease]  # in random order
    turns: list[int]  # which of them to give back next


def run(*, quick: bool) -> Outcome:
    """Batches in one process; all pools are there throughout and take turns."""
    rounds, turns = (5, 500) if quick else (100, 2000)
    counts = COUNTS[::4] if quick else COUNTS
    with ExitStack() as stack:
        half = [_stock(stack, count, free=count // 2) for count in counts]
        one = [_stock(stack, count, free=1) for count in counts]
        rows = [
            *_rows("half are free", _take, half, rounds, turns,
                   Target("ratio", at_least=0.8, at_most=1.2)),
            *_rows("one is free", _take, one, rounds, turns, Target("ratio", 2, surely=10)),
            *_rows("one is free, elsewhere each time", _swap, one, rounds, turns, None),
        ]  # fmt: skip
    note = "elsewhere: one lease of all, by chance, is released, and its slot is to be found again"
    return Outcome.of("slot_count", rows, note, axis="slots")


def _rows(
    how: str, loop: Callable[[_Stock, int], None], stocks: list[_Stock],
    rounds: int, turns: int, target: Target | None,
) -> Iterator[Row]:  # fmt: skip
    sides: list[Block] = [batch(loop, stock, turns) for stock in stocks]
    fewest, *more = interleave(rounds, *sides)
    counts = [stock.pool.slots for stock in stocks]
    yield Row.of(f"{counts[0]:,} slots: {how}", fewest, "ns", line=how, at=counts[0])
    for count, series in zip(counts[1:], more, strict=True):
        ratio = compare(series, fewest)
        yield Row.of(f"{count:,} slots: {how}", series, "ns", ratio, target, line=how, at=count)


def _stock(stack: ExitStack, count: int, free: int) -> _Stock:
    chance = random.Random(count)
    pool = stack.enter_context(Pool.create(count, 64, views="raise"))
    leases = [pool.acquire() for _ in range(count)]
    chance.shuffle(leases)
    for lease in leases[:free]:
        lease.release()
    held = leases[free:]
    stack.callback(_release, held)
    return _Stock(pool, held, [chance.randrange(len(held)) for _ in range(10_000)])


def _release(held: list[Lease]) -> None:
    for lease in held:
        lease.release()


def _take(stock: _Stock, turns: int) -> None:
    acquire = stock.pool.acquire
    for _turn in repeat(None, turns):
        acquire().release()


def _swap(stock: _Stock, turns: int) -> None:
    """The slot that is free is taken first: then another is the only free one."""
    held, acquire = stock.held, stock.pool.acquire
    for turn in stock.turns[:turns]:
        lease = acquire()
        held[turn].release()
        held[turn] = lease
