"""The floors as blocks of a contest: a cache line in C, and two bare semaphores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

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
