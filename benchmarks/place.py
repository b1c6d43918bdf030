"""Which CPU a side runs on. Pin only once a pool is attached: it does not spin on a single CPU."""

from __future__ import annotations

import os
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
