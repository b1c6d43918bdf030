"""What a lease and a borrow have in common: arrays over a slot's memory, and its header record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shmpool import _core, _description
from shmpool._record import Record
from shmpool._ticket import Ticket
from shmpool._writer import SlotFile
from shmpool.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]


class Right(_core.RightBase):
    """The face of a right, whichever of the core's two it is."""

    __slots__ = ()

    @property
    def header(self) -> Record:
        """The slot's record of the dtype given to `Pool.create(header=…)`; it travels along.

        Contents are as the last holder left them; of what is shared, read-only. Raises
        ArgumentError if the pool has none.
        """
        if self._mapping.record is None:
            raise ArgumentError("the pool has no header: create it with header=some_dtype")
        return Record(self)

    def reader(self) -> SlotFile:
        """A read-only binary file over the array that the sender described, or its written bytes.

        Raises ShapeError if nobody described the slot.
        """
        return SlotFile(self, described(self).nbytes, writable=False)

    @property
    def ticket(self) -> Ticket:
        """Slot and generation as one integer. A right of its own only where the slot is shared."""
        return Ticket.of(self.slot, self.generation)

    def __reduce__(self) -> tuple[Any, ...]:
        kind = type(self).__name__.lower()
        raise TypeError(f"a {kind} stays in its process: send a ticket, of detach() or share()")

    def __str__(self) -> str:
        return str(Ticket.of(self.slot, self.generation))

    def __repr__(self) -> str:
        over = "" if self.live else " (over)"
        kind, pool = type(self).__name__, self._mapping.spec.name
        return f"<{kind} {self} of pool {pool!r}, {self.nbytes} bytes{over}>"


def asked_for(
    right: _core.RightBase, shape: int | Sequence[int] | None, dtype: DTypeLike | None
) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Shape and dtype as array() was given them, checked against the slot; None for neither.

    Raises ArgumentError, ShapeError, StaleTicketError.
    """
    if shape is None and dtype is None:
        return None
    if shape is None or dtype is None:
        raise ArgumentError("array() takes both shape and dtype, or neither")
    lengths = _description.lengths(shape)
    kind = np.dtype(dtype)
    if kind.subdtype:
        kind, inner = kind.subdtype
        lengths += inner
    if kind.hasobject:
        raise ShapeError(f"dtype {kind} has Python objects, which no other process could read")
    right._check()
    _description.check_fits(lengths, kind, right.nbytes)
    return lengths, kind


def described(right: _core.RightBase) -> Array:
    """The array that the slot's description tells of. Raises ShapeError if it has none."""
    description = right._description()
    if not description:
        message = f"nobody described slot {right.slot}: call array(shape, dtype)"
        raise ShapeError(message, slot=right.slot)
    shape, dtype = _description.decode(description)
    _description.check_fits(shape, dtype, right.nbytes)
    keep_recipe(None, shape, dtype)
    return over(right, shape, dtype)


def keep_recipe(given: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Let the core make such arrays by itself, which were asked for by `given`, None if described.

    Not where `given` or the dtype may change: a dtype with names can be given others.
    """
    if dtype.names is None and (given is None or _lasting(given, dtype)):
        nbytes = math.prod(shape) * dtype.itemsize
        _core.keep_recipe(given, shape, dtype, nbytes, _description.encode(shape, dtype))


def _lasting(given: Any, dtype: np.dtype[Any]) -> bool:
    """Whether numpy makes this dtype of it whenever it is asked, and no longer shape."""
    if isinstance(given, type):
        return issubclass(given, np.generic | bool | int | float | complex)
    return isinstance(given, np.dtype | str) and np.dtype(given) == dtype


def over(right: _core.RightBase, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array over the start of the slot, which the caller has checked to be long enough."""
    # In no variable: a traceback that is kept would be a view.
    return np.ndarray(shape, dtype, buffer=right._memory())


_core.set_array_class(np.ndarray)
