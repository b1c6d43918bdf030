"""Making a pool: a plan that has been checked, then segments that have memory, then the magic."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from shmpool import _core
from shmpool._attachment import Attachment, attach, slab_name
from shmpool._doorbell import remove_bell
from shmpool._header import (
    NAME,
    REUSE,
    VIEWS,
    ClassSpec,
    PoolSpec,
    QueueSpec,
    decode,
    dtype_text,
    encode,
)
from shmpool._layout import Status
from shmpool._process import Identity, is_alive, pid_namespace
from shmpool._queue import QueueOptions
from shmpool._segment import Segment, check_file, check_room, opened, remove
from shmpool._sizes import parse_size, show_size
from shmpool.errors import (
    ArgumentError,
    CoordinatorDiedError,
    NotAPoolError,
    OrphanedPoolError,
    PidNamespaceError,
    PoolClosedError,
    PoolExistsError,
    SegmentError,
    ShmpoolError,
    SizeError,
)

QueueNames = Iterable[str] | Mapping[str, QueueOptions]
_STATIC_MOST = 1 << 20  # bytes of a header that anybody would believe


@dataclass(slots=True)
class Estate:
    """The segments that a coordinator made and has to unlink."""

    segments: list[Segment] = field(default_factory=list)

    def unlink(self) -> None:
        """Remove every name. Idempotent."""
        while self.segments:
            self.segments.pop().unlink()


def plan(
    slots: int, slot_size: int | str, queues: QueueNames, name: str | None,
    header: DTypeLike | None, members: int, reuse: str, views: str, orphan_grace: float,
) -> PoolSpec:  # fmt: skip
    """Check every argument of `Pool.create`. Raises SizeError or ArgumentError."""
    record = _record(header)
    return PoolSpec(
        name=_name(name),
        classes=(_class(slots, parse_size(slot_size, "slot_size")),),
        queues=_queues(queues),
        members=_in_range("members", members, _core.MAX_MEMBERS),
        coordinator=Identity.mine(),
        pid_namespace=pid_namespace(),
        uid=os.geteuid(),
        created_ns=time.time_ns(),
        record=record,
        record_text=dtype_text(record) if record is not None else b"",
        reuse=_one_of("reuse", reuse, REUSE),
        views=_one_of("views", views, VIEWS),
        orphan_grace_ns=_nanoseconds("orphan_grace", orphan_grace),
    )


def _in_range(what: str, number: int, most: int) -> int:
    if (
        isinstance(number, bool)
        or not isinstance(number, (int, np.integer))
        or not 1 <= number <= most
    ):
        raise SizeError(f"{what} is {number!r}: give an integer from 1 to {most}")
    return int(number)


def _one_of(what: str, value: str, values: tuple[str, ...]) -> int:
    if value not in values:
        raise ArgumentError(f"{what} is {value!r}: one of {', '.join(map(repr, values))}")
    return values.index(value)


def _nanoseconds(what: str, seconds: float) -> int:
    if not 0 <= seconds < 1e9:
        raise ArgumentError(f"{what} is {seconds!r}: give seconds from 0 to 1e9")
    return int(seconds * 1e9)


def _check_spin(spin: float) -> None:
    """Raise ArgumentError for a spin that is no time."""
    if not 0 <= spin <= 1:
        raise ArgumentError(f"spin is {spin!r}: give seconds from 0, never, to 1")


def _check_member_name(name: str) -> None:
    if not _utf8(name) or "\0" in name:
        raise ArgumentError(f"member_name is {name!r}: give text without a NUL")


def _name(name: str | None) -> str:
    if name is None:
        return f"shmpool-{secrets.token_hex(4)}"
    if not NAME.fullmatch(name):
        raise ArgumentError(
            f"name is {name!r}: 1 to 48 letters, digits, '_', '-' and '.', the first no '-' or '.'"
        )
    return name


def _class(slots: int, slot_size: int) -> ClassSpec:
    count = _in_range("slots", slots, _core.MAX_SLOTS)
    if not 1 <= slot_size <= 1 << 46:
        raise SizeError(
            f"slot_size is {slot_size} bytes: at least 1, and no more than there is memory"
        )
    return ClassSpec(slot_size, count, count)


def _queues(queues: QueueNames) -> tuple[QueueSpec, ...]:
    if isinstance(queues, str):
        raise ArgumentError(f"queues is {queues!r}: give a tuple of names, ({queues!r},)")
    listed = list(queues)
    options = queues if isinstance(queues, Mapping) else dict.fromkeys(listed, QueueOptions())
    names = list(options)
    if not isinstance(queues, Mapping) and len(names) != len(listed):
        raise ArgumentError(f"queues is {listed}: each name once")
    if len(names) > _core.MAX_QUEUES:
        raise SizeError(f"{len(names)} queues: at most {_core.MAX_QUEUES}")
    for name in names:
        if not isinstance(name, str) or not 1 <= len(_utf8(name)) <= 31 or "\0" in name:
            raise ArgumentError(f"a queue is named {name!r}: 1 to 31 bytes of text")
        if not isinstance(options[name], QueueOptions):
            raise ArgumentError(f"queue {name!r} has {options[name]!r}: give QueueOptions")
    return tuple(options[name].spec(name, names) for name in names)


def _utf8(text: str) -> bytes:
    """A text as bytes, none if it has no such form (half a surrogate pair)."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return b""


def _record(header: DTypeLike | None) -> np.dtype[Any] | None:
    if header is None:
        return None
    try:
        dtype = np.dtype(header)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"header is {header!r}, no dtype: {error}") from error
    if dtype.names is None or dtype.hasobject:
        raise ArgumentError(f"header is {dtype}: give a structured dtype without Python objects")
    if dtype.itemsize > _core.MAX_RECORD or len(dtype_text(dtype)) > _core.MAX_RECORD:
        raise SizeError(f"header has {dtype.itemsize} bytes: at most {_core.MAX_RECORD}")
    return dtype


def make(spec: PoolSpec, spin: float, member_name: str) -> tuple[Attachment, Estate]:
    """Make the segments of a pool and map them; not open yet, see `open_up`.

    Raises PoolExistsError, OrphanedPoolError or OutOfSharedMemoryError; nothing is then
    left behind, and nothing that was there before is touched.
    """
    _check_spin(spin)
    _check_member_name(member_name)
    what = f"{spec.slots} slots of {show_size(spec.classes[0].stride)}"
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
    estate.segments.append(_new_segment(spec.name, spec.name, spec.control_size))
    for number, size_class in enumerate(spec.classes):
        name = slab_name(spec.name, number)
        estate.segments.append(_new_segment(spec.name, name, size_class.slab_size))
    with opened(spec.name) as control:
        os.pwrite(control, encode(spec), 0)
        mapping = attach(spec, control, spin)
    mapping.format()
    return mapping


def _new_segment(pool: str, name: str, size: int) -> Segment:
    try:
        return Segment(name, size)
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
    pid = spec.coordinator.pid
    if is_alive(spec.coordinator):
        message = (
            f"pool {name!r} exists, made by pid {pid}, which is alive: attach to it, "
            f"or choose another name"
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
        return _read(name, control)


def _read(name: str, control: int) -> PoolSpec:
    file = check_file(name, control)
    return decode(name, os.pread(control, _STATIC_MOST, 0), file.st_size)


def join(name: str, spin: float, member_name: str) -> Attachment:
    """Check a pool by name, map it, and become a member.

    Raises SegmentError's kinds, PoolClosedError, CoordinatorDiedError, TooManyMembersError.
    """
    if not NAME.fullmatch(name):
        raise NotAPoolError(f"{name!r} is no name of a pool", name=name)
    _check_spin(spin)
    _check_member_name(member_name)
    with opened(name) as control:
        spec = _read(name, control)
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
    mapping.enter(member_name)
    return mapping


def _check_namespace(spec: PoolSpec) -> None:
    mine = pid_namespace()
    if mine != spec.pid_namespace:
        message = (
            f"pool {spec.name!r} lives in pid namespace {spec.pid_namespace}, this process in "
            f"{mine}: its coordinator could not see us die; run both in one (docker run --pid=…)"
        )
        raise PidNamespaceError(message, name=spec.name)


def remove_orphan(name: str) -> list[str]:
    """Remove what a dead coordinator left in shared memory: the names removed.

    Raises PoolExistsError if it is alive, PoolNotReadyError if that cannot be told, and
    whatever `inspect` finds wrong. Touches nothing then.

    >>> import shmpool
    >>> with shmpool.Pool.create(slots=1, slot_size=64, name="doctest-alive"):
    ...     shmpool.remove_orphan("doctest-alive")
    Traceback (most recent call last):
        ...
    shmpool.errors.PoolExistsError: pool 'doctest-alive' is alive (...): close it instead
    """
    spec = inspect(name)
    if is_alive(spec.coordinator):
        message = f"pool {name!r} is alive (pid {spec.coordinator.pid}): close it instead"
        raise PoolExistsError(message, name=name)
    segments = [slab_name(name, number) for number in range(len(spec.classes))] + [name]
    removed = [segment for segment in segments if remove(segment)]
    bells = [f"sem.{name}.{i}" for i in range(1, spec.members + 1) if remove_bell(name, i)]
    return removed + bells
