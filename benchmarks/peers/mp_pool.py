"""multiprocessing.Pool.imap, plain and with chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from benchmarks.task import SOME, Crew, Run


@contextmanager
def _open(workers: int) -> Iterator[dict[str, Run]]:
    with get_context("spawn").Pool(workers) as pool:
        yield {
            "": lambda function, count: pool.imap(function, range(count)),
            f"chunksize={SOME}": lambda f, count: pool.imap(f, range(count), chunksize=SOME),
        }
        pool.close()
        pool.join()


CREW = Crew(
    "multiprocessing.Pool.imap",
    "https://docs.python.org/3/library/multiprocessing.html#multiprocessing.pool.Pool.imap",
    "",
    _open,
)
