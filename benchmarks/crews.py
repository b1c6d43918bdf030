"""All libraries that run jobs in worker processes, beside a farm."""

from __future__ import annotations

from benchmarks.peers import dask_, loky_, mp_pool, process_pool, ray_, slab_simple_queue
from benchmarks.task import Crew

CREWS: tuple[Crew, ...] = (
    process_pool.CREW,
    mp_pool.CREW,
    loky_.CREW,
    dask_.CREW,
    ray_.CREW,
    slab_simple_queue.CREW,
)
