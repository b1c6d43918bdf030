"""What cannot be is an error of shmpool, said before anything is made, with nothing left."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Pool

SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
OVERLAPPING = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [0, 2]})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("spin", -1.0),
        ("spin", float("nan")),
        ("spin", float("inf")),
        ("member_name", "a\0b"),
        ("member_name", "\ud800"),
        ("header", OVERLAPPING),
        ("header", [("a", "i4"), ("a", "i4")]),
        ("queues", {"a": None}),
    ],
    ids=repr,
)
def test_an_option_that_cannot_be_is_an_argument_error(option: str, value: Any) -> None:
    """`Pool.create` raises ArgumentError, as it says, and leaves nothing behind."""
    before = set(SHM.iterdir())
    options: dict[str, Any] = {"slots": 1, "slot_size": 64, option: value}
    with pytest.raises(shmpool.ArgumentError):
        Pool.create(**options).close()
    assert set(SHM.iterdir()) == before


@pytest.mark.parametrize("value", [{"member_name": "a\0b"}, {"spin": -1.0}], ids=repr)
def test_an_attachment_that_cannot_be_is_an_argument_error(
    pool: Pool, value: dict[str, Any]
) -> None:
    """`Pool.attach` refuses in the same words, and the pool goes on."""
    with pytest.raises(shmpool.ArgumentError):
        Pool.attach(pool.name, **value).close()
    pool.acquire().release()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=lambda copied: copied.__name__)
def test_a_header_that_is_copied_is_a_copy_or_a_type_error(
    make_pool: Callable[..., Pool], copied: Callable[[object], object]
) -> None:
    """A Record belongs to its lease: `copy.copy` of it is no endless recursion."""
    pool = make_pool(header=[("number", "<i4")])
    with pool.acquire() as lease:
        try:
            twin = copied(lease.header)
        except TypeError:
            return
        assert isinstance(twin, type(lease.header) | np.generic)
