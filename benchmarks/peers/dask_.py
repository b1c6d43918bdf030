"""dask.distributed: a cluster of processes here, one thread each, one job a task or many.

Its best practices say that a task costs some hundred microseconds, and to give it more to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

from benchmarks.task import SOME, Crew, Run, make_some, some


@contextmanager
def _open(workers: int) -> Iterator[dict[str, Run]]:
    from distributed import Client, LocalCluster  # noqa: PLC0415 - may be missing

    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    quiet = {"silence_logs": logging.CRITICAL}
    with LocalCluster(processes=True, **options, **quiet) as cluster, Client(cluster) as client:

        def run(function: Callable[[int], Any], count: int) -> Iterable[Any]:
            # pure=False: otherwise it knows the answers of the round before.
            futures = client.map(function, range(count), pure=False)
            results: Iterable[Any] = client.gather(futures)
            return results

        def run_some(function: Callable[[int], Any], count: int) -> Iterable[Any]:
            lots = client.map(partial(make_some, function), list(some(count)), pure=False)
            return chain.from_iterable(client.gather(lots))

        yield {"": run, f"{SOME} a task": run_some}


CREW = Crew(
    "dask.distributed", "https://docs.dask.org/en/stable/best-practices.html", "distributed", _open
)
