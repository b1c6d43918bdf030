"""What one writes oneself: a slab of shared memory, and two SimpleQueues of slot numbers.

The least that does the job: nobody notices a death, nothing tells who holds a slot, and a number
that is used too late reads what is another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from benchmarks.task import SIZE, Bytes, Crew, Run

SLOTS = 32

Jobs = SimpleQueue[tuple[int, int, Callable[[int, Bytes], Any]] | None]
Done = SimpleQueue[tuple[int, int]]


@contextmanager
def _open(workers: int) -> Iterator[dict[str, Run]]:
    context = get_context("spawn")
    todo: Jobs = context.SimpleQueue()
    done: Done = context.SimpleQueue()
    with ExitStack() as stack:
        memory = SharedMemory(create=True, size=SLOTS * SIZE)
        stack.callback(memory.unlink)
        frames = _frames(memory)
        crew = [
            context.Process(target=work, args=(memory.name, todo, done)) for _ in range(workers)
        ]
        for process in crew:
            process.start()
        yield {"": partial(_run, frames, todo, done)}
        for _ in crew:
            todo.put(None)
        for process in crew:
            process.join()
        frames.clear()
        memory.close()


def _frames(memory: SharedMemory) -> list[Bytes]:
    return [
        np.ndarray((SIZE,), np.uint8, buffer=memory.buf, offset=slot * SIZE)
        for slot in range(SLOTS)
    ]


def _run(
    frames: list[Bytes], todo: Jobs, done: Done, function: Callable[[int, Bytes], Any], count: int
) -> Iterator[Bytes]:
    free, arrived, wanted, sent = list(range(SLOTS)), dict[int, int](), 0, 0
    while wanted < count:
        while free and sent < count:
            todo.put((sent, free.pop(), function))
            sent += 1
        job, slot = done.get()
        arrived[job] = slot
        while wanted in arrived:
            slot = arrived.pop(wanted)
            yield frames[slot]
            free.append(slot)
            wanted += 1


def work(name: str, todo: Jobs, done: Done) -> None:
    """Have jobs write to their slots, until there are no more."""
    memory = SharedMemory(name)
    frames = _frames(memory)
    while (order := todo.get()) is not None:
        job, slot, function = order
        function(job, frames[slot])
        done.put((job, slot))
    frames.clear()
    memory.close()


CREW = Crew(
    "slab and SimpleQueue",
    "https://docs.python.org/3/library/multiprocessing.shared_memory.html", "", _open,
    in_place=True,
)  # fmt: skip
