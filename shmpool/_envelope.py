"""What a farm's slot holds: the frame, and at its end the job on its way in and the outcome out.

    frame … | head, one line | job, pickled | outcome, pickled

The job stays in place until the slot is free, so that a slot whose worker died halfway
can simply be delivered again. A job too big for its place travels in shared slots of its
own, whose tickets then stand there.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from shmpool import _core, _description
from shmpool._lease import Lease
from shmpool._remote import failure
from shmpool.errors import JobError

_HEAD = struct.Struct("<IIQIIIIdQ16x")
_TICKET = struct.Struct("<Q")


class Status(IntEnum):
    """How far a job is."""

    PENDING = 0
    DONE = 1
    FAILED = 2


class Head(NamedTuple):
    """The line between frame and job: written by the coordinator, then by each worker."""

    status: int
    run: int  # which call of map
    number: int  # which job of it
    job_length: int
    outcome_length: int  # 0 stands for None
    tickets: int  # how many slots the job is in, 0: it is here
    attempts: int  # including the one that succeeded
    seconds: float  # in functions, of all stages
    worker: int  # pid of the last


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Shape and dtype of the frame that each job renders.

    >>> ArraySpec((1080, 1920, 3), np.uint8).nbytes
    6220800
    """

    shape: Sequence[int]
    dtype: DTypeLike

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Envelope:
    """Reads and writes the parts of a farm's slot."""

    frame: ArraySpec | None  # None: each job has its own
    room: int  # bytes for a pickled job, and as many for an outcome

    @cached_property
    def tail(self) -> int:
        """Bytes behind the frame."""
        return _HEAD.size + 2 * self.room

    def slot_size(self, frame_bytes: int) -> int:
        """Bytes of a slot for a frame of so many."""
        return -(-frame_bytes // _core.LINE) * _core.LINE + self.tail

    @cached_property
    def _description(self) -> bytes:
        return self.describe(self.frame) if self.frame is not None else b""

    @staticmethod
    def describe(frame: ArraySpec) -> bytes:
        """A frame's description, as slots hold it."""
        return _description.encode(_description.lengths(frame.shape), np.dtype(frame.dtype))

    def address(
        self, lease: Lease, run: int, index: int, data: bytes,
        *, tickets: Sequence[int] = (), description: bytes | None = None,
    ) -> None:  # fmt: skip
        """Write a packed job into a slot, or the tickets of the slots that it is in."""
        length = len(data)
        body = b"".join(map(_TICKET.pack, tickets)) if tickets else data
        with memoryview(lease) as view:
            at = len(view) - self.tail
            head = (Status.PENDING, run, index, length, 0, len(tickets), 0, 0.0, 0)
            _HEAD.pack_into(view, at, *head)
            at += _HEAD.size
            view[at : at + len(body)] = body
        lease._describe(description or self._description)

    def head(self, lease: Lease) -> Head:
        """The head of a slot."""
        with memoryview(lease) as view:
            return Head._make(_HEAD.unpack_from(view, len(view) - self.tail))

    def write_head(self, lease: Lease, head: Head) -> None:
        """Replace it."""
        with memoryview(lease) as view:
            _HEAD.pack_into(view, len(view) - self.tail, *head)

    def array(self, lease: Lease) -> np.ndarray[Any, Any]:
        """The frame, writable."""
        if self.frame is None:
            return lease.array()
        return np.ndarray(self.frame.shape, self.frame.dtype, buffer=lease._memory())

    def packed_job(self, lease: Lease, head: Head) -> bytes | tuple[int, ...]:
        """The job as it was packed, or the tickets of the slots that it is in."""
        with memoryview(lease) as view:
            at = len(view) - self.tail + _HEAD.size
            if not head.tickets:
                return bytes(view[at : at + head.job_length])
            return struct.unpack_from(f"<{head.tickets}Q", view, at)

    def outcome(self, lease: Lease, head: Head) -> Any:
        """What became of the job: its value, or an exception with its traceback."""
        if not head.outcome_length:
            return None
        with memoryview(lease) as view:
            at = len(view) - self.room
            return pickle.loads(view[at : at + head.outcome_length])  # noqa: S301 - our worker's

    def fill(self, lease: Lease, head: Head, status: Status, outcome: Any) -> Head:
        """Write what became of the job: the head as it is now."""
        if outcome is None and status is Status.DONE:
            done = head._replace(status=status)  # an earlier stage may have left a value
            self.write_head(lease, done)
            return done
        status, data = self._packed_outcome(status, outcome)
        done = head._replace(status=status, outcome_length=len(data))
        with memoryview(lease) as view:
            at = len(view) - self.room
            view[at : at + len(data)] = data
            _HEAD.pack_into(view, len(view) - self.tail, *done)
        return done

    def _packed_outcome(self, status: Status, outcome: Any) -> tuple[Status, bytes]:
        try:
            data = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001 - whatever the value's __reduce__ raises
            status, data = Status.FAILED, pickle.dumps(failure(error))
        if len(data) <= self.room:
            return status, data
        message = (
            f"the outcome has {len(data)} bytes when pickled, there is room for {self.room}: "
            f"write it to the frame, or create the Farm with job_size={len(data)}"
        )
        return Status.FAILED, pickle.dumps((JobError(message), ""))
