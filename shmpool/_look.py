"""Looking at pools from outside: nothing is mapped or written, and no member index is taken.

Each look is a private copy, read from the file by pread. It cannot be SIGBUS, whatever is cut
meanwhile, and a descriptor that was opened to read cannot write. A word may be read while it
changes: it is then of one moment or the other, and nothing is done on the strength of it but to
show it.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shmpool import _core, _description, _survey
from shmpool._attachment import Attachment, slab_name
from shmpool._create import STATIC_MOST, read
from shmpool._header import NAME, PoolSpec, decode
from shmpool._layout import SHEET, SLOT, TRANSITION, ControlView, Word
from shmpool._life import Life, life
from shmpool._process import Identity
from shmpool._segment import SHM, check_file, opened_to_read, read_at
from shmpool._statistics import PoolStatistics
from shmpool.errors import (
    ArgumentError,
    NotAPoolError,
    PoolNotReadyError,
    SegmentError,
)

_SLAB = re.compile(r"(.+)\.slab\d+")


@dataclass(frozen=True, slots=True)
class Look:
    """A pool as it was a moment ago."""

    spec: PoolSpec
    view: ControlView  # over a private copy: sheets and history of at most one slot
    copy: np.ndarray[Any, Any] = field(repr=False)
    when_ns: int  # by time.monotonic_ns()
    coordinator: Life
    named: bool = True  # its name still leads to it

    def statistics(self) -> PoolStatistics:
        """As `Pool.statistics` says it. Raises CorruptSegmentError."""
        return _survey.pool_statistics(self.spec, self.view, self.when_ns)

    def member_life(self, member: int) -> Life:
        """Whether the process in an entry of the member table lives."""
        row = self.view.members[member]
        pid = self.view.pid(member)
        if not 0 < pid < 1 << 31:  # nothing that was ever a process
            return Life.UNKNOWN
        return life(self.spec, Identity(pid, int(row["start_time"]), int(row["pidfd_inode"])))

    def sheet(self, slot: int) -> np.ndarray[Any, Any]:
        """The bytes of a slot's sheet and header record, if the look was at that slot."""
        at = _core.layout(self.spec.counts)
        begin = at["sheets"] + slot * at["sheet_stride"]
        return self.copy[begin : begin + at["sheet_stride"]]

    def age(self, since_ns: int) -> float:
        """Seconds since a moment by the monotonic clock."""
        return max(0.0, (self.when_ns - since_ns) / 1e9)


@dataclass(frozen=True, slots=True)
class SlotBytes:
    """The bytes of a slot, and the slot's word before and after they were read."""

    data: bytes
    before: Word
    after: Word
    shape: tuple[int, ...] | None  # of the described array, None if nothing is described
    dtype: np.dtype[Any] | None

    @property
    def changed(self) -> bool:
        """Whether the slot changed hands meanwhile: the bytes may be of two holders."""
        return self.before != self.after

    def array(self) -> np.ndarray[Any, Any]:
        """The described array. Raises ArgumentError if none is, ShapeError if it does not fit."""
        if self.shape is None or self.dtype is None:
            raise ArgumentError("the slot has no description: its holder wrote plain bytes")
        _description.check_fits(self.shape, self.dtype, len(self.data))
        return np.ndarray(self.shape, self.dtype, buffer=self.data)


def names() -> list[str]:
    """What seems to be a control block in shared memory: by its first bytes, or its slab's name."""
    there = {entry.name for entry in os.scandir(SHM)} if SHM.is_dir() else set()
    return sorted(name for name in there if NAME.fullmatch(name) and _seems_a_pool(name, there))


def _seems_a_pool(name: str, there: set[str]) -> bool:
    slab = _SLAB.fullmatch(name)
    if slab and slab[1] in there:
        return False  # what lies in slots may look like anything
    try:
        if not stat.S_ISREG((SHM / name).lstat().st_mode):
            return False
        with opened_to_read(name) as fd:
            first = os.pread(fd, 12, 0).ljust(12, b"\0")
    except OSError:  # a SegmentError is one
        first = bytes(12)
    magic, version = struct.unpack("<QI", first)
    forming = magic == 0 and version == _core.VERSION
    return magic == _core.MAGIC or forming or slab_name(name, 0) in there


def look(name: str, slot: int | None = None) -> Look:
    """Copy the tables of a pool, and the sheet and history of one slot.

    Raises SegmentError's kinds, and ArgumentError for a slot that is none.
    """
    with _opened(name) as control:
        return _through(name, control, slot)


@contextmanager
def watching(name: str) -> Iterator[Callable[[], Look]]:
    """What looks at a pool anew at each call, by one descriptor: also when the name is gone.

    Raises what `look` raises, and so do the calls.
    """
    with _opened(name) as control:
        yield lambda: _through(name, control)


def _through(name: str, control: int, slot: int | None = None) -> Look:
    spec = read(name, control)
    check_slot(spec, slot)
    copy = _copy(spec, control, slot)
    when_ns, named = time.monotonic_ns(), os.fstat(control).st_nlink > 0
    view = ControlView(copy, spec.counts)
    return Look(spec, view, copy, when_ns, life(spec, spec.coordinator), named)


def glance(mapping: Attachment) -> Look:
    """The same of a pool that this process has mapped, whether or not its names are there."""
    spec = mapping.spec
    copy = np.zeros(_core.layout(spec.counts)["total_size"], np.uint8)
    tables = _core.layout(spec.counts)["sheets"]
    copy[:tables] = np.frombuffer(mapping.control(), np.uint8)[:tables]
    when = time.monotonic_ns()
    return Look(spec, ControlView(copy, spec.counts), copy, when, life(spec, spec.coordinator))


@contextmanager
def _opened(name: str) -> Iterator[int]:
    if not NAME.fullmatch(name):  # before it is taken for a path
        raise NotAPoolError(f"{name!r} is no name of a pool", name=name)
    with opened_to_read(name) as control:
        yield control


def check_slot(spec: PoolSpec, slot: int | None) -> None:
    """Raise ArgumentError if a pool has no such slot."""
    if slot is not None and not 0 <= slot < spec.slots:
        raise ArgumentError(f"slot {slot}: pool {spec.name!r} has slots 0 to {spec.slots - 1}")


def _copy(spec: PoolSpec, control: int, slot: int | None) -> np.ndarray[Any, Any]:
    at = _core.layout(spec.counts)
    # Zeros cost nothing until they are touched: of sheets and history most never are. Rings stay
    # zeros: they are hints that may be stale, often most of the tables, and nobody shows them.
    copy = np.zeros(at["total_size"], np.uint8)
    for begin, end in ((0, at["rings"]), (at["slots"], at["sheets"])):
        _read_into(copy[begin:end], spec, control, begin)
    if slot is None:
        return copy
    offset = at["sheets"] + slot * at["sheet_stride"]
    _read_into(copy[offset : offset + at["sheet_stride"]], spec, control, offset)
    if spec.diagnostics.history:
        length = (1 + spec.diagnostics.history) * TRANSITION.itemsize
        offset = at["history"] + slot * length
        copy[offset : offset + length] = _history(spec, control, offset, length)
    return copy


def _read_into(part: np.ndarray[Any, Any], spec: PoolSpec, control: int, offset: int) -> None:
    read_at(spec.name, control, part.data, offset)


def _history(spec: PoolSpec, control: int, offset: int, length: int) -> np.ndarray[Any, Any]:
    """A slot's history, without the entries that changed meanwhile: as `_story` reads it."""
    three = np.zeros((3, length), np.uint8)  # for the turns before, the entries, the turns after
    for copy in three:
        _read_into(copy, spec, control, offset)
    before, entries, after = three.view(TRANSITION)
    changed = (before["turn"] != entries["turn"]) | (entries["turn"] != after["turn"])
    entries["turn"][changed] = 0
    kept: np.ndarray[Any, Any] = three[1]
    return kept


def read_slot(name: str, slot: int) -> SlotBytes:
    """Copy the bytes of a slot to which nobody gave us a right: the words say if it held still.

    Raises SegmentError's kinds, and ArgumentError for a slot that is none.
    """
    with _opened(name) as control:
        spec = read(name, control)
        check_slot(spec, slot)
        before, delivery = _row(spec, control, slot)
        described = _describe(spec, control, slot) if delivery & 0xFFFFFFFF else (None, None)
        data = _payload(spec, slot)
        after, _ = _row(spec, control, slot)
    return SlotBytes(data, before, after, *described)


def _row(spec: PoolSpec, control: int, slot: int) -> tuple[Word, int]:
    row = np.zeros((), SLOT)
    offset = _core.layout(spec.counts)["slots"] + slot * SLOT.itemsize
    _read_into(row.reshape(1).view(np.uint8), spec, control, offset)
    return Word.unpack(int(row["word"])), int(row["delivery"])


def _describe(
    spec: PoolSpec, control: int, slot: int
) -> tuple[tuple[int, ...] | None, np.dtype[Any] | None]:
    at, sheet = _core.layout(spec.counts), bytearray(SHEET.itemsize)
    read_at(spec.name, control, memoryview(sheet), at["sheets"] + slot * at["sheet_stride"])
    return _description.decode(bytes(sheet))


def _payload(spec: PoolSpec, slot: int) -> bytes:
    number = max(n for n, first in enumerate(spec.firsts) if first <= slot)
    size_class, name = spec.classes[number], slab_name(spec.name, number)
    data = bytearray(size_class.slot_size)
    with opened_to_read(name) as slab:
        check_file(name, slab, size_class.slab_size)
        read_at(name, slab, memoryview(data), (slot - spec.firsts[number]) * size_class.stride)
    return bytes(data)


def maker(name: str, control: int) -> PoolSpec:
    """The spec of a pool, or of one that is being made, if its header is whole already.

    Raises SegmentError's kinds.
    """
    try:
        return read(name, control)
    except PoolNotReadyError as forming:
        block = os.pread(control, STATIC_MOST, 0)
        as_if = struct.pack("<Q", _core.MAGIC) + block[8:]
        try:
            return decode(name, as_if, os.fstat(control).st_size)
        except SegmentError:
            raise forming from None
