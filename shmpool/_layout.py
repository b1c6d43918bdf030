"""The control block as Python sees it: words unpacked, tables as numpy records.

Every offset comes from the compiler, through `_core.RECORDS` and `_core.layout`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from shmpool import _core
from shmpool.errors import CorruptSegmentError


class State(IntEnum):
    """What a slot is, in the low bits of its word."""

    FREE = 0
    LEASED = 1
    QUEUED = 2
    SHARED = 3
    DRAINING = 4
    UNCOMMITTED = 5
    RETIRED = 6
    QUARANTINED = 7


class Status(IntEnum):
    """What a pool is."""

    FORMING = 0
    OPEN = 1
    CLOSED = 2
    ORPHANED = 3


class Standing(IntEnum):
    """What an entry of the member table is, in the low byte of its identity."""

    VACANT = 0
    JOINING = 1
    ACTIVE = 2
    LEFT = 3
    DEAD = 4


class Word(NamedTuple):
    """A slot word, unpacked: `generation:48 | owner:8 | queue:5 | state:3`."""

    generation: int
    owner: int
    queue: int
    state: State

    @classmethod
    def unpack(cls, word: int) -> Word:
        """The fields of a packed word."""
        return cls(word >> 16, word >> 8 & 255, word >> 3 & 31, State(word & 7))


class Columns(NamedTuple):
    """Many slot words, unpacked: an array of each field, a number for each slot."""

    generation: np.ndarray[Any, np.dtype[np.int64]]
    owner: np.ndarray[Any, np.dtype[np.int64]]
    queue: np.ndarray[Any, np.dtype[np.int64]]
    state: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def unpack(cls, words: np.ndarray[Any, np.dtype[np.uint64]]) -> Columns:
        """The fields of packed words."""
        shifted = ((words >> 16), (words >> 8) & 255, (words >> 3) & 31, words & 7)
        return cls(*(field.astype(np.int64) for field in shifted))


_TEXT = {"name", "dtype", "file"}
_WIDTHS = {4: "<u4", 8: "<u8"}


def _field_format(name: str, size: int) -> Any:
    if name in _TEXT:
        return f"S{size}"
    return _WIDTHS.get(size) or ("<u8", (size // 8,))


def _record(name: str) -> np.dtype[Any]:
    fields = _core.RECORDS[name]
    names = [field for field in fields if field]
    return np.dtype(
        {
            "names": names,
            "formats": [_field_format(field, fields[field][1]) for field in names],
            "offsets": [fields[field][0] for field in names],
            "itemsize": fields[""][1],
        }
    )


HEADER = _record("header")
CLASS = _record("class_spec")
QUEUE = _record("queue_spec")
STATUS = _record("status")
CLASS_STATE = _record("class_state")
QUEUE_STATE = _record("queue_state")
MEMBER = _record("member")
SLOT = _record("slot")
SHEET = _record("sheet")
TRANSITION = _record("transition")
HISTORY = _record("history")
TRACE_HEADER = _record("trace_header")
TRACE_RING = _record("trace_ring")
TRACE_EVENT = _record("trace_event")

Counts = tuple[tuple[tuple[int, int, int, int], ...], int, int, int, int, int]


def bits_of(mask: np.ndarray[Any, Any]) -> list[int]:
    """Numbers of the bits that are set in a mask of 64-bit words: member indices or reader ids."""
    raw = np.array(mask).view(np.uint8)
    numbers: list[int] = np.flatnonzero(np.unpackbits(raw, bitorder="little")).tolist()
    return numbers


class ControlView:
    """The shared tables of a mapped control block, as numpy arrays over it.

    Reading is safe at any time and gives the state of a moment ago. Only the status
    record is ever written through a view, by the coordinator.
    """

    def __init__(self, control: _core.Span, counts: Counts) -> None:
        at = _core.layout(counts)

        def table(name: str, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, np.dtype[Any]]:
            return np.ndarray((count,), dtype, buffer=control, offset=at[name])

        classes, queues, members, _, _, history = counts
        self.status = table("status", STATUS, 1)[0]
        self.readers = np.ndarray(
            (_core.MAX_READERS,), np.uint64, buffer=control, offset=at["readers"]
        )
        self.class_states = table("class_states", CLASS_STATE, len(classes))
        self.queue_states = table("queue_states", QUEUE_STATE, queues)
        self.members = table("members", MEMBER, members + 1)
        self.slots = table("slots", SLOT, at["slot_count"])
        rings = np.ndarray(
            (queues, at["ring_cells"]), np.uint64, buffer=control, offset=at["rings"]
        )
        self.rings = rings
        # The head of a history is as long as an entry: a row of them for each slot.
        rows = (at["slot_count"] if history else 0, 1 + history)
        offset = at["history"] if history else 0
        self._histories = np.ndarray(rows, TRANSITION, buffer=control, offset=offset)

    def turns(self, slot: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Turns in the entries of a slot's history, copied; none if there is no history."""
        return self.entries(slot)["turn"].copy()

    def entries(self, slot: int) -> np.ndarray[Any, np.dtype[Any]]:
        """The entries of a slot's history, copied in one go: some may be half written."""
        return self._histories[slot : slot + 1, 1:].ravel().copy()

    def word(self, slot: int) -> Word:
        """The word of one slot, unpacked."""
        return Word.unpack(int(self.slots["word"][slot]))

    def unpacked(self) -> list[Word]:
        """All slot words, unpacked."""
        return [Word.unpack(packed) for packed in self.words().tolist()]

    def columns(self) -> Columns:
        """All slot words, unpacked into arrays: for what counts them."""
        return Columns.unpack(self.words())

    def readers_of(self, slot: int) -> list[int]:
        """Member indices of those who read a slot; 0 for a reader id that is nobody's."""
        return [int(self.readers[i]) for i in bits_of(self.slots["readers"][slot])]

    def queue_size(self, number: int) -> int:
        """Tickets in a queue: a difference of two moments, 0 if it is nothing that can be."""
        state = self.queue_states[number - 1]
        size = int(state["tail"]) - int(state["head"])
        return size if 0 <= size <= self.rings.shape[1] else 0

    def words(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """A copy of all slot words."""
        return self.slots["word"].copy()

    def present(self) -> list[int]:
        """Indices of the entries that somebody has taken."""
        # A copy: numpy counts twice, and raises if others write in between.
        taken: list[int] = self.members["identity"].copy().nonzero()[0].tolist()
        return taken

    def standing(self, member: int) -> Standing:
        """What the entry of a member is. Raises CorruptSegmentError if it is nothing."""
        number = int(self.members["identity"][member]) & 255
        if number > max(Standing):
            raise CorruptSegmentError(f"the entry of member {member} is {number}, which is nothing")
        return Standing(number)

    def pid(self, member: int) -> int:
        """Process id in the entry of a member, 0 for an index that has none."""
        return 0 if member >= len(self.members) else int(self.members["identity"][member]) >> 8

    def member_name(self, member: int) -> str:
        """Name in the entry of a member."""
        if member >= len(self.members):
            return f"member {member}, which is none"
        return bytes(self.members["name"][member]).decode(errors="replace")
