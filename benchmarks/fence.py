"""What it costs to release a lease under a living array, beside what a copy of it costs.

Each cycle leases a slot, writes to each of its pages, and gives it back. `fence` keeps the array,
which is then cut off from the slot; `copy` keeps a copy, in a fresh array; `warm copy` copies
into one and the same array, which is more than a program can do that keeps them. Rows and ratios
are of whole cycles; the notes say what each costs more than the plain cycle of the same round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import compare, extra, interleave
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

SIZES = {"64 KiB": 1 << 16, "1 MiB": 1 << 20, "6 MiB": 6 << 20, "64 MiB": 64 << 20}
BYTES = 1 << 30  # that each block goes through, at most CYCLES times

CYCLES = 2000
PAGE = 4096

Bytes = NDArray[np.uint8]
Keep = Callable[[Bytes], Bytes | None]


def run(*, quick: bool) -> Outcome:
    """Measure each size by itself."""
    with ExitStack() as stack:
        found = [_measure(stack, name, quick=quick) for name in SIZES]
    rows = [row for rows, _ in found for row in rows]
    return Outcome.of("fence", rows, *(note for _, note in found))


def _measure(stack: ExitStack, name: str, *, quick: bool) -> tuple[list[Row], str]:
    size = SIZES[name]
    pool = stack.enter_context(Pool.create(2, size))
    warm = np.ones(size, np.uint8)
    rounds, turns = (2, 3) if quick else (15, min(CYCLES, BYTES // size))
    keeps: tuple[Keep, ...] = (_nothing, _itself, np.copy, partial(_into, warm))
    plain, *kept = interleave(rounds, *(partial(_cycles, pool, turns, keep) for keep in keeps))
    fence, copy, warm_copy = kept
    # Below a megabyte a copy into memory that is there already is hard to beat.
    least = Target("ratio", at_least=1.0) if size >= 1 << 20 else None
    rows = [
        Row.of(f"{name}: nothing kept", plain, "us"),
        Row.of(f"{name}: fence", fence, "us", compare(fence, plain)),
        Row.of(f"{name}: copy", copy, "us", compare(copy, fence), least),
        Row.of(f"{name}: warm copy", warm_copy, "us", compare(warm_copy, fence), least),
    ]
    costs = (f"{extra(side, plain) / 1e3:,.1f}" for side in kept)
    return rows, "{}: fence, copy, warm copy: {} us more".format(name, ", ".join(costs))


def _nothing(_array: Bytes) -> None:
    """Keep nothing."""


def _itself(array: Bytes) -> Bytes:
    return array


def _into(warm: Bytes, array: Bytes) -> Bytes:
    np.copyto(warm, array)
    return warm


def _cycles(pool: Pool, turns: int, keep: Keep) -> Sequence[float]:
    kept = None
    samples = []
    for turn in range(turns):
        began = time.perf_counter_ns()
        with pool.acquire() as lease:
            array = lease.array((pool.slot_size,), np.uint8)
            array[::PAGE] = turn & 255  # a fault for each page that has to be found again
            kept = keep(array)
            del array
        samples.append(float(time.perf_counter_ns() - began))
    del kept
    return samples
