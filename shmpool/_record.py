"""The header record of a slot: the user's fields that travel beside the payload."""

from __future__ import annotations

from typing import Any

import numpy as np

from shmpool import _core


class Record:
    """One numpy record in shared memory, by item or by attribute, checked at each access.

    Reading a field gives a numpy value of its own; writing goes to the slot at once. It
    belongs to its lease: when that is over, every access raises StaleTicketError. (A plain
    `np.record` would go on to read the next holder's fields, and nobody would be told.)
    """

    __slots__ = ("_lease",)
    _lease: _core.RightBase

    def __init__(self, lease: _core.RightBase) -> None:
        object.__setattr__(self, "_lease", lease)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The structured dtype given at create."""
        dtype: np.dtype[Any] = self._lease._mapping.record
        return dtype

    def copy(self) -> np.record:
        """The whole record, as a numpy record of its own."""
        record: np.record = np.rec.array(self._array().copy()).reshape(1)[0]
        return record

    def assign(self, values: Any) -> None:
        """Set the whole record: a tuple, or another record of the dtype."""
        self._lease._check_writable()
        self._array()[()] = values

    def _array(self) -> np.ndarray[Any, np.dtype[Any]]:
        return np.ndarray((), self.dtype, buffer=self._lease._record())

    def __getitem__(self, field: str) -> Any:
        value = self._array()[field].copy()
        if value.shape == ():
            return value[()]
        value.flags.writeable = False  # a copy: writing to it would be lost
        return value

    def __setitem__(self, field: str, value: Any) -> None:
        self._lease._check_writable()
        self._array()[field] = value

    def __getattr__(self, field: str) -> Any:
        if field in (self.dtype.names or ()):
            return self[field]
        raise AttributeError(f"the header has no field {field!r}: {self.dtype.names}")

    def __setattr__(self, field: str, value: Any) -> None:
        if field not in (self.dtype.names or ()):
            raise AttributeError(f"the header has no field {field!r}: {self.dtype.names}")
        self[field] = value

    def __reduce__(self) -> tuple[Any, ...]:
        # Copied or pickled, it is a record of its own: the right to the slot does not travel so.
        return _plain, (self.copy(),)

    def __repr__(self) -> str:
        return f"Record{self.copy()!r}" if self._lease.live else f"<Record of {self._lease!r}>"


def _plain(record: np.record) -> np.record:
    return record
