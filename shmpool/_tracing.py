"""The segment of a tracer: whose it is, and how two tracers do not disturb each other.

A tracer makes `NAME.trace` beside a pool and holds a lock (`flock`) on it for as long as it
lives; the kernel lets go of it whatever the tracer dies of. So a segment whose lock can be had is
a dead tracer's. Members map their ring when they find the segment's id in the control block.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from shmpool import _core
from shmpool._header import PoolSpec
from shmpool._layout import TRACE_EVENT, TRACE_HEADER, TRACE_RING
from shmpool._segment import SHM, check_file, commit, remove, stands_for
from shmpool.errors import PoolNotFoundError, SegmentError

EVENTS = 1 << 15  # in a ring: a megabyte for each member that notes something
SUFFIX = ".trace"


def trace_name(pool: str) -> str:
    """Name of the segment of a pool's tracer."""
    return f"{pool}{SUFFIX}"


class Segment(NamedTuple):
    """A tracer's segment, open and locked."""

    name: str
    fd: int
    id: int
    events: int  # in each ring
    members: int  # rings are numbered from 1 to this

    @property
    def ring_size(self) -> int:
        """Bytes from one ring to the next."""
        size = TRACE_RING.itemsize + self.events * TRACE_EVENT.itemsize
        return -(-size // _core.TRACE_PAGE) * _core.TRACE_PAGE

    def offset(self, member: int) -> int:
        """Where a member's ring begins."""
        return _core.TRACE_PAGE + member * self.ring_size

    @property
    def size(self) -> int:
        """Bytes of the segment; there is memory behind the rings that are in use only."""
        return self.offset(self.members + 1)


@contextmanager
def segment(spec: PoolSpec, events: int) -> Iterator[Segment]:
    """Make the segment of the pool's only tracer, for the length of the block.

    What a dead tracer left is removed first. Raises SegmentError if another tracer is at work, or
    the name is something else's.
    """
    name = trace_name(spec.name)
    fd = _made(name)
    try:
        made = Segment(name, fd, int.from_bytes(os.urandom(8)) | 1, events, spec.members)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, made.size)
        commit(fd, _core.TRACE_PAGE)
        os.pwrite(fd, _header(made), 0)
        yield made
    finally:
        if stands_for(name, fd):
            remove(name)
        os.close(fd)


def _header(made: Segment) -> bytes:
    header = np.zeros((), TRACE_HEADER)
    header["magic"], header["version"] = _core.TRACE_MAGIC, _core.TRACE_VERSION
    header["members"], header["id"], header["pid"] = made.members, made.id, os.getpid()
    header["events"], header["ring_size"] = made.events, made.ring_size
    return header.tobytes()


def _made(name: str) -> int:
    while True:
        try:
            how = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(SHM / name, how, 0o600)
        except FileExistsError:
            _make_room(name)


def _make_room(name: str) -> None:
    try:
        left = leftover(name)
        if left.alive:
            message = f"pool {name.removesuffix(SUFFIX)!r} is being traced by pid {left.pid}"
            raise SegmentError(message, name=name, pid=left.pid)
        remove_leftover(name)
    except PoolNotFoundError:
        pass  # gone since we looked


class Leftover(NamedTuple):
    """A tracer's segment as others see it."""

    id: int
    pid: int  # of its tracer
    alive: bool
    bytes: int


def leftover(name: str) -> Leftover:
    """Whose a tracer's segment is. Raises SegmentError's kinds if it is something else."""
    with _opened(name) as fd:
        return _look(name, fd)


def _look(name: str, fd: int) -> Leftover:
    """By its lock: if it can be had, it is ours until `fd` is closed."""
    file = check_file(name, fd)
    raw = os.pread(fd, TRACE_HEADER.itemsize, 0).ljust(TRACE_HEADER.itemsize, b"\0")
    header = np.frombuffer(raw, TRACE_HEADER)[0]
    if header["magic"] != _core.TRACE_MAGIC:
        message = f"{name!r} in {SHM} is no trace, or one that is just being made: try again"
        raise SegmentError(message, name=name)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alive = False
    except BlockingIOError:
        alive = True
    return Leftover(int(header["id"]), int(header["pid"]), alive, file.st_blocks * 512)


def remove_leftover(name: str) -> bool:
    """Remove the segment of a dead tracer, and nothing else: whether that was done.

    Raises SegmentError's kinds if it is something else, or cannot be removed.
    """
    with _opened(name) as fd:
        return not _look(name, fd).alive and stands_for(name, fd) and remove(name)


def is_traced(pool: str) -> bool:
    """Whether there is a tracer's segment for a pool, and nothing else of that name."""
    try:
        leftover(trace_name(pool))
    except SegmentError:
        return False
    return True


def remove_trace(pool: str) -> bool:
    """Remove what traced a pool that is going, dead or not: whether there was something.

    A tracer that lives reads on in what it has open. What cannot be removed stays.
    """
    name = trace_name(pool)
    try:
        with _opened(name) as fd:
            _look(name, fd)
            return stands_for(name, fd) and remove(name)
    except SegmentError:  # it is not there, or something else
        return False


@contextmanager
def _opened(name: str) -> Iterator[int]:
    try:
        fd = os.open(SHM / name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PoolNotFoundError(f"there is no trace {name!r} in {SHM}", name=name) from None
    except OSError as error:
        raise SegmentError(f"{name!r} cannot be opened: {error}", name=name) from error
    try:
        yield fd
    finally:
        os.close(fd)


def traces() -> list[str]:
    """What seems to be a tracer's segment in shared memory, by its name."""
    there = (path.name for path in SHM.iterdir()) if SHM.is_dir() else ()
    return sorted(name for name in there if name.endswith(SUFFIX))


def switch(spec: PoolSpec, control: int, to: int, *, only: int | None = None) -> bool:
    """Tell the members of a pool whose control block is open which segment listens, 0 for none.

    With `only`, not if it is another one by now. Whether it was done. A word that two processes
    write at once may be of neither: then no member finds its segment, and nothing else happens.
    """
    at = _core.layout(spec.counts)["status"] + _core.RECORDS["status"]["trace"][0]
    if only is not None and os.pread(control, 8, at) != struct.pack("<Q", only):
        return False
    return os.pwrite(control, struct.pack("<Q", to), at) == 8
