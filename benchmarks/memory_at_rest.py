"""What is resident when nothing is done: a program and two workers that wait for their next job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

from benchmarks import task
from benchmarks.crews import CREWS
from benchmarks.measure import Series
from benchmarks.peers import slab_simple_queue
from benchmarks.result import Outcome, Row, Words
from benchmarks.sides import Side
from benchmarks.task import SIZE, Run

WORKERS = 2
_JOBS = 64
BARE, FARM = "floor: numpy in three processes", "Farm"


def run(*, quick: bool) -> Outcome:
    """Proportional set sizes of all processes of a fresh program, peers' servers included."""
    rounds = 1 if quick else 3
    names = [BARE, FARM, *(crew.name for crew in CREWS if not crew.missing())]
    rows = [_row(name, rounds) for name in names]
    words = [Words(crew.name, reason) for crew in CREWS if (reason := crew.missing())]
    notes = (
        "PSS: a page that so many processes map counts for each with its share of it",
        f"{WORKERS} workers, after {_JOBS} jobs with results of 64 KiB; pools included",
    )
    return Outcome.of("memory_at_rest", rows, *notes, words=words)


def _row(name: str, rounds: int) -> Row:
    sizes = [_measured(name) for _ in range(rounds)]
    side: Side = "floor" if name is BARE else "ours" if name is FARM else "peer"
    return Row.of(name, Series.of([size / (1 << 20) for size in sizes]), "MiB", side=side)


def _measured(name: str) -> int:
    command = [sys.executable, "-m", __name__, name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    return int(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def _alive(name: str) -> Iterator[Run]:
    """The processes of one way to run jobs."""
    if name == FARM:
        from shmpool import ArraySpec, Farm  # noqa: PLC0415 - the others do without

        with Farm(task.mark, ArraySpec((SIZE,), "u1"), workers=WORKERS) as farm:
            yield lambda _function, count: farm.map(range(count))
        return
    with {crew.name: crew for crew in CREWS}[name].open(WORKERS) as ways:
        yield next(iter(ways.values()))


def main(name: str) -> None:
    """Print the bytes that this process and all below it take, once a job is done."""
    if name == BARE:
        bare()
        return
    slab = name == slab_simple_queue.CREW.name
    with _alive(name) as run_:
        for _ in run_(task.mark if slab else task.make, _JOBS):
            pass
        print(json.dumps(_proportional()))


def bare() -> None:
    """Processes that have numpy, and do nothing."""
    context = get_context("spawn")
    ready, end = context.Semaphore(0), context.Event()
    crew = [context.Process(target=rest, args=(ready, end)) for _ in range(WORKERS)]
    for process in crew:
        process.start()
    for _ in crew:
        ready.acquire()
    print(json.dumps(_proportional()))
    end.set()
    for process in crew:
        process.join()


def rest(ready: Semaphore, end: Event) -> None:
    """Wait."""
    ready.release()
    end.wait()


def _proportional() -> int:
    pids = [os.getpid()]
    for pid in pids:
        pids += _children(pid)
    return sum(map(_pss, pids))


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task_ in tasks for child in task_.read_text().split()]


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main(sys.argv[1])
