"""The lease: the right of one process to one slot for one generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from shmpool import _core, _description
from shmpool._record import Record
from shmpool._ticket import Ticket
from shmpool._writer import SlotFile
from shmpool.errors import ArgumentError, ShapeError

Array = np.ndarray[Any, np.dtype[Any]]


class Lease(_core.LeaseBase):
    """The exclusive right to a slot, until `release()`, `with`, `put()`, `detach()` or collection.

    Supports the buffer protocol: `memoryview(lease)` is the whole slot, writable. Does not
    end while arrays or memoryviews of it are alive: `release()` then raises ViewsAliveError,
    and a lease that is collected gives its slot back when the last of them is.

    >>> import shmpool
    >>> with shmpool.Pool.create(slots=2, slot_size=4096) as pool, pool.acquire() as lease:
    ...     lease.array((2, 3), "u1")[:] = 7
    ...     int(lease.array().sum())
    42
    """

    __slots__ = ()

    def array(
        self, shape: int | Sequence[int] | None = None, dtype: DTypeLike | None = None
    ) -> Array:
        """A zero-copy, writable, C-contiguous array over the start of the slot.

        `array(shape, dtype)` also describes the slot: its receiver calls `array()` and gets
        the same shape and dtype. Contents are as the last holder left them, as in `np.empty`.

        Raises ShapeError if it does not fit, or if nobody described the slot; StaleTicketError
        if the lease is over.
        """
        if shape is None and dtype is None:
            return self._described()
        if shape is None or dtype is None:
            raise ArgumentError("array() takes both shape and dtype, or neither")
        lengths = _description.lengths(shape)
        kind = np.dtype(dtype)
        self._check()
        _description.check_fits(lengths, kind, self.nbytes)
        self._describe_as(lengths, kind)
        # In no variable: a traceback that is kept would be a view.
        return np.ndarray(lengths, kind, buffer=self._memory())

    def _described(self) -> Array:
        description = self._description()
        if not description:
            message = f"nobody described slot {self.slot}: call array(shape, dtype)"
            raise ShapeError(message, slot=self.slot)
        shape, dtype = _description.decode(description)
        _description.check_fits(shape, dtype, self.nbytes)
        return np.ndarray(shape, dtype, buffer=self._memory())

    def _describe_as(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._describe(_description.encode(shape, dtype))

    @property
    def header(self) -> Record:
        """The slot's record of the dtype given to `Pool.create(header=…)`; it travels along.

        Contents are as the last holder left them. Raises ArgumentError if the pool has none.
        """
        if self._mapping.spec.record is None:
            raise ArgumentError("the pool has no header: create it with header=some_dtype")
        return Record(self)

    def writer(self) -> SlotFile:
        """An empty binary file over the slot, for whatever writes to a file object.

        >>> import json, io, shmpool
        >>> with shmpool.Pool.create(slots=1, slot_size="64 KiB") as pool, pool.acquire() as lease:
        ...     with lease.writer() as file:
        ...         _ = file.write(json.dumps({"answer": 42}).encode())
        ...     bytes(lease.array())
        b'{"answer": 42}'
        """
        self._check()
        return SlotFile(self, 0, writable=True)

    def reader(self) -> SlotFile:
        """A read-only binary file over the array that the sender described, or its written bytes.

        Raises ShapeError if nobody described the slot.
        """
        return SlotFile(self, self._described().nbytes, writable=False)

    def detach(self) -> Ticket:
        """End the lease and return its ticket, to travel by any channel and be claimed once.

        Raises as `release()`. A ticket that nobody claims holds its slot while this process
        lives, and for the pool's `orphan_grace` after.
        """
        return Ticket(self._detach())

    @property
    def ticket(self) -> Ticket:
        """Slot and generation of this lease, as an integer to compare with. Not a right."""
        return Ticket.of(self.slot, self.generation)

    def __str__(self) -> str:
        return str(self.ticket)

    def __repr__(self) -> str:
        over = "" if self.live else " (over)"
        return f"<Lease {self} of pool {self._mapping.spec.name!r}, {self.nbytes} bytes{over}>"


_core.set_lease_class(Lease)
