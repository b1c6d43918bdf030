"""Leasing a slot where one has to wait for it: for whom, how long, and why in vain."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

from shmpool import _core, _wanting
from shmpool._attachment import Attachment
from shmpool._header import PoolSpec
from shmpool._layout import State
from shmpool._segment import out_of_memory
from shmpool._waiting import wait_for
from shmpool.errors import SizeError

if TYPE_CHECKING:
    from shmpool._lease import Lease


def acquire(mapping: Attachment, nbytes: int | None, timeout: float | None) -> Lease:
    """A lease of a slot of at least `nbytes` bytes: see `Pool.acquire`."""
    lease = acquire_or_none(mapping, nbytes, timeout)
    if lease is None:
        mapping.count_exhausted()
        smallest, starved = fitting(mapping.spec, nbytes), mapping.starved()
        raise _wanting.exhausted(mapping.spec, mapping.view(), smallest, timeout or 0.0, starved)
    return lease


def shortage(mapping: Attachment, nbytes: int) -> _wanting.Shortage:
    """Where all slots of at least `nbytes` bytes are."""
    smallest = fitting(mapping.spec, nbytes)
    return _wanting.shortage(mapping.spec, mapping.view(), smallest, mapping.starved())


def acquire_or_none(mapping: Attachment, nbytes: int | None, timeout: float | None) -> Lease | None:
    """As `acquire`, but None when the time is up."""
    smallest = fitting(mapping.spec, nbytes)
    things = tuple((_core.FOR_SLOT, i) for i in range(smallest, len(mapping.spec.classes)))

    def attempt() -> Lease | None:
        lease: Lease | None = mapping.try_acquire(smallest)
        if lease is None and mapping.starved() and not _anything_to_wait_for(mapping, smallest):
            raise out_of_memory(mapping.starved(), "one more slot")
        return lease

    def impatient(waited: float) -> None:
        spec, view, starved = mapping.spec, mapping.view(), mapping.starved()
        _wanting.warn_of_wait_for_slot(spec, view, smallest, waited, starved)

    return wait_for(mapping, things, attempt, timeout, impatient)


def fitting(spec: PoolSpec, nbytes: int | None) -> int:
    """Number of the smallest class with so many bytes. Raises SizeError."""
    if nbytes is not None and (isinstance(nbytes, bool) or not isinstance(nbytes, Integral)):
        raise TypeError(f"nbytes is {nbytes!r}: give a number of bytes, an integer")
    wanted = 0 if nbytes is None else nbytes
    for number, size_class in enumerate(spec.classes):
        if 0 <= wanted <= size_class.slot_size:
            return number
    largest = spec.classes[-1].slot_size
    what = "a slot of" if len(spec.classes) == 1 else "the largest slot, of"
    message = f"{nbytes} bytes do not fit into {what} {largest}"
    raise SizeError(message, needed=nbytes, slot_size=largest)


def _anything_to_wait_for(mapping: Attachment, smallest: int) -> bool:
    """Whether a slot that would do has memory, so that somebody may give it back."""
    first = mapping.spec.firsts[smallest]
    words = mapping.view().unpacked()[first:]
    # One that has an owner is having its memory fetched: it will be held, and given back.
    return any(w.owner or w.state not in (State.UNCOMMITTED, State.RETIRED) for w in words)
