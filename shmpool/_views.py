"""Arrays over the memory of a right: what Lease and Borrow have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from shmpool import _description
from shmpool.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from shmpool._borrow import Borrow
    from shmpool._lease import Lease

Array = np.ndarray[Any, np.dtype[Any]]


def asked_for(
    right: Lease | Borrow, shape: int | Sequence[int] | None, dtype: DTypeLike | None
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
    right._check()
    _description.check_fits(lengths, kind, right.nbytes)
    return lengths, kind


def described(right: Lease | Borrow) -> Array:
    """The array that the slot's description tells of. Raises ShapeError if it has none."""
    description = right._description()
    if not description:
        message = f"nobody described slot {right.slot}: call array(shape, dtype)"
        raise ShapeError(message, slot=right.slot)
    shape, dtype = _description.decode(description)
    _description.check_fits(shape, dtype, right.nbytes)
    return over(right, shape, dtype)


def over(right: Lease | Borrow, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array over the start of the slot, which the caller has checked to be long enough."""
    # In no variable: a traceback that is kept would be a view.
    return np.ndarray(shape, dtype, buffer=right._memory())
