"""Making a pool by its plan: segments that have memory, then the magic. And joining one."""

from __future__ import annotations

import os

import numpy as np

from shmpool import _core
from shmpool._attachment import Attachment, attach, slab_name
from shmpool._header import NAME, PoolSpec, decode, encode
from shmpool._layout import Status
from shmpool._life import Life, life, why_unknown
from shmpool._orphan import remove_all
from shmpool._plan import check_member_name, check_spin
from shmpool._process import is_alive, pid_namespace
from shmpool._segment import Segment, check_file, check_room, opened
from shmpool._sizes import show_size
from shmpool._tracing import remove_trace
from shmpool.errors import (
    CoordinatorDiedError,
    NotAPoolError,
    OrphanedPoolError,
    PidNamespaceError,
    PoolClosedError,
    PoolExistsError,
    SegmentError,
    ShmpoolError,
)

STATIC_MOST = 1 << 20  # bytes of a header that anybody would believe


class Estate:
    """The segments that a coordinator made and has to unlink."""

    __slots__ = ("segments",)

    def __init__(self) -> None:
        self.segments: list[Segment] = []

    def unlink(self) -> None:
        """Remove every name. Idempotent."""
        if self.segments:  # while the first of them is there, nobody else makes this pool
            remove_trace(self.segments[0].name)
        while self.segments:
            self.segments.pop().unlink()


def make(spec: PoolSpec, spin: float, member_name: str) -> tuple[Attachment, Estate]:
    """Make the segments of a pool and map them; not open yet, see `open_up`.

    Raises PoolExistsError, OrphanedPoolError or OutOfSharedMemoryError; nothing is then
    left behind, and nothing that was there before is touched.
    """
    check_spin(spin)
    check_member_name(member_name)
    what = ", ".join(f"{c.count} slots of {show_size(c.stride)}" for c in spec.classes)
    check_room(spec.control_size + spec.payload_size, what)
    estate = Estate()
    try:
        mapping = _make_in(estate, spec, spin)
        mapping.enter(member_name)
    except BaseException:
        estate.unlink()
        raise
    return mapping, estate


def _make_in(estate: Estate, spec: PoolSpec, spin: float) -> Attachment:
    control_size = spec.control_size
    estate.segments.append(_new_segment(spec.name, spec.name, control_size, control_size))
    for number, size_class in enumerate(spec.classes):
        name = slab_name(spec.name, number)
        sizes = size_class.slab_size, size_class.committed_size
        estate.segments.append(_new_segment(spec.name, name, *sizes))
    with opened(spec.name) as control:
        os.pwrite(control, encode(spec), 0)
        mapping = attach(spec, control, spin)
    mapping.format()
    return mapping


def _new_segment(pool: str, name: str, size: int, committed: int) -> Segment:
    try:
        return Segment(name, size, committed)
    except FileExistsError:
        raise _taken(pool) from None


def open_up(mapping: Attachment) -> None:
    """Let others attach: the magic is the last thing written."""
    mapping.status = Status.OPEN
    np.ndarray((), np.uint64, buffer=mapping.control())[...] = _core.MAGIC


def _taken(name: str) -> SegmentError:
    try:
        spec = inspect(name)
    except ShmpoolError as error:
        message = f"the name {name!r} is taken, by something that is no usable pool: {error}"
        return PoolExistsError(message, name=name)
    pid, found = spec.coordinator.pid, life(spec, spec.coordinator)
    if found is Life.ALIVE:
        message = (
            f"pool {name!r} exists, made by pid {pid}, which is alive: attach to it, "
            f"or choose another name"
        )
        return PoolExistsError(message, name=name, pid=pid)
    if found is Life.UNKNOWN:
        message = (
            f"pool {name!r} exists: its coordinator (pid {pid}) {why_unknown(spec)}; "
            f"choose another name"
        )
        return PoolExistsError(message, name=name, pid=pid)
    message = (
        f"pool {name!r} was left behind by pid {pid}, which is dead: "
        f"shmpool.remove_orphan({name!r}) removes it"
    )
    return OrphanedPoolError(message, name=name, pid=pid)


def inspect(name: str) -> PoolSpec:
    """Read and check the header of a pool by name, and nothing else.

    Raises SegmentError's kinds.
    """
    if not NAME.fullmatch(name):
        raise NotAPoolError(f"{name!r} is no name of a pool", name=name)
    with opened(name) as control:
        return read(name, control)


def read(name: str, control: int) -> PoolSpec:
    """The spec of a pool whose control block is open. Raises SegmentError's kinds."""
    file = check_file(name, control)
    return decode(name, os.pread(control, STATIC_MOST, 0), file.st_size)


def join(name: str, spin: float, member_name: str) -> Attachment:
    """Check a pool by name, map it, and become a member.

    Raises SegmentError's kinds, PoolClosedError, CoordinatorDiedError, TooManyMembersError.
    """
    if not NAME.fullmatch(name):
        raise NotAPoolError(f"{name!r} is no name of a pool", name=name)
    check_spin(spin)
    check_member_name(member_name)
    with opened(name) as control:
        spec = read(name, control)
        _check_namespace(spec)
        mapping = attach(spec, control, spin)
    if mapping.status == Status.CLOSED:
        raise PoolClosedError(f"pool {name!r} was closed by its coordinator")
    if not is_alive(spec.coordinator):
        message = (
            f"the coordinator of pool {name!r} (pid {spec.coordinator.pid}) is dead: "
            f"shmpool.remove_orphan({name!r}) removes what it left"
        )
        raise CoordinatorDiedError(message, pid=spec.coordinator.pid)
    try:
        mapping.enter(member_name)
    except BaseException:
        mapping.refused()  # the error's traceback may keep the mapping for long
        raise
    return mapping


def _check_namespace(spec: PoolSpec) -> None:
    mine = pid_namespace()
    if mine != spec.pid_namespace:
        message = (
            f"pool {spec.name!r} lives in pid namespace {spec.pid_namespace}, this process in "
            f"{mine}: its coordinator could not see us die; run both in one (docker run --pid=…)"
        )
        raise PidNamespaceError(message, name=spec.name)


def _check_dead(spec: PoolSpec) -> None:
    name, pid = spec.name, spec.coordinator.pid
    found = life(spec, spec.coordinator)
    if found is Life.ALIVE:
        raise PoolExistsError(f"pool {name!r} is alive (pid {pid}): close it instead", name=name)
    if found is Life.UNKNOWN:
        message = f"the coordinator of pool {name!r} (pid {pid}) {why_unknown(spec)}"
        raise PoolExistsError(message, name=name)


def remove_orphan(name: str) -> list[str]:
    """Remove what a dead coordinator left in shared memory: the names removed.

    Raises PoolExistsError if it is alive, or may be (in another pid namespace it cannot be seen),
    and whatever `inspect` finds wrong. Touches nothing then.

    >>> import shmpool
    >>> with shmpool.Pool.create(slots=1, slot_size=64, name="doctest-alive"):
    ...     shmpool.remove_orphan("doctest-alive")
    Traceback (most recent call last):
        ...
    shmpool.errors.PoolExistsError: pool 'doctest-alive' is alive (...): close it instead
    """
    spec = inspect(name)
    _check_dead(spec)
    with opened(name) as control:
        if read(name, control) != spec:
            raise PoolExistsError(f"pool {name!r} was made anew meanwhile", name=name)
        return remove_all(spec, control)
