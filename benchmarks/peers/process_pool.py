"""concurrent.futures.ProcessPoolExecutor.map, plain and with chunks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from benchmarks.task import SOME, Crew, Run


@contextmanager
def _open(workers: int) -> Iterator[dict[str, Run]]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield {
            "": lambda function, count: pool.map(function, range(count)),
            f"chunksize={SOME}": lambda f, count: pool.map(f, range(count), chunksize=SOME),
        }


CREW = Crew(
    "ProcessPoolExecutor.map",
    "https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.Executor.map",
    "",
    _open,
)
