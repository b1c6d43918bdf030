"""Which CPU a side runs on, and how it stays awake there.

Pin only once a pool is attached: it does not spin in a process that may use a single CPU only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

# The CPUs of the leader and of its peer; None leaves them to the kernel.
Places: TypeAlias = tuple[int | None, int | None]
TWO_CPUS: Places = (0, 1)
ONE_CPU: Places = (0, 0)
ANY_CPU: Places = (None, None)

_USABLE = sorted(os.sched_getaffinity(0))


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Keep this thread on the first (0) or second (1) usable CPU."""
    if cpu is not None:
        os.sched_setaffinity(0, {_USABLE[cpu % len(_USABLE)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, _USABLE)


def hold(nanoseconds: int) -> None:
    """Stay awake so long."""
    until = time.perf_counter_ns() + nanoseconds
    while time.perf_counter_ns() < until:
        pass
