"""The borrow: a read-only right to a slot that its owner shares."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import DTypeLike

from shmpool import _core, _views
from shmpool._record import Record
from shmpool._ticket import Ticket
from shmpool._writer import SlotFile
from shmpool.errors import ArgumentError


class Borrow(_core.BorrowBase):
    """The right to read a shared slot, until `release()`, `with` or collection.

    Any number of members may hold one at once, and one process as many as it likes. Neither
    bytes nor description change meanwhile, even when the owner releases first: the last
    borrower then frees the slot. Supports the buffer protocol, read-only. Does not end while
    arrays or memoryviews of it are alive: `release()` then raises ViewsAliveError.

    >>> import shmpool
    >>> with shmpool.Pool.create(slots=1, slot_size=4096) as pool:
    ...     lease = pool.acquire()
    ...     lease.array(3, "u1")[:] = 7
    ...     ticket = lease.share()
    ...     with pool.borrow(ticket) as borrow:
    ...         lease.release()
    ...         int(borrow.array().sum()), pool.audit()["draining"]
    (21, 1)
    """

    __slots__ = ()

    def array(
        self, shape: int | Sequence[int] | None = None, dtype: DTypeLike | None = None
    ) -> _views.Array:
        """A zero-copy, read-only, C-contiguous array over the start of the slot.

        Without arguments it has the shape and dtype that the owner described. Raises
        ShapeError if it does not fit, or if nobody described the slot; StaleTicketError if
        the borrow is over.
        """
        asked = _views.asked_for(self, shape, dtype)
        return _views.over(self, *asked) if asked else _views.described(self)

    @property
    def header(self) -> Record:
        """The slot's record of the dtype given to `Pool.create(header=…)`, read-only.

        Raises ArgumentError if the pool has none.
        """
        if self._mapping.spec.record is None:
            raise ArgumentError("the pool has no header: create it with header=some_dtype")
        return Record(self)

    def reader(self) -> SlotFile:
        """A read-only binary file over the array that the owner described, or its written bytes.

        Raises ShapeError if nobody described the slot.
        """
        return SlotFile(self, _views.described(self).nbytes, writable=False)

    @property
    def ticket(self) -> Ticket:
        """The ticket by which the slot was borrowed: good for more borrows while it is shared."""
        return Ticket.of(self.slot, self.generation)

    def __str__(self) -> str:
        return str(self.ticket)

    def __repr__(self) -> str:
        over = "" if self.live else " (over)"
        return f"<Borrow {self} of pool {self._mapping.spec.name!r}, {self.nbytes} bytes{over}>"


_core.set_borrow_class(Borrow)
