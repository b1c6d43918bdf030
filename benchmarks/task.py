"""Jobs that do nothing, and how a library that runs such jobs is asked to.

Every job returns an array of its own. Libraries look some twenty times faster when all jobs return
one and the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

SIZE = 1 << 16  # bytes of each result
SOME = 64  # jobs in one task, where a library wants few large tasks

Bytes: TypeAlias = NDArray[np.uint8]
# Runs a function for the jobs 0 .. count - 1 and gives its results in their order.
Run: TypeAlias = Callable[[Callable[..., Any], int], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Crew:
    """A library that runs jobs in worker processes."""

    name: str
    page: str  # of its documentation, which says how it is fast
    distribution: str  # "": it comes with Python
    # With so many workers: each way to run jobs, by name; the first is what its page begins with.
    open: Callable[[int], AbstractContextManager[dict[str, Run]]]
    in_place: bool = False  # the function gets the frame to fill, as a farm's does

    def missing(self) -> str | None:
        """Why it cannot be measured here."""
        try:
            if self.distribution:
                version(self.distribution)
        except PackageNotFoundError:
            return f"skipped: {self.distribution} is not installed (pip install '.[bench-farm]')"
        return None


class WrongResultError(Exception):
    """The result of one job was given for another's."""


def mark(job: int, frame: Bytes) -> None:
    """What a farm's worker does: both ends of the frame say whose it is."""
    frame[0], frame[-1] = job & 255, job >> 8 & 255


def make(job: int) -> Bytes:
    """What the others' workers do: a fresh array."""
    frame = np.empty(SIZE, np.uint8)
    mark(job, frame)
    return frame


def make_some(function: Callable[[int], Any], jobs: Sequence[int]) -> list[Any]:
    """Many jobs as one task."""
    return [function(job) for job in jobs]


def some(count: int) -> Iterator[range]:
    """The jobs 0 .. count - 1, in lots of SOME."""
    for first in range(0, count, SOME):
        yield range(first, min(first + SOME, count))


def check(job: int, frame: Bytes) -> None:
    """Raise WrongResultError unless this is the result of that job."""
    if frame[0] != job & 255 or frame[-1] != job >> 8 & 255 or frame.nbytes != SIZE:
        raise WrongResultError(f"not the result of job {job}: {frame[0]}, {frame[-1]}")
