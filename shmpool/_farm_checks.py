"""What a farm is asked for, looked at before anything is made of it."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable

from shmpool import _core
from shmpool._dispatch import Frame
from shmpool._envelope import ArraySpec
from shmpool._sizes import parse_size, show_size
from shmpool.errors import ArgumentError, SizeError

_ON_ERROR = ("raise", "yield")
_MOST_WORKERS = _core.MAX_MEMBERS - 1  # the farm's own process is one, too
_LEAST_JOB_SIZE = 1024  # an exception that has no room comes back cut, and that has room
_QUEUE = re.compile(r"todo|done|stage-\d+")


def check_count(what: str, count: int, least: int) -> int:
    """The count, as an int. Raises SizeError for one that is too small, or no whole number."""
    try:
        number = operator.index(count)
    except TypeError:
        message = f"{what} is {count!r}: give a whole number, at least {least}"
        raise SizeError(message) from None
    if number < least:
        raise SizeError(f"{what}={number}: {'0 or more' if least == 0 else f'at least {least}'}")
    return number


def size_of(what: str, size: int | str, least: int = 0) -> int:
    """Bytes. Raises SizeError."""
    number = parse_size(size, what)
    if number < least:
        told = f"at least {show_size(least)}" if least else "0 or more bytes"
        raise SizeError(f"{what}={size!r}: {told}")
    return number


def job_room(job_size: int | str) -> int:
    """Bytes for a pickled job, and as many for what became of it. Raises SizeError."""
    return size_of("job_size", job_size, _LEAST_JOB_SIZE)


def yields_errors(on_error: str) -> bool:
    """Whether failures are results. Raises ArgumentError."""
    if on_error not in _ON_ERROR:
        raise ArgumentError(f"on_error is {on_error!r}: 'raise' or 'yield'")
    return on_error == "yield"


def frame_bytes(frame: Frame, frame_size: int | str | None) -> int:
    """Of the largest frame. Raises ArgumentError."""
    if isinstance(frame, ArraySpec):
        return frame.nbytes
    if not callable(frame):
        message = f"frame is {frame!r:.80}: give an ArraySpec(shape, dtype), or a function of jobs"
        raise ArgumentError(message)
    if frame_size is None:
        raise ArgumentError("frame is a function: give frame_size=, the bytes of the largest")
    return size_of("frame_size", frame_size)


def own_queues(names: Iterable[str]) -> tuple[str, ...]:
    """Queues for what comes after. Raises ArgumentError for one that the farm has itself."""
    queues = tuple(names)
    for name in queues:
        if _QUEUE.fullmatch(name):
            raise ArgumentError(f"queues has {name!r}, which the farm has itself: name it anew")
    return queues


def check_workers(count: int, others: int) -> None:
    """Raise SizeError for too few workers of a stage, or too many with those of the others."""
    check_count("workers", count, 1)
    if others + count > _MOST_WORKERS:
        message = f"{others + count} workers: at most {_MOST_WORKERS} can share a pool"
        raise SizeError(message)
