"""What the order of reuse is worth: the slot released last is still in the cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import compare, interleave
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

SLOTS, SIZE = 8, 6_000_000


def run(*, quick: bool) -> Outcome:
    """Copy an array into one free slot after another."""
    rounds, turns = (2, 8) if quick else (30, 40)
    picture = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8)
    with ExitStack() as stack:
        warm, cold = (
            partial(_copies, _pool(stack, reuse), picture, turns) for reuse in ("warm", "cold")
        )
        fast, slow = interleave(rounds, warm, cold)
    rows = (
        Row.of('reuse="warm": acquire, copy 6 MB, release', fast, "us"),
        Row.of('reuse="cold": the same', slow, "us", compare(slow, fast),
               Target("ratio", at_least=1.5)),
    )  # fmt: skip
    note = "about 2 is expected, where two buffers fit into the last level of cache and 9 do not"
    return Outcome.of("warm_reuse", rows, note)


def _pool(stack: ExitStack, reuse: str) -> Pool:
    return stack.enter_context(Pool.create(SLOTS, SIZE, reuse=reuse))


def _copies(pool: Pool, picture: NDArray[np.uint8], turns: int) -> Sequence[float]:
    """Nanoseconds for each, after a round of all slots: the other pool's are in the cache."""
    return [_copy(pool, picture) for _ in range(SLOTS + turns)][SLOTS:]


def _copy(pool: Pool, picture: NDArray[np.uint8]) -> float:
    began = time.perf_counter_ns()
    with pool.acquire() as lease:
        lease.array(picture.shape, picture.dtype)[:] = picture
    return time.perf_counter_ns() - began
