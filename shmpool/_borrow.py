"""The borrow: a read-only right to a slot that its owner shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shmpool import _core, _right
from shmpool._right import Array, Right

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@_core.own_methods
class Borrow(Right, _core.BorrowBase):
    """The right to read a shared slot, until `release()`, `with` or collection.

    Any number of members may hold one at once, and one process as many as it likes. Neither
    bytes nor description change meanwhile, even when the owner releases first: the last
    borrower then frees the slot. Supports the buffer protocol, read-only. Views that
    are alive when it ends are cut off, or whatever the pool's `views` says: see Pool.create.

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

    def _array_slow(
        self, shape: int | Sequence[int] | None = None, dtype: DTypeLike | None = None
    ) -> Array:
        asked = _right.asked_for(self, shape, dtype)
        return _right.over(self, *asked) if asked else _right.described(self)


_core.set_borrow_class(Borrow)
