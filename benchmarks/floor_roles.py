"""The floors as blocks of a contest: a cache line in C, and the memory itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.floors import SIZE, floor
from benchmarks.place import TWO_CPUS, pinned
from benchmarks.stage import Role, play

LINE = "floor: a cache line there and back, in C"


def line(library: Path, turns: int) -> Mapping[str, Sequence[float]]:
    """Nanoseconds of each round trip, a CPU for each process."""
    with ExitStack() as stack:
        memory = SharedMemory(create=True, size=SIZE)
        stack.callback(memory.unlink)
        stack.callback(memory.close)
        warm = turns // 10
        arguments = (library, memory, warm + turns)
        times, _none = play([Role(lead, arguments), Role(follow, arguments)]).results
    return {"time": times[warm:]}


def lead(
    stack: ExitStack, library: Path, memory: SharedMemory, turns: int
) -> Callable[[], list[int]]:  # fmt: skip
    """Send the line, and wait for it."""
    side = stack.enter_context(floor(library, memory))
    stack.enter_context(pinned(TWO_CPUS[0]))
    return partial(side.play, turns)


def follow(
    stack: ExitStack, library: Path, memory: SharedMemory, turns: int
) -> Callable[[], None]:  # fmt: skip
    """Send it back."""
    side = stack.enter_context(floor(library, memory))
    stack.enter_context(pinned(TWO_CPUS[1]))
    return partial(side.echo, turns)


def memory(buffers: int, size: int, turns: int, *, copies: bool) -> Mapping[str, Sequence[float]]:
    """Nanoseconds in which one process fills a buffer, or copies into it, one after another."""
    played = play([Role(handle, (buffers, size, turns, copies))])
    (spent,) = played.results
    return {"time": [spent / turns]}


def handle(
    stack: ExitStack,
    buffers: int,
    size: int,
    turns: int,
    copies: bool,  # noqa: FBT001  # a role's arguments are positional
) -> Callable[[], int]:
    """Private memory, all of it touched before."""
    del stack
    fresh = [np.ones(size, np.uint8) for _ in range(buffers)]
    source = np.ones(size, np.uint8)
    return partial(_copy if copies else _fill, fresh, source, turns)


def _fill(buffers: list[NDArray[np.uint8]], _source: NDArray[np.uint8], turns: int) -> int:
    began = time.perf_counter_ns()
    for turn in range(turns):
        buffers[turn % len(buffers)][:] = turn & 255
    return time.perf_counter_ns() - began


def _copy(buffers: list[NDArray[np.uint8]], source: NDArray[np.uint8], turns: int) -> int:
    began = time.perf_counter_ns()
    for turn in range(turns):
        np.copyto(buffers[turn % len(buffers)], source)
    return time.perf_counter_ns() - began
