"""What a farm's slot holds beside its frame, and how the frame is read."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool._envelope import DONE, ArraySpec, Envelope, Maker, Status

ROOM = 1000


@pytest.fixture
def pool() -> Iterator[shmpool.Pool]:
    """Slots for a frame of any spec here."""
    with shmpool.Pool.create(slots=1, slot_size=1 << 16) as made:
        yield made


def travelled(spec: ArraySpec | None) -> Envelope:
    """As a worker gets it."""
    made: Envelope = pickle.loads(pickle.dumps(Envelope(spec, 5000, ROOM, Maker())))  # noqa: S301 - ours
    return made


@pytest.mark.parametrize(
    "dtype",
    ["u1", ">f4", "S3", "M8[ns]", np.dtype([("x", "i2"), ("y", "f8")]), np.dtype(("i2", (3,)))],
    ids=str,
)
def test_a_frame_has_the_shape_and_dtype_of_its_spec(pool: shmpool.Pool, dtype: Any) -> None:
    """Whether its description says all there is to the dtype, or not."""
    right = np.empty((4, 5), dtype)
    envelope = travelled(ArraySpec((4, 5), dtype))
    with pool.acquire() as lease:
        envelope.address(lease, 1, 2, b"job", envelope.description)
        for _ in range(2):  # the second is made by the core, where it can
            frame = envelope.array(lease)
            assert (frame.shape, frame.dtype) == (right.shape, right.dtype)
            assert frame.flags.writeable
            del frame


def test_a_job_has_room_for_itself_its_outcome_and_its_frame(pool: shmpool.Pool) -> None:
    """None of the three touches another."""
    envelope = travelled(ArraySpec((5000,), "u1"))
    job, value = bytes(ROOM), b"v" * (ROOM - 50)
    with pool.acquire() as lease:
        envelope.address(lease, 3, 1 << 40, job, envelope.description)
        envelope.array(lease)[:] = 7
        head = envelope.head(lease)
        assert (head.run, head.number, head.status, head.tickets) == (3, 1 << 40, 0, 0)
        assert envelope.fill(lease, head, DONE, value, 0.5, 4711) is DONE
        done = envelope.head(lease)
        assert done == head._replace(
            status=DONE, outcome_length=done.outcome_length, attempts=1, seconds=0.5, worker=4711
        )
        assert (envelope.packed_job(lease, done), envelope.outcome(lease, done)) == (job, value)
        assert (envelope.array(lease) == 7).all()
    assert envelope.slot_size == envelope.slot_size_for(ArraySpec((5000,), "u1"))


def test_a_stage_without_a_value_leaves_that_of_the_one_before(pool: shmpool.Pool) -> None:
    """What it does write is how long it took, and that it was it."""
    envelope = travelled(ArraySpec((8,), "u1"))
    with pool.acquire() as lease:
        envelope.address(lease, 1, 2, b"job", envelope.description)
        envelope.fill(lease, envelope.head(lease), DONE, "first", 1.0, 1)
        envelope.fill(lease, envelope.head(lease), DONE, None, 3.0, 2)
        head = envelope.head(lease)
        assert (envelope.outcome(lease, head), head.seconds, head.worker) == ("first", 3.0, 2)


def test_an_outcome_without_room_is_a_failure(pool: shmpool.Pool) -> None:
    """Its message says how much room there is."""
    envelope = travelled(ArraySpec((8,), "u1"))
    with pool.acquire() as lease:
        envelope.address(lease, 1, 2, b"job", envelope.description)
        status = envelope.fill(lease, envelope.head(lease), DONE, b"v" * ROOM, 1.0, 1)
        head = envelope.head(lease)
        assert status is Status.FAILED
        assert head.status == status
        with pytest.raises(shmpool.JobError, match=f"there is room for {ROOM}"):
            raise envelope.outcome(lease, head)[0]


def test_tickets_of_a_big_job_stand_where_it_would(pool: shmpool.Pool) -> None:
    """The length is that of the job."""
    envelope = travelled(None)
    with pool.acquire() as lease:
        sheet = envelope.describe(ArraySpec((2, 3), "i4"))
        envelope.address(lease, 1, 2, b"j" * 7000, sheet, [5, 1 << 63])
        head = envelope.head(lease)
        assert (head.job_length, envelope.tickets(lease, head)) == (7000, (5, 1 << 63))
        assert envelope.array(lease).shape == (2, 3)
