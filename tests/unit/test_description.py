"""What a slot says about its payload, and that a refusal says so and leaves no trace."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Pool

OVERLAPPING = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [0, 2]})
REFUSED = {"too large": ((1 << 20,), "u1"), "objects": ((2,), "O"), "too deep": ((1,) * 9, "u1")}


@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_array_is_no_view(pool: Pool, why: str) -> None:
    """While its ShapeError is handled, traceback and all, the lease can be released."""
    lease = pool.acquire()
    try:
        lease.array(*REFUSED[why])
    except shmpool.ShapeError:
        lease.release()
    assert not lease.live


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1, 1 << 64, 1 << 70])
def test_a_length_that_no_array_has_is_refused(pool: Pool, length: int) -> None:
    """Also where another length is zero, so that it would fit; the old description stays."""
    with pool.acquire() as lease:
        lease.array((4,), "f8")
        with pytest.raises(shmpool.ShapeError):
            lease.array((0, length), "u1")
        assert lease.array().shape == (4,)


@pytest.mark.parametrize("shape", [(2.5,), "12", (2.0,), ("3",)], ids=repr)
def test_a_length_is_an_integer(pool: Pool, shape: Sequence[Any]) -> None:
    """Neither floats nor digits in a text are lengths, as in `np.empty`."""
    with pool.acquire() as lease, pytest.raises((shmpool.ArgumentError, TypeError)):
        lease.array(shape, "u1")


def test_a_dtype_that_cannot_be_written_down_is_refused(pool: Pool) -> None:
    """Overlapping fields have no description: ShapeError, as for one that is too long."""
    with pool.acquire() as lease, pytest.raises(shmpool.ShapeError):
        lease.array((2,), OVERLAPPING)


def test_collecting_a_writer_leaves_a_later_description(pool: Pool) -> None:
    """A writer given up before `array(shape, dtype)` does not describe over it afterwards."""
    with pool.acquire() as lease:
        abandoned = lease.writer()
        abandoned.write(b"abc")
        lease.array((3, 2), "<i2")
        del abandoned
        gc.collect()
        assert lease.array().shape == (3, 2)
        assert lease.array().dtype == np.dtype("<i2")
