"""Removing what a dead coordinator left, so that nobody else's is ever removed with it.

A name says nothing about whose it is: between the look at a pool and its end somebody else may have
removed it and made another one. So whoever removes holds a lock on the control block itself, the
control block goes last (while its name is there, nobody can make a pool of that name), and before
each name goes it is looked whether the control block is still the one that was looked at. Only
the resource tracker of the dead, which takes no lock, can still come in between; it does so at
once after the death, and then the new pool would have to be made within the same microseconds.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

from shmpool._attachment import slab_name
from shmpool._doorbell import remove_bell
from shmpool._header import PoolSpec
from shmpool._segment import SHM, remove, stands_for
from shmpool._tracing import is_traced, remove_trace, trace_name
from shmpool.errors import PoolNotFoundError


def remove_all(spec: PoolSpec, control: int) -> list[str]:
    """Remove every name of a pool whose control block is open as `control`: those there were.

    Of this user's files only. Does not block. Raises PoolNotFoundError if somebody else removes
    it or has done so, SegmentError if a name cannot be removed.
    """
    name = spec.name
    try:
        fcntl.flock(control, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PoolNotFoundError(f"pool {name!r} is being removed already", name=name) from None
    removed = [
        part
        for part, remove_it in _parts(spec)
        if stands_for(name, control) and _of_this_user(part) and remove_it()
    ]
    if not removed:
        raise PoolNotFoundError(f"pool {name!r} was removed meanwhile", name=name)
    return removed


def _parts(spec: PoolSpec) -> Iterator[tuple[str, Callable[[], bool]]]:
    """What there may be of a pool, by its name in shared memory, and how it is removed."""
    for number in range(len(spec.classes)):
        slab = slab_name(spec.name, number)
        yield slab, partial(remove, slab)
    for member in range(1, spec.members + 1):
        yield f"sem.{spec.name}.{member}", partial(remove_bell, spec.name, member)
    if is_traced(spec.name):
        yield trace_name(spec.name), partial(remove_trace, spec.name)
    yield spec.name, partial(remove, spec.name)


def left(spec: PoolSpec) -> dict[str, int]:
    """Names of this user's that there are of a pool, and the bytes of memory behind each."""
    files = {part: file for part, _ in _parts(spec) if (file := _of_this_user(part)) is not None}
    return {part: file.st_blocks * 512 for part, file in files.items()}


def _of_this_user(part: str) -> os.stat_result | None:
    try:
        file = (SHM / part).lstat()
    except FileNotFoundError:
        return None
    return file if stat.S_ISREG(file.st_mode) and file.st_uid == os.geteuid() else None
