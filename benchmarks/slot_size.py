"""Handing on a slot is handing on a ticket: it costs the same whatever the slot's size."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from benchmarks import rally
from benchmarks.measure import compare, interleave
from benchmarks.peer import Echo, peer
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

SIZES = ("4 KiB", "1 MiB", "64 MiB", "256 MiB")


def run(*, quick: bool) -> Outcome:
    """The spinning ping-pong with small slots and with large ones, payload untouched."""
    rounds, turns = (3, 500) if quick else (100, 5_000)
    with ExitStack() as stack:
        pools = [_pool(stack, size) for size in SIZES]
        other = stack.enter_context(peer(build, *[pool.name for pool in pools]))
        sides = [rally.block(other, pool.name, partial(rally.play, pool), turns) for pool in pools]
        small, *larger = interleave(rounds, *sides)
    flat = Target("ratio", at_least=0.9, at_most=1.1)
    rows = [Row.of(f"a slot of {SIZES[0]}", small, "us")]
    for size, series in zip(SIZES[1:], larger, strict=True):
        rows.append(Row.of(f"a slot of {size}", series, "us", compare(series, small), flat))
    return Outcome.of("slot_size", rows)


def _pool(stack: ExitStack, size: str) -> Pool:
    return stack.enter_context(Pool.create(slots=1, slot_size=size, queues=rally.QUEUES))


def build(stack: ExitStack, *names: str) -> Mapping[str, Echo]:
    """Attach to all pools of the parent."""
    pools = [stack.enter_context(Pool.attach(name)) for name in names]
    return {pool.name: partial(rally.echo, pool) for pool in pools}
