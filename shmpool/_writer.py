"""A slot as a binary file, so that whatever writes to a file object renders into a slot."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, cast

import numpy as np

from shmpool._acquiring import acquire_or_none, shortage
from shmpool.errors import OutOfSharedMemoryError, SlotOverflowError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from shmpool._core import RightBase
    from shmpool._lease import Lease

_BYTE = np.dtype(np.uint8)


class SlotFile(io.BufferedIOBase):
    """A file over one slot, as long as the largest: `Lease.writer()` and `Lease.reader()`.

    It holds the lease, not its memory: a write after the lease is over raises
    StaleTicketError, and an open file is no view that would keep the lease from ending.
    Closing it describes the bytes to the receiver, whose `lease.array()` and
    `lease.reader()` then have exactly the bytes written. Blocks only where a write outgrows
    the slot and `writer(timeout=…)` allows it to wait for a larger one.
    """

    def __init__(
        self, lease: RightBase, size: int, *, writable: bool, timeout: float | None = 0
    ) -> None:
        self._lease = lease
        self._timeout = timeout
        self._size = size
        self._at = 0
        self._writable = writable
        self._told: int | None = None  # the size that was described

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes at the position. Raises SlotOverflowError, and then writes nothing.

        Moves the lease on to a larger slot if these bytes do not fit: see `Lease.writer`.
        """
        self._check(writing=True)
        with memoryview(data) as view:
            count = view.nbytes
            if not count:
                return 0
            if not view.c_contiguous:
                raise BufferError("the bytes to write do not lie together: copy them first")
            self._make_room(self._at + count)
            if self._at > self._size:
                self._fill(self._size, self._at)
            cast("Lease", self._lease)._write_at(self._at, view)
        self._at += count
        self._size = max(self._size, self._at)
        return count

    def _make_room(self, needed: int) -> None:
        if needed <= self._lease.nbytes:
            return
        self._lease._mapping.count_overflow()
        larger = self._larger(needed)
        self._told = None  # nobody has described the new slot
        try:
            self._move_to(larger)
        except BaseException:
            if larger.live:  # it is over if Ctrl-C came after the move
                larger.release()
            raise

    def _larger(self, needed: int) -> Lease:
        """A lease of a slot with so many bytes. Raises SlotOverflowError."""
        lease = self._lease
        facts = {"needed": needed, "slot_size": lease.nbytes}
        message = f"the slot has {lease.nbytes} bytes, at least {needed} were needed: "
        if needed > lease._mapping.spec.classes[-1].slot_size:
            message += f"create the pool with slot_size={needed} or more"
            raise SlotOverflowError(message, **facts)
        mapping = lease._mapping
        try:
            larger = acquire_or_none(mapping, needed, self._timeout)
        except OutOfSharedMemoryError as error:
            raise SlotOverflowError(f"{message}{error}", **facts) from error
        if larger is None:
            short = shortage(mapping, needed)
            message += (
                f"{short.where}; none came back in {self._timeout or 0:.3g} s: "
                f"writer(timeout=…) waits{short.below}"
            )
            raise SlotOverflowError(message, **facts, holders=short.holders)
        return larger

    def _move_to(self, larger: Lease) -> None:
        with memoryview(self._lease) as whole, whole[: self._size] as written:
            larger._write_at(0, written)
        lease = cast("Lease", self._lease)  # a Borrow has no writer
        if lease._mapping.record is not None:
            larger.header.assign(lease.header.copy())
        lease._move(larger)

    def _fill(self, start: int, end: int) -> None:
        """Zero the gap that a seek beyond the end leaves, as files do."""
        cast("Lease", self._lease)._write_at(start, bytes(end - start))

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes from the position, all that there are by default."""
        with self._view() as view:
            end = len(view) if size is None or size < 0 else min(len(view), self._at + size)
            data = bytes(view[self._at : end])
        self._at += len(data)
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """As `read`."""
        return self.read(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into a buffer: how many bytes."""
        with self._view() as view, memoryview(buffer).cast("B") as into:
            count = max(0, min(len(into), len(view) - self._at))
            into[:count] = view[self._at : self._at + count]
        self._at += count
        return count

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """As `readinto`."""
        return self.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move the position; beyond the end is allowed, and filled with zeros by a write."""
        self._check()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}.get(whence)
        if base is None:
            raise ValueError(f"whence is {whence}: 0, 1 or 2")
        if base + offset < 0:
            raise ValueError(f"a negative position: {base + offset}")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """The position, in bytes from the start of the slot."""
        self._check()
        return self._at

    def truncate(self, size: int | None = None, /) -> int:
        """Cut the file, or extend it with zeros, to `size` bytes: the position by default."""
        self._check(writing=True)
        size = self._at if size is None else size
        if size < 0:
            raise ValueError(f"a negative size: {size}")
        self._make_room(size)
        if size > self._size:
            self._fill(self._size, size)
        self._size = size
        return size

    def getbuffer(self) -> memoryview:
        """The bytes written so far, without a copy. A view: the lease cannot end under it."""
        return self._view()

    def _view(self) -> memoryview:
        self._check()
        view = memoryview(self._lease)[: self._size]
        return view if self._writable else view.toreadonly()

    def _check(self, *, writing: bool = False) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file over a slot")
        if writing and not self._writable:
            raise io.UnsupportedOperation("a reader: use lease.writer() to write")
        if writing:
            self._lease._check_writable()
        else:
            self._lease._check()

    def __del__(self) -> None:
        """Do not close: collected unclosed, it must not describe what has become of the slot."""

    def flush(self) -> None:
        """Describe the bytes written so far to whoever gets the slot.

        Raises SharedLeaseError if the lease was shared before that: close the file first.
        """
        lease = cast("Lease", self._lease)
        if not self._writable or self.closed or not lease.live or self._told == self._size:
            return
        lease._check_writable()
        lease._describe_as((self._size,), _BYTE)
        self._told = self._size

    def readable(self) -> bool:
        """True: what was written can be read back."""
        return True

    def writable(self) -> bool:
        """Whether this is a writer."""
        return self._writable

    def seekable(self) -> bool:
        """True."""
        return True
