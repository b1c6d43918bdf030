"""What a farm's slot holds: the frame, and at its end the job on its way in and the outcome out.

    frame … | head, one line | job, pickled | outcome, pickled

The job stays in place until the slot is free, so that a slot whose worker died halfway
can simply be delivered again. A job too big for its place travels in shared slots of its
own, whose tickets then stand there.
"""

from __future__ import annotations

import math
import operator
import pickle
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from shmpool import _core, _description
from shmpool._lease import Lease
from shmpool._remote import failure
from shmpool.errors import ArgumentError, JobError, SizeError

# What the coordinator writes, and then what each worker writes over.
_HEAD = struct.Struct("<IIQIIIIdQ16x")
_ADDRESS = struct.Struct("<IIQI44x")  # a head of status PENDING, and all else 0
_OUTCOME = struct.Struct("<IIIdQ")
_OUTCOME_AT = struct.calcsize("<IIQI")


class Status(IntEnum):
    """How far a job is."""

    PENDING = 0
    DONE = 1
    FAILED = 2


DONE = Status.DONE  # to look a member up in its enum takes longer than to use it


class Head(NamedTuple):
    """The line between frame and job: written by the coordinator, its end then by each worker."""

    run: int  # which call of map
    job_length: int
    number: int  # which job of it
    tickets: int  # how many slots the job is in, 0: it is here
    status: int
    outcome_length: int  # 0 stands for None
    attempts: int  # including the one that succeeded
    seconds: float  # in functions, of all stages
    worker: int  # pid of the last


# Head._make, less the count of what a Struct has counted.
_head: Callable[[tuple[Any, ...]], Head] = partial(tuple.__new__, Head)


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Shape and dtype of the frame that each job renders. An int as shape: so many elements.

    >>> ArraySpec((1080, 1920, 3), np.uint8).nbytes
    6220800
    """

    shape: Sequence[int]
    dtype: DTypeLike

    def __post_init__(self) -> None:
        given: Any = self.shape
        sides = given if isinstance(given, Iterable) else (given,)
        try:
            shape = tuple(map(operator.index, sides))
        except TypeError:
            message = f"shape is {given!r:.80}: give whole numbers, such as (1080, 1920, 3)"
            raise ArgumentError(message) from None
        if any(side < 0 for side in shape):
            raise SizeError(f"shape is {shape}: each side is 0 or more")
        object.__setattr__(self, "shape", shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Maker(NamedTuple):
    """What the user has called that made a farm, for what is told of its options."""

    name: str = "Farm"
    instead: str = "write it to the frame, or "  # what else helps where a value is too big


class Envelope:
    """Reads and writes the parts of a farm's slot.

    frame: what all jobs have; None: each job has its own, of up to frame_bytes. room: bytes for a
    pickled job, and as many for an outcome.
    """

    def __init__(
        self,
        frame: ArraySpec | None,
        frame_bytes: int,
        room: int,
        maker: Maker,
    ) -> None:
        self.frame = frame
        self.maker = maker
        self._frame_bytes = frame_bytes
        self.room = room
        self.at = _lines(frame_bytes)  # where the head is
        self._job_at = self.at + _HEAD.size
        self._outcome_at = self._job_at + room
        self._written_at = self.at + _OUTCOME_AT
        # The frame, writable: as its slot is described, where that says all there is to the dtype.
        self.array: Callable[[Lease], np.ndarray[Any, Any]] = Lease.array
        if frame is not None and not _plain(np.dtype(frame.dtype)):
            self.array = partial(_over, frame.shape, np.dtype(frame.dtype))

    def __reduce__(self) -> tuple[Any, ...]:
        return Envelope, (self.frame, self._frame_bytes, self.room, self.maker)

    @property
    def slot_size(self) -> int:
        """Bytes of a slot."""
        return self.at + self._tail

    @property
    def _tail(self) -> int:
        return _HEAD.size + 2 * self.room

    def slot_size_for(self, frame: ArraySpec) -> int:
        """Bytes of a slot that would do for a frame."""
        return _lines(frame.nbytes) + self._tail

    @staticmethod
    def describe(frame: ArraySpec) -> bytes:
        """A frame's description, as slots hold it."""
        return _description.encode(_description.lengths(frame.shape), np.dtype(frame.dtype))

    @cached_property
    def description(self) -> bytes:
        """Of the frame that all jobs have."""
        return self.describe(self.frame) if self.frame is not None else b""

    def address(
        self, lease: Lease, run: int, index: int, data: bytes,
        description: bytes, tickets: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Write a packed job into a slot, or the tickets of the slots that it is in."""
        count = len(tickets)
        body = struct.pack(f"<{count}Q", *tickets) if count else data
        lease._write_at(self.at, _ADDRESS.pack(run, len(data), index, count) + body)
        lease._describe(description)

    def head(self, lease: Lease) -> Head:
        """The head of a slot."""
        return _head(_HEAD.unpack_from(lease, self.at))

    def packed_job(self, lease: Lease, head: Head) -> bytes:
        """The job as it was packed, of one that is here."""
        return lease._read_at(self._job_at, head.job_length)

    def tickets(self, lease: Lease, head: Head) -> tuple[int, ...]:
        """Of the slots that the job is in."""
        return struct.unpack_from(f"<{head.tickets}Q", lease, self._job_at)

    def outcome(self, lease: Lease, head: Head) -> Any:
        """What became of the job, if not None: its value, or an exception with its traceback.

        Raises whatever unpickling the value does.
        """
        data = lease._read_at(self._outcome_at, head.outcome_length)
        outcome = pickle.loads(data)  # noqa: S301 - our own worker's
        if head.status != Status.FAILED:
            return outcome
        error, text = outcome
        try:
            return pickle.loads(error), text  # noqa: S301 - likewise
        except Exception as why:  # noqa: BLE001 - its module may be importable there only
            name = type(why).__name__
            message = f"the function raised what cannot be unpickled here: {name}: {why}"
            return JobError(message), text

    def fill(
        self, lease: Lease, head: Head, status: Status, outcome: Any, seconds: float, worker: int
    ) -> Status:
        """Write what became of the job, who did it and how long it took: what it is now."""
        length = head.outcome_length  # an earlier stage may have left a value
        if outcome is not None or status is not DONE:
            status, data = self._packed_outcome(status, outcome)
            lease._write_at(self._outcome_at, data)
            length = len(data)
        attempts = lease.attempts + 1
        _OUTCOME.pack_into(lease, self._written_at, status, length, attempts, seconds, worker)
        return status

    def _packed_outcome(self, status: Status, outcome: Any) -> tuple[Status, bytes]:
        try:
            if status is DONE:
                data = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
            else:
                data = _packed_failure(*outcome)
        except Exception as error:  # noqa: BLE001 - whatever the value's __reduce__ raises
            status, outcome = Status.FAILED, failure(error)
            data = _packed_failure(*outcome)
        if len(data) <= self.room:
            return status, data
        if status is Status.FAILED:
            raised, text = outcome
            return status, self._shortened(raised, text, len(data))
        message = (
            f"the outcome has {len(data)} bytes when pickled, there is room for {self.room}: "
            f"{self.maker.instead}create the {self.maker.name} with job_size={len(data)}"
        )
        return Status.FAILED, _packed_failure(JobError(message), "")

    def _shortened(self, error: BaseException, text: str, length: int) -> bytes:
        """What fits of an error that does not: its traceback's ends, and if need be its message's.

        A character may have four bytes, and one that is escaped in a repr four.
        """
        data = _packed_failure(error, _ends(text, self.room // 8))
        if len(data) > self.room:
            message = (
                f"{type(error).__name__}: {_ends(str(error), self.room // 16)} (the exception "
                f"itself has {length} bytes when pickled, there is room for {self.room}: create "
                f"the {self.maker.name} with job_size={length} to get it)"
            )
            data = _packed_failure(JobError(message), _ends(text, self.room // 16))
        return data


def _packed_failure(error: BaseException, text: str) -> bytes:
    """The exception by itself: the traceback is readable where that is not."""
    return pickle.dumps((pickle.dumps(error), text), pickle.HIGHEST_PROTOCOL)


def _ends(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n[...]\n{text[len(text) - most // 2 :]}"


def _plain(dtype: np.dtype[Any]) -> bool:
    return dtype.names is None and dtype.subdtype is None and dtype.metadata is None


def _over(shape: Sequence[int], dtype: np.dtype[Any], lease: Lease) -> np.ndarray[Any, Any]:
    return np.ndarray(shape, dtype, lease._memory())


def _lines(nbytes: int) -> int:
    """Rounded up: what stands behind is aligned."""
    return -(-nbytes // _core.LINE) * _core.LINE
