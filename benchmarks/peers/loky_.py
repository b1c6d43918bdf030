"""joblib.Parallel with its own backend, loky: batches grow by themselves as jobs prove short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.task import Crew, Run


@contextmanager
def _open(workers: int) -> Iterator[dict[str, Run]]:
    from joblib import Parallel, delayed  # noqa: PLC0415 - may be missing
    from joblib.externals.loky import get_reusable_executor  # noqa: PLC0415

    with Parallel(workers, return_as="generator") as parallel:

        def run(function: Callable[[int], Any], count: int) -> Iterable[Any]:
            results: Iterable[Any] = parallel(delayed(function)(job) for job in range(count))
            return results

        yield {"": run}
    get_reusable_executor().shutdown(wait=True)


CREW = Crew(
    "joblib.Parallel", "https://joblib.readthedocs.io/en/stable/parallel.html", "joblib", _open
)
