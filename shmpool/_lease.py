"""The lease: the right of one process to one slot for one generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shmpool import _core, _description, _explain, _right
from shmpool._right import Array, Right
from shmpool._ticket import Ticket
from shmpool._writer import SlotFile

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@_core.own_methods
class Lease(Right, _core.LeaseBase):
    """The exclusive right to a slot, until `release()`, `with`, `put()`, `detach()` or collection.

    `share()` lets others read along; the slot is then read-only, for its owner too. Supports
    the buffer protocol: `memoryview(lease)` is the whole slot, writable. Arrays and
    memoryviews that are alive when it ends are cut off from the slot, and touching one raises
    UseAfterReleaseError, or whatever the pool's `views` says: see Pool.create. A lease that is
    collected, or left by `leave_to_views()`, gives its slot back when the last of them goes.

    >>> import shmpool
    >>> with shmpool.Pool.create(slots=2, slot_size=4096) as pool, pool.acquire() as lease:
    ...     lease.array((2, 3), "u1")[:] = 7
    ...     int(lease.array().sum())
    42
    """

    __slots__ = ()

    def _array_slow(
        self, shape: int | Sequence[int] | None = None, dtype: DTypeLike | None = None
    ) -> Array:
        asked = _right.asked_for(self, shape, dtype)
        if asked is None:
            return _right.described(self)
        if not self.shared:
            self._describe_as(*asked)
            _right.keep_recipe(dtype, *asked)
        return _right.over(self, *asked)

    def _describe_as(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._describe(_description.encode(shape, dtype))

    def writer(self, *, timeout: float | None = 0) -> SlotFile:
        """An empty binary file over the slot, for whatever writes to a file object.

        A write that does not fit moves the lease, and what was written, on to a slot of a
        larger class: `slot`, `ticket` and `nbytes` are then others. If none is free it waits for
        one up to `timeout` seconds, None for ever; if there is none at all, or none came, it
        raises SlotOverflowError and the lease is as before.

        >>> import json, io, shmpool
        >>> with shmpool.Pool.create(slots=1, slot_size="64 KiB") as pool, pool.acquire() as lease:
        ...     with lease.writer() as file:
        ...         _ = file.write(json.dumps({"answer": 42}).encode())
        ...     bytes(lease.array())
        b'{"answer": 42}'
        """
        self._check_writable()
        return SlotFile(self, 0, writable=True, timeout=timeout)

    def detach(self) -> Ticket:
        """End the lease and return its ticket, to travel by any channel and be claimed once.

        Raises as `release()`. A ticket that nobody claims holds its slot while this process
        lives, and for the pool's `orphan_grace` after.
        """
        return Ticket._trusted(self._detach())

    def share(self) -> Ticket:
        """Let others read the slot by the ticket that this returns, as often as they like.

        `pool.borrow(ticket)` in any process of the pool gives a read-only Borrow until this
        lease is released; those that are out then stay good, and the last one frees the slot.
        From now on the slot is read-only for this process, too. Again: the same ticket.

        Does not block. A slot that came from a queue is no longer delivered again if this
        process dies. Views from before can only be read from now on: a write to one
        goes to a private copy, and raises UseAfterReleaseError. Raises as `release()`.
        """
        return Ticket._trusted(self._share())

    @property
    def reason(self) -> str | None:
        """Why a dead-letter queue, or quarantine, had it: in words. None if nobody died of it."""
        return _explain.reason(self._mapping.spec, self._death, self.attempts)


_core.set_lease_class(Lease)
