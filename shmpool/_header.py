"""The static part of a control block: what a pool is made of, written once, checked always.

A reader takes one private copy and believes nothing of it: magic, version, checksum,
every count, and that the sizes which follow from the counts are the sizes of the files.
"""

from __future__ import annotations

import ast
import itertools
import re
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from shmpool import _core
from shmpool._layout import CLASS, HEADER, QUEUE, Counts
from shmpool._process import Identity
from shmpool._sizes import show_size
from shmpool.errors import (
    ArgumentError,
    CorruptSegmentError,
    NotAPoolError,
    PoolNotReadyError,
    TruncatedSegmentError,
    VersionError,
)

PAGE = 4096
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,47}")
ON_DEATH = ("requeue", "free", "quarantine")
REUSE = ("warm", "cold")
VIEWS = ("fence", "raise", "copy", "ignore")
PAGED = ("fence", "copy")  # policies that protect whole pages
LEAKS = ("off", "sampled", "all")
HISTORY = 16  # transitions kept of each slot, in debug
_CHECKED_FROM = 16  # magic and checksum are not part of the checksum


class ClassSpec(NamedTuple):
    """Slots of one size: `count` with memory from the start, and room for `max_count`."""

    slot_size: int
    count: int  # type: ignore[assignment]  # hides a method of tuples, which nobody calls
    max_count: int
    paged: bool = False  # whole pages, whatever the size, so that each can be fenced by itself
    canary: int = 0  # bytes behind each slot that nobody may write to

    @property
    def stride(self) -> int:
        """Bytes from one slot to the next: whole pages for slots of a page or more."""
        unit = PAGE if self.paged or self.slot_size >= PAGE else _core.LINE
        return -(-(self.slot_size + self.canary) // unit) * unit

    @property
    def slab_size(self) -> int:
        """Bytes of the slab, as an address range."""
        return -(-self.stride * self.max_count // PAGE) * PAGE

    @property
    def committed_size(self) -> int:
        """Bytes of the slab that have memory behind them from the start."""
        return -(-self.stride * self.count // PAGE) * PAGE


class QueueSpec(NamedTuple):
    """A queue as it is stored: numbers for what QueueOptions says in words."""

    name: str
    on_death: int = 0
    max_attempts: int = 0
    dead_letter: int = 0
    maxsize: int = 0


class Diagnostics(NamedTuple):
    """What a pool watches beyond its work."""

    history: int = 0  # transitions kept of each slot
    poison: bool = False
    leaks: int = 0
    lease_warning_ns: int = 0

    @property
    def canary(self) -> int:
        """Bytes behind each slot that show an overrun."""
        return _core.LINE if self.poison else 0


class PoolSpec(NamedTuple):
    """Everything about a pool that never changes."""

    name: str
    classes: tuple[ClassSpec, ...]
    queues: tuple[QueueSpec, ...]
    members: int
    coordinator: Identity
    pid_namespace: int
    uid: int
    created_ns: int
    record: np.dtype[Any] | None = None
    reuse: int = 0
    views: int = 0
    orphan_grace_ns: int = 0
    diagnostics: Diagnostics = Diagnostics()
    record_text: bytes = b""

    @property
    def counts(self) -> Counts:
        """What the layout follows from."""
        classes = tuple((c.slot_size, c.stride, c.count, c.max_count) for c in self.classes)
        size = self.record.itemsize if self.record is not None else 0
        text, history = len(self.record_text), self.diagnostics.history
        return classes, len(self.queues), self.members, size, text, history

    @property
    def queue_counts(self) -> tuple[tuple[int, int, int, int], ...]:
        """The numbers of the queues, as the core takes them."""
        return tuple((q.on_death, q.max_attempts, q.dead_letter, q.maxsize) for q in self.queues)

    @property
    def slots(self) -> int:
        """How many slots have an address."""
        return sum(c.max_count for c in self.classes)

    @property
    def control_size(self) -> int:
        """Bytes of the control block's segment."""
        return -(-_core.layout(self.counts)["total_size"] // PAGE) * PAGE

    @property
    def payload_size(self) -> int:
        """Bytes of all slabs that have memory behind them from the start."""
        return sum(c.committed_size for c in self.classes)

    def class_of(self, slot: int) -> ClassSpec:
        """The class of a slot, by its number."""
        for size_class in self.classes:
            if slot < size_class.max_count:
                return size_class
            slot -= size_class.max_count
        raise IndexError(slot)

    @property
    def firsts(self) -> tuple[int, ...]:
        """Number of the first slot of each class."""
        counts = [0, *(c.max_count for c in self.classes)]
        return tuple(itertools.accumulate(counts))[:-1]


def dtype_text(dtype: np.dtype[Any]) -> bytes:
    """A dtype as text without pickles, in the manner of the .npy format.

    Raises ArgumentError for a dtype that has none: overlapping fields, Python objects.
    """
    if dtype.hasobject:
        raise ArgumentError(f"dtype {dtype} holds Python objects, which cannot be shared")
    try:
        return repr(npy.dtype_to_descr(dtype)).encode()
    except ValueError as error:
        raise ArgumentError(f"dtype {dtype} cannot be described: {error}") from error


def text_dtype(text: bytes) -> np.dtype[Any]:
    """The dtype that `dtype_text` wrote; ValueError for anything else."""
    try:
        dtype = npy.descr_to_dtype(ast.literal_eval(text.decode()))
    except (
        SyntaxError,
        TypeError,
        UnicodeDecodeError,
        IndexError,
        MemoryError,
        RecursionError,
        Warning,  # numpy's, of a type by a name that is going out of use
    ) as error:
        raise ValueError(f"no dtype: {text[:80]!r}") from error
    if dtype.hasobject:
        raise ValueError(f"a dtype with Python objects: {dtype}")
    return dtype


def encode(spec: PoolSpec) -> bytes:
    """The static part of a control block, the magic still missing."""
    at = _core.layout(spec.counts)
    block = bytearray(at["static_size"])
    header = np.ndarray((), HEADER, buffer=block)
    _fill_header(header, spec, at["total_size"])
    _fill_tables(block, spec, at)
    header["checksum"] = zlib.crc32(block[_CHECKED_FROM:])
    return bytes(block)


def _fill_header(header: np.ndarray[Any, Any], spec: PoolSpec, total_size: int) -> None:
    _, queues, members, record_size, record_text, history = spec.counts
    values = {
        "version": _core.VERSION, "total_size": total_size, "slots": spec.slots,
        "classes": len(spec.classes), "queues": queues, "members": members,
        "record_size": record_size, "record_text": record_text, "history": history,
        "reuse": spec.reuse, "views": spec.views, "orphan_grace_ns": spec.orphan_grace_ns,
        "poison": spec.diagnostics.poison, "leaks": spec.diagnostics.leaks,
        "lease_warning_ns": spec.diagnostics.lease_warning_ns,
        "uid": spec.uid, "pid_namespace": spec.pid_namespace,
        "coordinator_pid": spec.coordinator.pid,
        "coordinator_start": spec.coordinator.start_time,
        "coordinator_pidfd_inode": spec.coordinator.pidfd_inode,
        "created_ns": spec.created_ns, "name": spec.name.encode(),
    }  # fmt: skip
    for name, value in values.items():
        header[name] = value


def _fill_tables(block: bytearray, spec: PoolSpec, at: dict[str, int]) -> None:
    classes = np.ndarray((len(spec.classes),), CLASS, buffer=block, offset=at["classes"])
    for row, c in zip(classes, spec.classes, strict=True):
        row["slot_size"], row["stride"] = c.slot_size, c.stride
        row["count"], row["max_count"] = c.count, c.max_count
    queues = np.ndarray((len(spec.queues),), QUEUE, buffer=block, offset=at["queues"])
    for row, q in zip(queues, spec.queues, strict=True):
        row["name"], row["on_death"], row["maxsize"] = q.name.encode(), q.on_death, q.maxsize
        row["max_attempts"], row["dead_letter"] = q.max_attempts, q.dead_letter
    block[at["record"] : at["record"] + len(spec.record_text)] = spec.record_text


def decode(name: str, block: bytes, file_size: int) -> PoolSpec:
    """Read and check a private copy of a control block's first bytes.

    Raises NotAPoolError, PoolNotReadyError, VersionError, TruncatedSegmentError or
    CorruptSegmentError, each naming the fact and the numbers.
    """
    header = _checked_header(name, block)
    static_size = _static_size(header)
    if static_size > len(block):
        raise _truncated(name, len(block), static_size)
    static = block[:static_size]
    if zlib.crc32(static[_CHECKED_FROM:]) != int(header["checksum"]):
        message = f"pool {name!r}: the header's checksum does not match; the segment is corrupted"
        raise CorruptSegmentError(message, name=name)
    spec = _spec_from(name, header, static)
    if spec.name != name:
        message = f"{name!r} holds a copy of pool {spec.name!r}, which is not the pool itself"
        raise NotAPoolError(message, name=name)
    _check_sizes(spec, header, file_size)
    return spec


def _checked_header(name: str, block: bytes) -> np.ndarray[Any, Any]:
    if len(block) < HEADER.itemsize:
        message = f"{name!r} has {len(block)} bytes, a pool's header {HEADER.itemsize}: no pool"
        raise NotAPoolError(message, name=name)
    header: np.ndarray[Any, Any] = np.frombuffer(block, HEADER, 1)[0]
    magic, version = int(header["magic"]), int(header["version"])
    if magic == 0 and version in (0, _core.VERSION):
        message = f"pool {name!r} is still being made, or its maker died over it"
        raise PoolNotReadyError(message, name=name)
    if magic != _core.MAGIC:
        raise NotAPoolError(f"{name!r} is shared memory, but no pool of shmpool", name=name)
    if version != _core.VERSION:
        message = (
            f"pool {name!r} was made by a shmpool with layout version {version}, this one has "
            f"{_core.VERSION}: use the same release of shmpool in all processes"
        )
        raise VersionError(message, name=name, version=version)
    return header


def _static_size(header: np.ndarray[Any, Any]) -> int:
    size = HEADER.itemsize + int(header["classes"]) * CLASS.itemsize
    size += int(header["queues"]) * QUEUE.itemsize + int(header["record_text"])
    return -(-size // _core.LINE) * _core.LINE


def _truncated(name: str, have: int, need: int) -> TruncatedSegmentError:
    message = (
        f"pool {name!r}: the segment has {show_size(have)} ({have} bytes) where its header needs "
        f"{show_size(need)} ({need} bytes); something has truncated it"
    )
    return TruncatedSegmentError(message, name=name, size=have, needed=need)


def _spec_from(name: str, header: np.ndarray[Any, Any], static: bytes) -> PoolSpec:
    try:
        return _parse(header, static)
    except (ValueError, OverflowError) as error:
        message = f"pool {name!r}: the header contradicts itself ({error})"
        raise CorruptSegmentError(message, name=name) from error


def _parse(header: np.ndarray[Any, Any], static: bytes) -> PoolSpec:
    at = HEADER.itemsize
    classes = np.frombuffer(static, CLASS, int(header["classes"]), at)
    at += classes.nbytes
    queues = np.frombuffer(static, QUEUE, int(header["queues"]), at)
    at += queues.nbytes
    text = static[at : at + int(header["record_text"])]
    diagnostics = _parse_diagnostics(header)
    paged = int(header["views"]) < len(VIEWS) and VIEWS[int(header["views"])] in PAGED
    spec = PoolSpec(
        name=bytes(header["name"]).decode(),
        classes=tuple(
            ClassSpec(
                int(c["slot_size"]), int(c["count"]), int(c["max_count"]), paged, diagnostics.canary
            )
            for c in classes
        ),
        queues=tuple(_parse_queue(q) for q in queues),
        members=int(header["members"]),
        coordinator=Identity(
            int(header["coordinator_pid"]),
            int(header["coordinator_start"]),
            int(header["coordinator_pidfd_inode"]),
        ),
        pid_namespace=int(header["pid_namespace"]),
        uid=int(header["uid"]),
        created_ns=int(header["created_ns"]),
        record=text_dtype(text) if text else None,
        reuse=int(header["reuse"]),
        views=int(header["views"]),
        orphan_grace_ns=int(header["orphan_grace_ns"]),
        diagnostics=diagnostics,
        record_text=text,
    )
    _check_spec(spec, header, classes)
    return spec


def _parse_diagnostics(header: np.ndarray[Any, Any]) -> Diagnostics:
    names = ("history", "poison", "leaks", "lease_warning_ns")
    history, poison, leaks, warning = (int(header[name]) for name in names)
    if history not in (0, HISTORY) or poison > bool(history) or leaks >= len(LEAKS):
        raise ValueError("history, poison or leaks out of range")
    return Diagnostics(history, bool(poison), leaks, warning)


def _parse_queue(row: np.ndarray[Any, Any]) -> QueueSpec:
    name = bytes(row["name"]).decode()
    numbers = (int(row[field]) for field in ("on_death", "max_attempts", "dead_letter", "maxsize"))
    return QueueSpec(name, *numbers)


def _check_spec(
    spec: PoolSpec, header: np.ndarray[Any, Any], classes: np.ndarray[Any, Any]
) -> None:
    names = {q.name for q in spec.queues}
    rules = {
        "name": NAME.fullmatch(spec.name) is not None,
        "queue names": len(names) == len(spec.queues) and all(names),
        "strides": [c.stride for c in spec.classes] == classes["stride"].tolist(),
        "record size": spec.counts[3] == int(header["record_size"]),
        "reuse": spec.reuse < len(REUSE),
        "views": spec.views < len(VIEWS),
        "on_death": all(q.on_death < len(ON_DEATH) for q in spec.queues),
        "dead letters": all(q.dead_letter <= len(spec.queues) for q in spec.queues),
        "coordinator": 0 < spec.coordinator.pid < 1 << 31,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise ValueError(f"fields out of range: {', '.join(broken)}")
    _core.layout(spec.counts)  # ValueError for counts out of range


def _check_sizes(spec: PoolSpec, header: np.ndarray[Any, Any], file_size: int) -> None:
    total = _core.layout(spec.counts)["total_size"]
    if total != int(header["total_size"]) or spec.slots != int(header["slots"]):
        message = f"pool {spec.name!r}: the header's sizes do not follow from its counts"
        raise CorruptSegmentError(message, name=spec.name)
    if file_size < spec.control_size:
        raise _truncated(spec.name, file_size, spec.control_size)
