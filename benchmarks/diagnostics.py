"""What the tools that find mistakes cost: a lease with each of them, beside one without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.measure import Block, compare, interleave
from benchmarks.op_cost import batch, leases
from benchmarks.result import Outcome, Row
from shmpool import Pool
from shmpool._trace import recorder

_PLAIN, _POISON, _TRACED = "none of them", "poison=True", "traced"
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    _PLAIN: {},
    "debug=True": {"debug": True},
    'leaks="sampled"': {"leaks": "sampled"},
    'leaks="all"': {"leaks": "all"},
    _POISON: {"poison": True},
}


def run(*, quick: bool) -> Outcome:
    """Batches of acquire and release, in one process, a pool for each tool."""
    rounds, turns, few = (3, 500, 3) if quick else (200, 5_000, 50)
    with ExitStack() as stack:
        small = {name: _block(stack, name, 4096, turns) for name in _OPTIONS}
        small[_TRACED] = partial(_traced, _pool(stack, _PLAIN, 4096), turns)
        large = {name: _block(stack, name, 6 << 20, few) for name in (_PLAIN, _POISON)}
        rows = [*_rows("4 KiB", small, rounds), *_rows("6 MiB", large, min(rounds, 20))]
    note = f"a sample is the mean of {turns:,} in a row, {few:,} where slots have 6 MiB"
    return Outcome.of("diagnostics", rows, note)


def _pool(stack: ExitStack, name: str, size: int) -> Pool:
    return stack.enter_context(Pool.create(slots=2, slot_size=size, **_OPTIONS[name]))


def _block(stack: ExitStack, name: str, size: int, turns: int) -> Block:
    return batch(leases, _pool(stack, name, size), turns)


def _traced(pool: Pool, turns: int) -> Sequence[float]:
    """Nobody reads the rings: what a member pays is to write into its own."""
    with recorder(pool.name):
        pool.acquire().release()  # finds its ring
        return batch(leases, pool, turns)()


def _rows(size: str, blocks: Mapping[str, Block], rounds: int) -> list[Row]:
    series = dict(zip(blocks, interleave(rounds, *blocks.values()), strict=True))
    plain = series[_PLAIN]
    return [
        Row.of(f"acquire, release, {size}: {name}", side, "ns",
               None if side is plain else compare(side, plain))
        for name, side in series.items()
    ]  # fmt: skip
