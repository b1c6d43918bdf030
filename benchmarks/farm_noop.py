"""Jobs that do nothing: what a farm costs for each, beside concurrent.futures.

Each result is an array of 64 KiB of its own, looked at by the consumer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import compare, interleave
from benchmarks.result import Outcome, Row, Target
from shmpool import ArraySpec, Farm, FarmExecutor

SIZE, WORKERS, SLOTS = 1 << 16, 2, 32

Bytes = NDArray[np.uint8]


def mark(job: int, frame: Bytes) -> None:
    """What a farm's worker does."""
    frame[0] = job & 255


def make(job: int) -> Bytes:
    """What an executor's worker does."""
    array = np.empty(SIZE, np.uint8)
    array[0] = job & 255
    return array


def run(*, quick: bool) -> Outcome:
    """Nanoseconds for each job, in blocks of a few thousand."""
    rounds, jobs = (1, 50) if quick else (9, 4000)
    with ExitStack() as stack:
        spec = ArraySpec((SIZE,), np.uint8)
        farm = stack.enter_context(Farm(mark, spec, workers=WORKERS, slots=SLOTS))
        ours = stack.enter_context(FarmExecutor(WORKERS, result_size=SIZE, slots=SLOTS))
        context = get_context("spawn")
        theirs = stack.enter_context(ProcessPoolExecutor(WORKERS, mp_context=context))
        farmed, executed, pooled = interleave(
            rounds, partial(_farmed, farm, jobs), partial(_called, ours.map, jobs),
            partial(_called, theirs.map, jobs // 8),
        )  # fmt: skip
    rows = (
        Row.of("Farm.map", farmed, "us"),
        Row.of("FarmExecutor.map", executed, "us"),
        Row.of("ProcessPoolExecutor.map", pooled, "us", compare(pooled, farmed),
               Target("ratio", at_least=15)),
    )  # fmt: skip
    note = f"{WORKERS} workers, {SLOTS} slots, results of {SIZE >> 10} KiB; for each job"
    return Outcome.of("farm_noop", rows, note)


def _farmed(farm: Farm, jobs: int) -> Sequence[float]:
    began = time.perf_counter_ns()
    for result in farm.map(range(jobs)):
        if result.array[0] != result.job & 255:
            raise AssertionError(result)
    return [(time.perf_counter_ns() - began) / jobs]


def _called(map_: Callable[..., object], jobs: int) -> Sequence[float]:
    began = time.perf_counter_ns()
    for number, array in enumerate(map_(make, range(jobs))):  # type: ignore[var-annotated, arg-type]
        if array[0] != number & 255:
            raise AssertionError(number)
    return [(time.perf_counter_ns() - began) / jobs]
