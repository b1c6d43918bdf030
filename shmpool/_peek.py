"""Reading the bytes of a ticket without a right to them: a copy, or an error."""

from __future__ import annotations

import numpy as np

from shmpool import _description
from shmpool._attachment import Attachment
from shmpool._right import Array
from shmpool._ticket import Ticket


def peek(mapping: Attachment, ticket: Ticket) -> Array:
    """A copy of what a ticket stands for: see `Pool.peek`."""
    state, description = mapping.peek_description(ticket)
    nbytes = mapping.spec.class_of(ticket.slot).slot_size
    shape: tuple[int, ...] = (nbytes,)
    dtype = np.dtype(np.uint8)
    if description:
        shape, dtype = _description.decode(description)
    raw = np.empty(_description.check_fits(shape, dtype, nbytes), np.uint8)
    mapping.peek(ticket, state, raw.data)
    return np.ndarray(shape, dtype, buffer=raw)
