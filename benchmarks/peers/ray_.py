"""ray: tasks on this machine, one job each or many.

Its own list of anti-patterns says that tasks too fine-grained are slower than none, and to batch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from benchmarks.task import SOME, Crew, Run, make_some, some


@contextmanager
def _open(workers: int) -> Iterator[dict[str, Run]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray  # noqa: PLC0415 - may be missing

    ray.init(
        num_cpus=workers, include_dashboard=False, logging_level=logging.CRITICAL,
        log_to_driver=False,
    )  # fmt: skip
    try:
        one, many = ray.remote(_one), ray.remote(make_some)

        def run(function: Callable[[int], Any], count: int) -> Iterable[Any]:
            results: Iterable[Any] = ray.get([one.remote(function, job) for job in range(count)])
            return results

        def run_some(function: Callable[[int], Any], count: int) -> Iterable[Any]:
            lots = ray.get([many.remote(function, jobs) for jobs in some(count)])
            return chain.from_iterable(lots)

        yield {"": run, f"{SOME} a task": run_some}
    finally:
        ray.shutdown()


def _one(function: Callable[[int], Any], job: int) -> Any:
    return function(job)


CREW = Crew(
    "ray", "https://docs.ray.io/en/latest/ray-core/patterns/too-fine-grained-tasks.html",
    "ray", _open,
)  # fmt: skip
