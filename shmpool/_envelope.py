"""What a farm's slot holds: the frame, and behind it the job on its way in and the outcome out.

    frame, rounded up to a line | job, pickled | outcome, pickled

The job stays in place until the slot is free, so that a slot whose worker died halfway
can simply be delivered again.
"""

from __future__ import annotations

import math
import pickle
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from shmpool import _core
from shmpool._lease import Lease
from shmpool.errors import JobError, SizeError

HEADER = np.dtype(
    [
        ("run", "u4"),  # which call of map
        ("status", "u4"),
        ("index", "u8"),  # which job of it
        ("job_length", "u8"),
        ("outcome_length", "u8"),
        ("attempts", "u4"),  # including the one that succeeded
        ("seconds", "f8"),
        ("worker", "S40"),
    ]
)


class Status(IntEnum):
    """How far a job is."""

    PENDING = 0
    DONE = 1
    FAILED = 2


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


class RemoteTraceback(Exception):  # noqa: N818 - a cause to be printed, not an error to be caught
    """The traceback of a worker, as text: the cause of an exception that came from there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reads and writes the parts of a farm's slot."""

    frame: ArraySpec
    room: int  # bytes for a pickled job, and as many for an outcome

    @property
    def slot_size(self) -> int:
        """Bytes of a slot."""
        return self._job_at + 2 * self.room

    @property
    def _job_at(self) -> int:
        return -(-self.frame.nbytes // _core.LINE) * _core.LINE

    def pack(self, index: int, job: Any) -> bytes:
        """A job, pickled. Raises SizeError if a slot has no room for it."""
        data = pickle.dumps(job, pickle.HIGHEST_PROTOCOL)
        if len(data) > self.room:
            message = (
                f"job {index} has {len(data)} bytes when pickled, a slot has room for {self.room}: "
                f"create the Farm with job_size={len(data)} or more, or send a name for it"
            )
            raise SizeError(message, index=index, needed=len(data))
        return data

    def address(self, lease: Lease, run: int, index: int, data: bytes) -> None:
        """Write a packed job into a slot."""
        lease._write_at(self._job_at, data)
        lease.header.assign((run, Status.PENDING, index, len(data), 0, 0, 0.0, b""))
        lease.array(self.frame.shape, self.frame.dtype)

    def job(self, lease: Lease) -> Any:
        """The job of a slot."""
        return self._load(lease, self._job_at, int(lease.header.job_length))

    def fill(self, lease: Lease, status: Status, outcome: Any) -> None:
        """Write what became of the job: its value, or an exception with its traceback."""
        try:
            data = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001 - whatever the value's __reduce__ raises
            status, data = Status.FAILED, pickle.dumps(failure(error))
        if len(data) > self.room:
            message = (
                f"the outcome has {len(data)} bytes when pickled, there is room for {self.room}"
            )
            status, data = Status.FAILED, pickle.dumps((JobError(message), ""))
        lease._write_at(self._job_at + self.room, data)
        lease.header.outcome_length = len(data)
        lease.header.status = status

    def outcome(self, lease: Lease) -> Any:
        """What became of the job."""
        return self._load(lease, self._job_at + self.room, int(lease.header.outcome_length))

    def _load(self, lease: Lease, at: int, length: int) -> Any:
        with memoryview(lease) as view:
            return pickle.loads(view[at : at + length])  # noqa: S301 - our own worker wrote it


def failure(error: BaseException) -> tuple[BaseException, str]:
    """An exception that can travel, and its traceback as text."""
    text = "".join(traceback.format_exception(error))
    _forget_frames(error)
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just made
    except Exception:  # noqa: BLE001 - whatever its __reduce__ raises
        error = JobError(
            f"{type(error).__name__}: {error} (the exception itself cannot be pickled)"
        )
    return error, text


def _forget_frames(error: BaseException) -> None:
    """Tracebacks hold the locals of their frames, and with them arrays over the slot."""
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None and link.__traceback__ is not None:
            traceback.clear_frames(link.__traceback__)
            link.__traceback__ = None
            chain += [link.__cause__, link.__context__]
