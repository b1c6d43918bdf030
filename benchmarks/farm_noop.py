"""Jobs that do nothing: what a farm costs for each, beside all others that run jobs in processes.

Each result is an array of 64 KiB of its own; the consumer looks at both ends of every one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from benchmarks import task
from benchmarks.crews import CREWS
from benchmarks.measure import Series, compare, interleave
from benchmarks.result import Outcome, Row, Target, Words
from benchmarks.task import SIZE, Crew
from shmpool import ArraySpec, Farm, FarmExecutor

WORKERS, SLOTS = 2, 32
JOBS = 4000  # of ours, in a block

# Jobs in a block of theirs: a block takes some tenths of a second.
_BLOCKS = {"slab and SimpleQueue": 4000, "joblib.Parallel": 1500, "dask.distributed": 256,
           "ray": 512}  # fmt: skip
# How many times as much a job is to take there, and what even a bad day does not go below.
_TARGETS = {
    "ProcessPoolExecutor.map": Target("ratio", at_least=15, surely=2),
    "joblib.Parallel": Target("ratio", at_least=15, surely=2),
    "slab and SimpleQueue": Target("ratio", at_least=1.5),
}


def run(*, quick: bool) -> Outcome:
    """Microseconds for each job. Each peer takes turns with a farm, and no other peer is alive."""
    rounds, share = (2, 8) if quick else (9, 1)
    rows, words, farmed = [], [], []
    for crew in CREWS:
        reason = crew.missing()
        if reason:
            words.append(Words(crew.name, reason))
            continue
        farm, theirs = _beside(crew, rounds, share)
        rows += theirs
        farmed.append(farm)
    ours = Series(tuple(block for farm in farmed for block in farm.blocks))
    rows = [Row.of("Farm.map", ours, "us"), _executor(rounds, share), *rows]
    note = f"{WORKERS} workers, {SLOTS} slots, results of {SIZE >> 10} KiB; for each job"
    beside = "each peer has taken turns with a farm of its own; Farm.map is all of those farms"
    return Outcome.of("farm_noop", rows, note, beside, words=words)


def _beside(crew: Crew, rounds: int, share: int) -> tuple[Series, list[Row]]:
    jobs = max(_BLOCKS.get(crew.name, 500) // share, 2 * task.SOME)
    function: Callable[..., Any] = task.mark if crew.in_place else task.make
    with ExitStack() as stack:
        farm = stack.enter_context(_farm())
        ways = stack.enter_context(crew.open(WORKERS))
        sides = [partial(_called, partial(way, function), jobs) for way in ways.values()]
        ours, *theirs = interleave(rounds, partial(_farmed, farm, JOBS // share), *sides)
    names = [f"{crew.name}, {how}" if how else crew.name for how in ways]
    target = _TARGETS.get(crew.name)
    return ours, [
        Row.of(name, series, "us", compare(series, ours), target, side="peer")
        for name, series in zip(names, theirs, strict=True)
    ]


def _farm() -> Farm:
    return Farm(task.mark, ArraySpec((SIZE,), np.uint8), workers=WORKERS, slots=SLOTS)


def _executor(rounds: int, share: int) -> Row:
    with FarmExecutor(WORKERS, result_size=SIZE, slots=SLOTS) as executor, _farm() as farm:
        jobs = JOBS // share
        map_ = partial(_mapped, executor)
        farmed, mapped = interleave(
            rounds, partial(_farmed, farm, jobs), partial(_called, map_, jobs)
        )
    return Row.of("FarmExecutor.map", mapped, "us", compare(mapped, farmed))


def _mapped(executor: FarmExecutor, count: int) -> Iterable[Any]:
    return executor.map(task.make, range(count))


def _farmed(farm: Farm, jobs: int) -> Sequence[float]:
    began = time.perf_counter_ns()
    for result in farm.map(range(jobs)):
        task.check(result.job, result.array)
    return [(time.perf_counter_ns() - began) / jobs]


def _called(run_: Callable[[int], Iterable[Any]], jobs: int) -> Sequence[float]:
    began = time.perf_counter_ns()
    done = -1
    for done, frame in enumerate(run_(jobs)):
        task.check(done, frame)
    if done + 1 != jobs:
        raise AssertionError(f"{done + 1} results of {jobs} jobs")
    return [(time.perf_counter_ns() - began) / jobs]
