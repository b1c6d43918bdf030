"""The plan of a pool: what `Pool.create` was asked for, checked before anything is made."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shmpool import _core, _leaks
from shmpool._header import (
    HISTORY,
    LEAKS,
    NAME,
    PAGED,
    REUSE,
    VIEWS,
    ClassSpec,
    Diagnostics,
    PoolSpec,
    QueueSpec,
    dtype_text,
)
from shmpool._process import Identity, pid_namespace
from shmpool._queue import QueueOptions
from shmpool._sizes import parse_size
from shmpool.errors import ArgumentError, SizeError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

QueueNames = Iterable[str] | Mapping[str, QueueOptions]
SizeClasses = Sequence[tuple[int | str, int] | tuple[int | str, int, int]]


def plan(
    classes: tuple[ClassSpec, ...], queues: QueueNames, name: str | None,
    header: DTypeLike | None, members: int, reuse: str, views: str, orphan_grace: float,
    diagnostics: Diagnostics,
) -> PoolSpec:  # fmt: skip
    """Check every argument of `Pool.create`. Raises SizeError or ArgumentError."""
    record = _record(header)
    policy = _one_of("views", views, VIEWS)
    return PoolSpec(
        name=_name(name),
        classes=tuple(c._replace(paged=views in PAGED, canary=diagnostics.canary) for c in classes),
        queues=_queues(queues),
        members=_in_range("members", members, _core.MAX_MEMBERS),
        coordinator=Identity.mine(),
        pid_namespace=pid_namespace(),
        uid=os.geteuid(),
        created_ns=time.time_ns(),
        record=record,
        record_text=dtype_text(record) if record is not None else b"",
        reuse=_one_of("reuse", reuse, REUSE),
        views=policy,
        orphan_grace_ns=_nanoseconds("orphan_grace", orphan_grace),
        diagnostics=diagnostics,
    )


def plan_diagnostics(
    *, debug: bool | None, poison: bool, leaks: str | None, lease_warning: float | None
) -> Diagnostics:
    """What the pool watches: debug by SHMPOOL_DEBUG unless told. Raises ArgumentError."""
    debug = poison or (_debug_asked_for() if debug is None else debug)
    _leaks.asked_level()  # a bad one is told before anything is made
    level = ("sampled" if debug else "off") if leaks is None else leaks
    return Diagnostics(
        history=HISTORY if debug else 0,
        poison=poison,
        leaks=_one_of("leaks", level, LEAKS),
        lease_warning_ns=_nanoseconds("lease_warning", lease_warning or 0),
    )


def _debug_asked_for() -> bool:
    return os.environ.get("SHMPOOL_DEBUG", "0") not in ("", "0")


def plan_classes(
    slots: int | None, slot_size: int | str | None, max_slots: int | None,
    classes: SizeClasses | None,
) -> tuple[ClassSpec, ...]:  # fmt: skip
    """The size classes, smallest first, from one way or the other to name them.

    Raises SizeError or ArgumentError.
    """
    if classes is None:
        if slots is None or slot_size is None:
            message = f"slots is {slots!r}, slot_size is {slot_size!r}: give both, or give classes="
            raise SizeError(message)
        return (_class(slots, slot_size, max_slots),)
    if (slots, slot_size, max_slots) != (None, None, None):
        raise ArgumentError("give either slots=, slot_size= (and max_slots=) or classes=")
    specs = sorted((_one_class(entry) for entry in classes), key=lambda c: c.slot_size)
    sizes = [c.slot_size for c in specs]
    if not 1 <= len(specs) <= _core.MAX_CLASSES or len(set(sizes)) != len(sizes):
        message = f"classes is {classes!r}: 1 to {_core.MAX_CLASSES} of them, each size once"
        raise SizeError(message)
    total = sum(c.max_count for c in specs)
    if total > _core.MAX_SLOTS:
        raise SizeError(f"{total} slots in all classes: at most {_core.MAX_SLOTS}")
    return tuple(specs)


def _one_class(entry: Any) -> ClassSpec:
    if isinstance(entry, str) or not isinstance(entry, Sequence) or len(entry) not in (2, 3):
        message = f"a class is {entry!r}: give (slot_size, count) or (slot_size, count, max_count)"
        raise ArgumentError(message)
    return _class(entry[1], entry[0], *entry[2:])


def _in_range(what: str, number: int, most: int, least: int = 1) -> int:
    if (
        isinstance(number, bool)
        or not isinstance(number, (int, np.integer))
        or not least <= number <= most
    ):
        raise SizeError(f"{what} is {number!r}: give an integer from {least} to {most}")
    return int(number)


def _one_of(what: str, value: str, values: tuple[str, ...]) -> int:
    if value not in values:
        raise ArgumentError(f"{what} is {value!r}: one of {', '.join(map(repr, values))}")
    return values.index(value)


def _nanoseconds(what: str, seconds: float) -> int:
    if not 0 <= seconds < 1e9:
        raise ArgumentError(f"{what} is {seconds!r}: give seconds from 0 to 1e9")
    return int(seconds * 1e9)


def _name(name: str | None) -> str:
    if name is None:
        return f"shmpool-{os.urandom(4).hex()}"
    if not NAME.fullmatch(name):
        raise ArgumentError(
            f"name is {name!r}: 1 to 48 letters, digits, '_', '-' and '.', the first no '-' or '.'"
        )
    return name


def _class(slots: int, slot_size: int | str, max_slots: int | None = None) -> ClassSpec:
    least = 1 if max_slots is None else 0  # with room to grow, one may begin with nothing
    count = _in_range("slots", slots, _core.MAX_SLOTS, least)
    nbytes = parse_size(slot_size, "slot_size")
    if not 1 <= nbytes <= 1 << 46:
        message = f"slot_size is {nbytes} bytes: at least 1, and no more than there is memory"
        raise SizeError(message)
    if max_slots is None:
        return ClassSpec(nbytes, count, count)
    return ClassSpec(nbytes, count, _in_range("max_slots", max_slots, _core.MAX_SLOTS, count or 1))


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


def check_spin(spin: float) -> None:
    """Raise ArgumentError for a spin that is no time."""
    if not 0 <= spin <= 1:
        raise ArgumentError(f"spin is {spin!r}: give seconds from 0, never, to 1")


def check_member_name(name: str) -> None:
    if not _utf8(name) or "\0" in name:
        raise ArgumentError(f"member_name is {name!r}: give text without a NUL")
