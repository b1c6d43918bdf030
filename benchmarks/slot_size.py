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

SIZES = ("4 KiB", "64 MiB")


def run(*, quick: bool) -> Outcome:
    """The spinning ping-pong with small slots and with large ones, payload untouched."""
    rounds, turns = (3, 500) if quick else (200, 5_000)
    with ExitStack() as stack:
        pools = [_pool(stack, size) for size in SIZES]
        other = stack.enter_context(peer(build, *[pool.name for pool in pools]))
        sides = [rally.block(other, pool.name, partial(rally.play, pool), turns) for pool in pools]
        small, large = interleave(rounds, *sides)
    rows = (
        Row.of(f"a slot of {SIZES[0]}", small, "us"),
        Row.of(f"a slot of {SIZES[1]}", large, "us", compare(large, small),
               Target("ratio", at_least=0.9, at_most=1.1)),
    )  # fmt: skip
    return Outcome.of("slot_size", rows)


def _pool(stack: ExitStack, size: str) -> Pool:
    return stack.enter_context(Pool.create(slots=2, slot_size=size, queues=rally.QUEUES))


def build(stack: ExitStack, *names: str) -> Mapping[str, Echo]:
    """Attach to both pools of the parent."""
    pools = [stack.enter_context(Pool.attach(name)) for name in names]
    return {pool.name: partial(rally.echo, pool) for pool in pools}
