"""The ticket: a right to a slot on its way, as one integer."""

from __future__ import annotations

from operator import index
from typing import Self

from shmpool import _core
from shmpool.errors import ArgumentError


class Ticket(int):
    """`slot:16 | generation:48` in one unsigned 64-bit integer: a lease on its way.

    It travels by any channel (a pipe, a file, JSON) and is claimed once.

    >>> ticket = Ticket.of(slot=3, generation=41)
    >>> ticket, int(ticket)
    (Ticket(3@41), 844424930132009)
    >>> Ticket(int(ticket)).generation
    41
    """

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        value = index(value)
        if not 0 <= value < 1 << 64:
            raise ArgumentError(f"{value} is no ticket: tickets are integers from 0 to 2**64 - 1")
        return super().__new__(cls, value)

    @classmethod
    def of(cls, slot: int, generation: int) -> Ticket:
        """Pack a slot number and a generation."""
        if not (0 <= slot < 1 << 16 and 0 <= generation <= _core.GENERATION_MAX):
            raise ArgumentError(f"slot {slot}, generation {generation}: 16 and 48 bits have room")
        return cls(slot << _core.GENERATION_BITS | generation)

    @classmethod
    def _trusted(cls, value: int) -> Ticket:
        """A ticket of the core's, which makes no others."""
        return int.__new__(cls, value)

    @property
    def slot(self) -> int:
        """Number of the slot in its pool, from 0."""
        return int(self) >> _core.GENERATION_BITS

    @property
    def generation(self) -> int:
        """Generation of the slot for which the ticket is good."""
        return int(self) & _core.GENERATION_MAX

    def __repr__(self) -> str:
        return f"Ticket({self})"

    def __str__(self) -> str:
        return f"{self.slot}@{self.generation}"

    def __reduce__(self) -> tuple[type[Ticket], tuple[int]]:
        return type(self), (int(self),)
