"""The second array of a kind is made in another way than the first, and is the same array."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Pool

KINDS: list[tuple[Any, Any]] = [
    ((2, 3), "u1"),
    ((2, 3), np.uint8),
    ((2, 3), np.dtype(">i2")),
    ((), "f8"),
    ((0, 5), "f4"),
    (7, np.complex128),
    ((7,), float),
    ((1,) * 8, bool),
    ([4, 4], "u2"),
    ((np.int64(4), 4), "u2"),
    ((2,), "3u1"),
    ((3,), "S5"),
    ((2,), "M8[ms]"),
    ((2,), np.dtype((np.uint8, (3,)))),
    ((2,), np.dtype([("x", "<i4"), ("y", "<f4")])),
]


class _Mine:
    dtype = np.dtype("u1")


@pytest.fixture
def two_sizes() -> Iterator[Pool]:
    with Pool.create(classes=[("64 B", 2), ("4 KiB", 2)], queues=("q",)) as pool:
        yield pool


def _seen(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    flags = array.flags
    return (array.shape, array.dtype, flags.writeable, flags.c_contiguous)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_every_array_of_a_kind_is_as_numpy_makes_it(pool: Pool, kind: tuple[Any, Any]) -> None:
    """The first, the next, and those of a receiver; and it is the slot's memory."""
    want = _seen(np.empty(*kind))
    for _ in range(3):
        lease = pool.acquire()
        array = lease.array(*kind)
        assert _seen(array) == want
        array[...] = 1
        begin = memoryview(lease)[: array.nbytes]
        assert bytes(begin) == array.tobytes()
        del begin, array
        pool.queue("a").put(lease)
        with pool.queue("a").get() as came:
            for _ in range(3):
                assert _seen(came.array()) == want
                assert np.array_equal(came.array(), np.ones(*kind))


def test_more_kinds_than_are_remembered(pool: Pool) -> None:
    """Each array is of its own kind, however they alternate."""
    with pool.acquire() as lease:
        for _ in range(3):
            for n in range(1, 30):
                assert lease.array((n, 2), f"u{1 << n % 4}").shape == (n, 2)
                assert lease.array().dtype == np.dtype(f"u{1 << n % 4}")
                assert lease.array().shape == (n, 2)


def test_what_fits_a_large_slot_is_refused_by_a_small_one(two_sizes: Pool) -> None:
    """Also where its kind is known, and the small one stays as it was described."""
    with two_sizes.acquire(4096) as large:
        large.array((1000,), "u1")
        large.array((1000,), "u1")
    with two_sizes.acquire(8) as small:
        small.array((8,), "u1")
        with pytest.raises(shmpool.ShapeError, match="needs 1000 bytes"):
            small.array((1000,), "u1")
        assert small.array().shape == (8,)


def test_a_known_kind_does_not_describe_what_is_shared(pool: Pool) -> None:
    """Its owner looks at it as it likes; borrowers see what was described."""
    with pool.acquire() as lease:
        lease.array((4, 2), "u1")
        lease.array((8,), "u1")[:] = 5
        ticket = lease.share()
        again = lease.array((4, 2), "u1")
        assert (again.shape, again.flags.writeable) == ((4, 2), False)
        with pool.borrow(ticket) as borrow:
            for _ in range(2):
                assert borrow.array().shape == (8,)
                assert not borrow.array().flags.writeable
                assert borrow.array((4, 2), "u1").sum() == 40
        del again


def test_a_lease_that_is_over_makes_no_array_of_a_known_kind(pool: Pool) -> None:
    """AlreadyEndedError, as the first time."""
    lease = pool.acquire()
    lease.array((4,), "u1")
    lease.release()
    for arguments in [(), ((4,), "u1")]:
        with pytest.raises(shmpool.AlreadyEndedError):
            lease.array(*arguments)


def test_a_class_that_gets_another_dtype_is_asked_again(pool: Pool) -> None:
    """What numpy makes of it is not remembered: it may change."""
    with pool.acquire() as lease:
        assert lease.array((2,), _Mine).dtype == "u1"
        _Mine.dtype = np.dtype("f8")
        assert lease.array((2,), _Mine).dtype == "f8"


def test_a_dtype_that_gets_other_names_is_described_anew(pool: Pool) -> None:
    """A receiver sees the names of now."""
    dtype = np.dtype([("x", "<i4"), ("y", "<f4")])
    with pool.acquire() as lease:
        lease.array((2,), dtype)
        dtype.names = ("u", "v")
        lease.array((2,), dtype)
        assert lease.array().dtype.names == ("u", "v")


def test_a_kind_lives_on_when_its_argument_is_gone(pool: Pool) -> None:
    """Another object at the same address is another argument."""
    with pool.acquire() as lease:
        for n in range(200):
            length, text = n % 7 + 1, "".join(["u", str(1 << n % 3)])
            array = lease.array((length,), text)
            assert (array.shape, array.dtype) == ((length,), np.dtype(text))
            del array, text
            gc.collect(0)


def test_a_description_nobody_has_checked_is_checked(pool: Pool) -> None:
    """One bit beside a known sheet: the array is of what stands there, or there is none."""
    with pool.acquire() as lease:
        lease.array((4, 4), "u1")
        lease.array()
        known = lease._description()
        for at in range(len(known)):
            lease._describe(known[:at] + bytes([known[at] ^ 1]) + known[at + 1 :])
            try:
                array = lease.array()
            except shmpool.ShmpoolError:
                continue
            sheet = lease._description()
            assert array.nbytes <= lease.nbytes
            assert (array.shape, array.dtype) == shmpool._description.decode(sheet)
            del array
        lease._describe(known[:-8])
        with pytest.raises(shmpool.CorruptSegmentError):
            lease.array()


def test_keywords_say_the_same(pool: Pool) -> None:
    """array(shape=…, dtype=…), and what is missing is told."""
    with pool.acquire() as lease:
        for _ in range(2):
            assert lease.array(shape=(2, 2), dtype="u1").shape == (2, 2)
        with pytest.raises(shmpool.ArgumentError):
            lease.array((2, 2))
        with pytest.raises(TypeError):
            lease.array((2, 2), "u1", "C")
