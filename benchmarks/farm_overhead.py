"""What a farm costs: the same pictures by a Farm, and by bare processes that keep them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import numpy as np

from benchmarks.measure import Series, compare, interleave
from benchmarks.result import Outcome, Row, Target
from shmpool import ArraySpec, Farm
from workers.whitted import Shot, render, shots

SHAPE = (270, 480, 3)
WORKERS = 2
# For both sides: otherwise glibc gives memory back to the kernel and takes it again some
# thousand times for each frame, how often depends on what else is on the heap.
_KEEP = {"MALLOC_TRIM_THRESHOLD_": str(1 << 28), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}


class _Worker(NamedTuple):
    pid: int
    orders: Connection


class _Side:
    """Renders rounds, and keeps the CPU time that its processes took for each."""

    def __init__(self, render_round: Callable[[], object], pids: list[int]) -> None:
        self._render_round = render_round
        self._pids = pids
        self._cpu: list[int] = []

    def __call__(self) -> list[float]:
        """Nanoseconds until the last frame of a round is done."""
        before, began = self._cpu_time(), time.perf_counter_ns()
        self._render_round()
        took = time.perf_counter_ns() - began
        self._cpu.append(self._cpu_time() - before)
        return [took]

    def cpu(self) -> Series:
        """Of all rounds but the first, which does not count."""
        return Series.each(self._cpu[1:])

    def _cpu_time(self) -> int:
        # What clock_getcpuclockid(3) returns under Linux: any process's clock.
        return sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in self._pids)


def run(*, quick: bool) -> Outcome:
    """Twice: malloc told to keep its memory, and malloc as it is."""
    rounds, frames = (1, 4) if quick else (10, 48)
    with _environment(_KEEP):
        kept = _measure(rounds, frames)
    rows = [*_rows(kept, frames), *_cpu_rows(kept)]
    rows += _rows(_measure(rounds, frames), frames, ", default malloc")
    notes = (
        "bare workers take every other frame, a farm's the next one: noise on one CPU favours it",
        "the rows of default malloc compare mallocs, not farms: see README",
    )
    return Outcome.of("farm_overhead", rows, *notes)


class _Measured(NamedTuple):
    bare: Series
    farm: Series
    bare_cpu: Series
    farm_cpu: Series
    used: Series  # percent of the workers' time that render() had


def _measure(rounds: int, frames: int) -> _Measured:
    """Two workers each, and all four alive throughout; the two that wait, sleep."""
    busy: list[float] = []
    with ExitStack() as stack:
        crew = stack.enter_context(_bare_crew())
        farm = stack.enter_context(Farm(render, ArraySpec(SHAPE, np.uint8), workers=WORKERS))
        _warm_up(farm)
        sides = (
            _Side(lambda: _bare_round(crew, frames), [worker.pid for worker in crew]),
            _Side(lambda: busy.append(_farm_round(farm, frames)), _pids(farm)),
        )
        bare, farmed = interleave(rounds, *sides)
    shares = zip(busy[1:], farmed.all, strict=True)
    used = Series.each([100 * rendering / (WORKERS * took) for rendering, took in shares])
    return _Measured(bare, farmed, sides[0].cpu(), sides[1].cpu(), used)


def _rows(found: _Measured, frames: int, how: str = "") -> Iterator[Row]:
    ratio, target = compare(found.farm, found.bare), Target("ratio", 1.03)
    yield Row.of(f"bare: {frames} frames of 480x270{how}", found.bare, "ms")
    yield Row.of(f"farm: the same{how}", found.farm, "ms", ratio, target)


def _cpu_rows(found: _Measured) -> Iterator[Row]:
    ratio = compare(found.farm_cpu, found.bare_cpu)
    yield Row.of("bare: CPU time of the workers", found.bare_cpu, "ms")
    yield Row.of("farm: of the workers and the coordinator", found.farm_cpu, "ms", ratio)
    yield Row.of("farm: workers' time spent in render()", found.used, "%")


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Processes started here get these, too."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _warm_up(farm: Farm) -> None:
    """Until each worker has rendered a frame."""
    seen: set[str] = set()
    while len(seen) < WORKERS:
        seen |= {result.worker for result in farm.map(shots(WORKERS))}


def _pids(farm: Farm) -> list[int]:
    """Of the workers and the coordinator: all members of the farm's pool."""
    return [member.pid for member in farm.pool.statistics().members]


def _farm_round(farm: Farm, frames: int) -> float:
    """Take every result: nanoseconds that workers spent in render()."""
    seconds = 0.0
    for result in farm.map(shots(frames)):
        seconds += result.seconds
        _ = result.array[0, 0, 0]  # read where it lies, as a consumer would
    return seconds * 1e9


def _bare_round(crew: list[_Worker], frames: int) -> None:
    """Have all frames rendered."""
    for number, worker in enumerate(crew):
        worker.orders.send(shots(frames)[number::WORKERS])
    for worker in crew:
        worker.orders.recv()


@contextmanager
def _bare_crew() -> Iterator[list[_Worker]]:
    """Processes that render what they are sent, each warmed up by a frame."""
    with ExitStack() as stack:
        crew = [_bare_worker(stack) for _ in range(WORKERS)]
        for worker in crew:
            worker.orders.send(shots(1))
            worker.orders.recv()
        yield crew


def _bare_worker(stack: ExitStack) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=render_all, args=(theirs,), name="bare")
    process.start()
    theirs.close()
    stack.callback(_end, process, ours)
    return _Worker(process.pid or 0, ours)


def _end(process: BaseProcess, orders: Connection) -> None:
    orders.close()
    process.join()
    process.close()


def render_all(orders: Connection) -> None:
    """Render lists of shots, all into one private array, until there are no more."""
    frame = np.empty(SHAPE, np.uint8)
    while True:
        try:
            jobs: list[Shot] = orders.recv()
        except EOFError:
            return
        for shot in jobs:
            render(shot, frame)
        orders.send(None)
