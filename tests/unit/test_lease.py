"""The lease: what it gives, the ways it ends, and what is said to whoever comes late."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import _core

PAGE = 4096
POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("tag", "S3"), ("box", "<i2", (2, 2))])
OFFSETS = np.dtype({"names": ["a", "b"], "formats": ["<i2", "<f8"], "offsets": [8, 16]})

Ending = Callable[[shmpool.Pool, shmpool.Lease], object]
Viewing = Callable[[shmpool.Lease], Any]

frombuffer: Any = np.frombuffer  # numpy's stubs do not know the buffer protocol


def address(array: np.ndarray[Any, Any]) -> int:
    at: int = array.__array_interface__["data"][0]
    return at


def _end_of_with(_: shmpool.Pool, lease: shmpool.Lease) -> None:
    with lease:
        pass


RELEASE: Ending = lambda _, lease: lease.release()  # noqa: E731
PUT: Ending = lambda pool, lease: pool.queue("a").put(lease)  # noqa: E731
PUT_WITH_TIMEOUT: Ending = lambda pool, lease: pool.queue("a").put(lease, timeout=0)  # noqa: E731
DETACH: Ending = lambda _, lease: lease.detach()  # noqa: E731
ENDINGS: dict[str, Ending] = {
    "release": RELEASE,
    "with": _end_of_with,
    "put": PUT,
    "put_nowait": lambda pool, lease: pool.queue("a").put_nowait(lease),
    "put with a time-out": PUT_WITH_TIMEOUT,
    "detach": DETACH,
}
SAID = {"release": "released", "with": "released", "detach": "detached"}  # otherwise "put"
STATES = {"release": "FREE", "with": "FREE"}  # otherwise "QUEUED"

USES: dict[str, Ending] = {
    "array": lambda _, lease: lease.array((2,), "u1"),
    "described array": lambda _, lease: lease.array(),
    "memoryview": lambda _, lease: memoryview(lease),
    "frombuffer": lambda _, lease: frombuffer(lease, "u1"),
    "header": lambda _, lease: lease.header.number,
    "writer": lambda _, lease: lease.writer(),
    "reader": lambda _, lease: lease.reader(),
    "attempts": lambda _, lease: lease.attempts,
    "release": RELEASE,
    "put": PUT,
    "put with a time-out": PUT_WITH_TIMEOUT,
    "put elsewhere": lambda pool, lease: pool.queue("b").put(lease),
    "detach": DETACH,
    "enter": lambda _, lease: lease.__enter__(),
}

VIEWS: dict[str, Viewing] = {
    "array": lambda lease: lease.array((4, 4), "u1"),
    "described array": lambda lease: lease.array(),
    "slice": lambda lease: lease.array((4, 4), "u1")[1:, ::2],
    "transposed": lambda lease: lease.array((4, 4), "u1").T,
    "field": lambda lease: lease.array((2,), POINT)["x"],
    "0-d array": lambda lease: lease.array((), "f8"),
    "memoryview": memoryview,
    "slice of a memoryview": lambda lease: memoryview(lease)[8:16],
    "memoryview of an array": lambda lease: lease.array((4,), "u1").data,
    "frombuffer": lambda lease: frombuffer(lease, "u1", count=8),
    "asarray": np.asarray,
    "buffer of a writer": lambda lease: lease.writer().getbuffer(),
}


@pytest.fixture
def headed(make_pool: Callable[..., shmpool.Pool]) -> shmpool.Pool:
    """A pool that has all there is to use."""
    return make_pool(header=np.dtype([("number", "<i4")]))


# --- arrays -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((3, 4), "f4", (3, 4)),
        ([2, 3], "<i2", (2, 3)),
        (5, "u1", (5,)),
        (np.int64(5), "u1", (5,)),
        ((np.int32(2), 2), np.uint16, (2, 2)),
        ((), "f8", ()),
        (0, "f8", (0,)),
        ((3, 0, 2), "i4", (3, 0, 2)),
        ((PAGE,), "u1", (PAGE,)),
        ((PAGE // 8,), "c8", (PAGE // 8,)),
        ((4,), POINT, (4,)),
        ((2, 2), OFFSETS, (2, 2)),
        ((), POINT, ()),
        ((3,), ">u4", (3,)),
        ((3,), "S5", (3,)),
        ((3,), "<U5", (3,)),
        ((3,), "M8[us]", (3,)),
        ((3,), "?", (3,)),
        ((1,) * 8, "u1", (1,) * 8),
    ],
    ids=str,
)
def test_the_receiver_gets_the_array_as_described(
    pool: shmpool.Pool, shape: Any, dtype: Any, expected: tuple[int, ...]
) -> None:
    """`array()` has shape, dtype and bytes of the sender's `array(shape, dtype)`."""
    with pool.acquire() as lease:
        sent = lease.array(shape, dtype)
        assert (sent.shape, sent.dtype) == (expected, np.dtype(dtype))
        assert sent.flags.c_contiguous
        assert sent.flags.writeable
        assert not sent.flags.owndata
        frombuffer(lease, "u1")[:] = np.arange(PAGE) % 2
        payload = sent.tobytes()
        del sent
        pool.queue("a").put(lease)
    with pool.queue("a").get() as lease:
        got = lease.array()
        assert (got.shape, got.dtype) == (expected, np.dtype(dtype))
        assert got.tobytes() == payload
        assert got.flags.writeable
        del got


def test_an_array_lies_at_the_start_of_the_slot(pool: shmpool.Pool) -> None:
    """Whatever the shape, the first byte of an array is the first of the slot."""
    with pool.acquire() as lease:
        array = lease.array((3,), "<u4")
        array[:] = 1, 2, 3
        assert bytes(memoryview(lease)[:12]) == array.tobytes()
        assert address(lease.array((2, 2), "u1")) == address(array)
        del array


def test_a_trip_through_a_queue_copies_nothing(pool: shmpool.Pool) -> None:
    """Sender and receiver of one process see the same address: there is only one copy."""
    with pool.acquire() as lease:
        array = lease.array((8,), "i8")
        array[:] = range(8)
        sent_from, slot = address(array), lease.slot
        del array
        pool.queue("a").put(lease)
    with pool.queue("a").get() as lease:
        array = lease.array()
        assert (address(array), lease.slot) == (sent_from, slot)
        assert array.tolist() == list(range(8))
        del array


def test_a_claimed_ticket_copies_nothing(pool: shmpool.Pool) -> None:
    """A detached ticket leads to the same memory."""
    lease = pool.acquire()
    sent_from = address(lease.array((8,), "i8"))
    with pool.claim(int(lease.detach())) as claimed:
        assert address(claimed.array()) == sent_from


def test_two_slots_never_overlap(pool: shmpool.Pool) -> None:
    """What is written to one lease is not seen in another."""
    leases = [pool.acquire() for _ in range(pool.slots)]
    for number, lease in enumerate(leases):
        lease.array(pool.slot_size, "u1")[:] = number + 1
    for number, lease in enumerate(leases):
        assert (lease.array() == number + 1).all()
        lease.release()


def test_describing_again_replaces_the_description(pool: shmpool.Pool) -> None:
    """The last `array(shape, dtype)` is the one that the receiver gets."""
    with pool.acquire() as lease:
        lease.array((4,), "f8")
        lease.array((2, 3), "i2")
        assert lease.array().shape == (2, 3)
        assert lease.array().dtype == np.int16


def test_a_refused_array_leaves_the_description(pool: shmpool.Pool) -> None:
    """An array that does not fit describes nothing."""
    with pool.acquire() as lease:
        lease.array((4,), "f8")
        with pytest.raises(shmpool.ShapeError):
            lease.array((PAGE + 1,), "u1")
        assert lease.array().shape == (4,)


def test_a_slot_that_nobody_described_has_no_array(pool: shmpool.Pool) -> None:
    """A fresh lease forgets the description of the last holder."""
    with pool.acquire() as lease:
        slot = lease.slot
        lease.array((4,), "f8")
    with pool.acquire() as lease:
        assert lease.slot == slot
        with pytest.raises(shmpool.ShapeError, match=f"slot {slot}"):
            lease.array()
        with pytest.raises(shmpool.ShapeError):
            lease.reader()


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((PAGE + 1,), "u1", shmpool.ShapeError),
        ((PAGE // 8, 2), "f8", shmpool.ShapeError),
        ((1 << 40, 1 << 40), "f8", shmpool.ShapeError),
        ((-1,), "u1", shmpool.ShapeError),
        ((-1, -1), "u1", shmpool.ShapeError),
        (-1, "u1", shmpool.ShapeError),
        ((2,), "O", shmpool.ShapeError),
        ((1,) * 33, "u1", shmpool.ShapeError),
        ((2,), None, shmpool.ArgumentError),
        (None, "u1", shmpool.ArgumentError),
        (3, None, shmpool.ArgumentError),
    ],
    ids=str,
)
def test_an_array_that_cannot_be_is_refused(
    pool: shmpool.Pool, shape: Any, dtype: Any, kind: type[Exception]
) -> None:
    """Too large, negative, of Python objects or half described: ArgumentError, lease usable."""
    with pool.acquire() as lease:
        with pytest.raises(kind):
            lease.array(shape, dtype)
        lease.array((2,), "u1")


def test_a_shape_error_says_how_much_was_needed(pool: shmpool.Pool) -> None:
    """`needed` and `slot_size` are numbers, for programs."""
    with pool.acquire() as lease, pytest.raises(shmpool.ShapeError) as caught:
        lease.array((PAGE, 2), "f4")
    assert (caught.value.needed, caught.value.slot_size) == (PAGE * 8, PAGE)


@pytest.mark.parametrize(
    "fails",
    [
        lambda lease: lease.array((PAGE + 1,), "u1"),
        lambda lease: lease.array((-1,), "u1"),
        lambda lease: lease.array((2,), "O"),
        lambda lease: lease.array((1,) * 33, "u1"),
        lambda lease: lease.array((2,), "no such dtype"),
        lambda lease: lease.array(),
        lambda lease: lease.reader(),
        lambda lease: lease.header,
        lambda lease: lease.writer().write(b"x" * (PAGE + 1)),
        lambda lease: lease.writer().readinto("text"),
        lambda lease: lease.writer().read("text"),
        lambda lease: frombuffer(lease, "u1", count=PAGE + 1),
    ],
    ids=[
        "too large", "negative", "objects", "dimensions", "no dtype", "undescribed", "reader",
        "header", "overflow", "readinto", "read", "frombuffer",
    ],
)  # fmt: skip
def test_an_error_that_is_kept_is_no_view(
    make_pool: Callable[..., shmpool.Pool], fails: Callable[[shmpool.Lease], object]
) -> None:
    """A refused call leaves nothing in its traceback that keeps the lease from ending."""
    pool = make_pool(views="raise")
    lease = pool.acquire()
    with pytest.raises((ValueError, TypeError, shmpool.ShmpoolError)) as kept:
        fails(lease)
    lease.release()
    assert kept.value.__traceback__ is not None


# --- the buffer protocol ------------------------------------------------------------------


def test_a_memoryview_is_the_whole_slot(pool: shmpool.Pool) -> None:
    """`memoryview(lease)` is writable, one byte an item, as long as the slot."""
    with pool.acquire() as lease:
        with memoryview(lease) as view:
            assert (view.nbytes, view.format, view.readonly) == (PAGE, "B", False)
            assert view.nbytes == lease.nbytes == pool.slot_size
            view[-3:] = b"end"
        assert bytes(frombuffer(lease, "u1")[-3:]) == b"end"


def test_frombuffer_is_a_view_of_the_slot(pool: shmpool.Pool) -> None:
    """`np.frombuffer(lease, …)` copies nothing and describes nothing."""
    with pool.acquire() as lease:
        view = frombuffer(lease, "<u2", count=4, offset=8)
        view[:] = 1, 2, 3, 4
        assert memoryview(lease)[8:16] == view.tobytes()
        with pytest.raises(shmpool.ShapeError):
            lease.array()
        del view


# --- endings ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_lease_ends_once(pool: shmpool.Pool, ending: str) -> None:
    """After `release`, `with`, `put` or `detach` the lease is over and its slot is elsewhere."""
    lease = pool.acquire()
    assert lease.live
    assert pool.audit()["leased"] == 1
    ENDINGS[ending](pool, lease)
    assert not lease.live
    counts = pool.audit()
    assert counts["leased"] == 0
    assert counts[STATES.get(ending, "QUEUED").lower()] >= 1


def test_collecting_a_lease_releases_it(pool: shmpool.Pool) -> None:
    """A lease that nobody refers to gives its slot back."""
    lease = pool.acquire()
    del lease
    assert pool.audit()["free"] == pool.slots


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_use_of_a_lease_that_is_over_raises(
    headed: shmpool.Pool, ending: str, use: str
) -> None:
    """AlreadyEndedError says which slot, which generations, what it is now, and how it ended."""
    lease = headed.acquire()
    lease.array((2,), "u1")
    lease.header.number = 1
    slot, generation = lease.slot, lease.generation
    ENDINGS[ending](headed, lease)
    with pytest.raises(shmpool.AlreadyEndedError) as caught:
        USES[use](headed, lease)
    error, text = caught.value, str(caught.value)
    state = STATES.get(ending, "QUEUED")
    assert error.slot == slot
    assert error.generation == generation
    assert error.current_generation == generation + 1
    assert error.state == state
    mine = {"FREE": (None, None)}.get(state, (error.holder, os.getpid()))
    assert (error.holder, error.pid) == mine
    assert f"{slot}@{generation}" in text
    assert f"generation {generation + 1}" in text
    assert f"it was {SAID.get(ending, 'put')}" in text
    assert {"FREE": "free", "QUEUED": "on its way"}[state] in text


def test_a_late_use_says_who_holds_the_slot_now(make_pool: Callable[..., shmpool.Pool]) -> None:
    """`holder` and `pid` name the present holder, and so does the text."""
    pool = make_pool(slots=1, member_name="somebody")
    lease = pool.acquire()
    pool.queue("a").put(lease)
    with pool.queue("a").get() as following:
        with pytest.raises(shmpool.AlreadyEndedError, match="'a'") as caught:
            lease.release()
        error = caught.value
        assert (error.state, error.holder, error.pid) == ("LEASED", "somebody", os.getpid())
        assert error.current_generation == following.generation
        assert f"somebody (pid {os.getpid()})" in str(error)
        assert following.live


def test_a_late_release_does_not_take_the_slot_from_its_holder(
    make_pool: Callable[..., shmpool.Pool],
) -> None:
    """Releasing twice frees nothing that belongs to somebody else."""
    pool = make_pool(slots=1)
    lease = pool.acquire()
    lease.release()
    with pool.acquire():
        for end in ENDINGS.values():
            with pytest.raises(shmpool.AlreadyEndedError):
                end(pool, lease)
        assert pool.audit()["leased"] == 1


@pytest.mark.parametrize("ending", ["release", "put", "put_nowait", "detach"])
def test_a_lease_may_end_inside_its_with_block(pool: shmpool.Pool, ending: str) -> None:
    """Leaving the block of a lease that ended inside does nothing."""
    with pool.acquire() as lease:
        ENDINGS[ending](pool, lease)
    assert not lease.live
    pool.audit()


def test_with_gives_the_lease_itself(pool: shmpool.Pool) -> None:
    """`with lease as same` binds the lease."""
    lease = pool.acquire()
    with lease as same:
        assert same is lease


@pytest.mark.parametrize("viewed", [False, True])
def test_an_exception_in_a_with_block_is_not_masked(pool: shmpool.Pool, viewed: bool) -> None:
    """The error on its way is the one seen, even under living views; the lease and its slot end."""
    lease = pool.acquire()
    kept = [lease.array((4,), "u1")] if viewed else []
    with pytest.raises(KeyError, match="mine"), lease:
        raise KeyError("mine")
    assert not lease.live
    assert pool.audit()["free"] == pool.slots
    kept.clear()


def test_views_of_a_failed_with_block_hold_the_slot_where_they_are_no_error(
    make_pool: Callable[..., shmpool.Pool],
) -> None:
    """With views="raise" the error goes on unmasked, and the slot comes back with the last view."""
    pool = make_pool(views="raise")
    lease = pool.acquire()
    kept = [lease.array((4,), "u1")]
    with pytest.raises(KeyError, match="mine"), lease:
        raise KeyError("mine")
    assert not lease.live
    assert pool.audit()["leased"] == 1
    kept.clear()
    assert pool.audit()["free"] == pool.slots


def test_an_exception_after_a_put_in_a_with_block_is_not_masked(pool: shmpool.Pool) -> None:
    """What was put stays put, and the error goes on."""
    with pytest.raises(KeyError), pool.acquire() as lease:  # noqa: PT012
        pool.queue("a").put(lease)
        raise KeyError
    assert pool.queue("a").qsize() == 1


# --- living views -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("viewing", VIEWS)
def test_a_lease_does_not_end_under_a_view(
    make_pool: Callable[..., shmpool.Pool], viewing: str, ending: str
) -> None:
    """With views="raise": ViewsAliveError, the lease goes on, and ends when the view is gone."""
    pool = make_pool(slots=1, views="raise")
    lease = pool.acquire()
    lease.array((2, 2), "u1")[:] = 3
    view = VIEWS[viewing](lease)
    with pytest.raises(BufferError) as caught:
        ENDINGS[ending](pool, lease)
    assert isinstance(caught.value, shmpool.ViewsAliveError)
    assert caught.value.slot == lease.slot
    assert caught.value.views >= 1
    assert "goes on" in str(caught.value)
    assert lease.live
    assert pool.audit()["leased"] == 1
    assert pool.queue("a").qsize() == 0
    assert memoryview(lease)[0] == 3
    del view
    ENDINGS[ending](pool, lease)
    assert not lease.live


@pytest.mark.parametrize("ending", ["release", "put", "detach"])
def test_the_error_counts_the_views(make_pool: Callable[..., shmpool.Pool], ending: str) -> None:
    """`views` is how many arrays or memoryviews were alive."""
    pool = make_pool(views="raise")
    lease = pool.acquire()
    views = [lease.array((4,), "u1") for _ in range(3)]
    with pytest.raises(shmpool.ViewsAliveError, match="3 arrays") as caught:
        ENDINGS[ending](pool, lease)
    assert caught.value.views == 3
    del views[1:]
    with pytest.raises(shmpool.ViewsAliveError, match="1 array ") as caught:
        ENDINGS[ending](pool, lease)
    assert caught.value.views == 1
    views.clear()
    ENDINGS[ending](pool, lease)


def test_a_copy_is_no_view(pool: shmpool.Pool) -> None:
    """Copies, and numbers made of an array, are not cut off at the end of a lease."""
    with pool.acquire() as lease:
        lease.array((4,), "i4")[:] = 5
        copied, total, raw = lease.array().copy(), lease.array().sum(), bytes(lease)
    assert copied.tolist() == [5] * 4
    assert total == 20
    assert len(raw) == PAGE


@pytest.mark.parametrize("viewing", [name for name in VIEWS if "described" not in name])
def test_a_collected_lease_gives_back_when_the_last_view_dies(
    make_pool: Callable[..., shmpool.Pool], viewing: str
) -> None:
    """Not before, so nobody writes under the view, and at once then."""
    pool = make_pool(slots=1)
    lease = pool.acquire()
    views = [VIEWS[viewing](lease), memoryview(lease)]
    del lease
    assert pool.audit()["leased"] == 1
    with pytest.raises(shmpool.PoolExhaustedError):
        pool.acquire_nowait()
    views.pop(0)
    assert pool.audit()["leased"] == 1
    views.pop()
    assert pool.audit()["free"] == 1
    pool.acquire_nowait().release()


def test_a_view_of_a_collected_lease_stays_writable(pool: shmpool.Pool) -> None:
    """The bytes are the view's own until it dies."""
    array = pool.acquire().array((16,), "u1")
    array[:] = 1
    others = [pool.acquire() for _ in range(pool.slots - 1)]
    for other in others:
        other.array(PAGE, "u1")[:] = 2
        other.release()
    assert (array == 1).all()
    del array


# --- views="ignore" -----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_views_are_ignored_where_the_pool_says_so(
    make_pool: Callable[..., shmpool.Pool], ending: str
) -> None:
    """With views="ignore" a lease ends under a view, which stays readable."""
    pool = make_pool(views="ignore")
    lease = pool.acquire()
    array = lease.array((4,), "u1")
    array[:] = 9
    ENDINGS[ending](pool, lease)
    assert not lease.live
    assert array.tolist() == [9] * 4


def test_a_collected_lease_ignores_views_where_the_pool_says_so(
    make_pool: Callable[..., shmpool.Pool],
) -> None:
    """With views="ignore" the slot goes back with the lease, whatever looks at it."""
    pool = make_pool(views="ignore")
    lease = pool.acquire()
    array = lease.array((4,), "u1")
    del lease
    assert pool.audit()["free"] == pool.slots
    del array
    assert pool.audit()["free"] == pool.slots


def test_an_unknown_way_with_views_is_refused(make_pool: Callable[..., shmpool.Pool]) -> None:
    """views= is "fence", "raise", "copy" or "ignore"."""
    with pytest.raises(shmpool.ArgumentError, match="views"):
        make_pool(views="perhaps")


# --- claims -------------------------------------------------------------------------------


def test_a_ticket_is_claimed_once(pool: shmpool.Pool) -> None:
    """The second claim raises AlreadyClaimedError, with what the slot is now."""
    ticket = pool.acquire().detach()
    lease = pool.claim(ticket)
    assert lease.ticket == ticket
    with pytest.raises(shmpool.AlreadyClaimedError) as caught:
        pool.claim(ticket)
    error = caught.value
    assert (error.slot, error.generation) == (ticket.slot, ticket.generation)
    assert (error.current_generation, error.state) == (lease.generation, "LEASED")
    assert error.pid == os.getpid()
    assert str(ticket) in str(error)
    assert lease.live
    lease.release()


@pytest.mark.parametrize("ending", ["release", "put", "detach"])
def test_a_ticket_stays_claimed_after_its_lease(pool: shmpool.Pool, ending: str) -> None:
    """Whatever the claimer did, the ticket is spent."""
    ticket = pool.acquire().detach()
    lease = pool.claim(ticket)
    ENDINGS[ending](pool, lease)
    with pytest.raises(shmpool.AlreadyClaimedError) as caught:
        pool.claim(ticket)
    assert caught.value.current_generation == ticket.generation + 1
    assert caught.value.state == STATES.get(ending, "QUEUED")


@pytest.mark.parametrize("slot", [4, 5, 65535])
def test_a_ticket_of_a_slot_that_is_not_there_is_stale(pool: shmpool.Pool, slot: int) -> None:
    """The pool has fewer slots than the ticket says: StaleTicketError, not an index error."""
    with pytest.raises(shmpool.StaleTicketError, match="4 slots") as caught:
        pool.claim(shmpool.Ticket.of(slot, 3))
    assert not isinstance(caught.value, shmpool.AlreadyClaimedError)
    assert (caught.value.slot, caught.value.generation) == (slot, 3)


@pytest.mark.parametrize("ahead", [0, 1, 2, 1 << 40])
def test_a_generation_that_was_never_issued_is_stale(pool: shmpool.Pool, ahead: int) -> None:
    """A ticket for the future of a slot opens nothing."""
    lease = pool.acquire()
    slot, coming = lease.slot, lease.generation + 1
    lease.release()
    with pytest.raises(shmpool.StaleTicketError) as caught:
        pool.claim(shmpool.Ticket.of(slot, coming + ahead))
    assert not isinstance(caught.value, shmpool.AlreadyClaimedError)
    assert (caught.value.current_generation, caught.value.state) == (coming, "FREE")
    assert (caught.value.holder, caught.value.pid) == (None, None)
    assert pool.audit()["free"] == pool.slots


def test_a_ticket_in_a_queue_is_not_claimed_past_it(pool: shmpool.Pool) -> None:
    """What waits in a queue is taken from the queue."""
    lease = pool.acquire()
    ticket = shmpool.Ticket.of(lease.slot, lease.generation + 1)
    pool.queue("a").put(lease)
    with pytest.raises(shmpool.StaleTicketError, match="take it from its queue"):
        pool.claim(ticket)
    pool.queue("a").get(timeout=0).release()


def test_a_lease_in_hand_is_not_claimed_again(pool: shmpool.Pool) -> None:
    """`lease.ticket` is an integer to compare with, not a right."""
    with pool.acquire() as lease:
        with pytest.raises(shmpool.StaleTicketError):
            pool.claim(lease.ticket)
        assert lease.live


@pytest.mark.parametrize("number", [-1, 1 << 64, 1 << 80])
def test_a_number_that_is_no_ticket_is_refused(pool: shmpool.Pool, number: int) -> None:
    """Tickets are unsigned integers of 64 bits."""
    with pytest.raises(shmpool.ArgumentError):
        pool.claim(number)


# --- leases and pools ---------------------------------------------------------------------


def test_a_lease_of_another_pool_is_refused(make_pool: Callable[..., shmpool.Pool]) -> None:
    """ForeignLeaseError; the lease goes on."""
    one, other = make_pool(), make_pool()
    with one.acquire() as lease:
        for options in ({}, {"timeout": 0}):
            with pytest.raises(shmpool.ForeignLeaseError):
                other.queue("a").put(lease, **options)
        assert lease.live
    assert other.queue("a").empty()


def test_an_array_stays_readable_after_the_pool_was_closed(
    make_pool: Callable[..., shmpool.Pool],
) -> None:
    """An array whose lease was collected is no lease in hand: close() is content."""
    pool = make_pool()
    array = pool.acquire().array((4,), "i4")
    array[:] = range(4)
    pool.close()
    array += 1
    assert array.tolist() == [1, 2, 3, 4]


def test_a_lease_stays_usable_after_the_pool_was_closed(
    make_pool: Callable[..., shmpool.Pool],
) -> None:
    """close() names the slots in hand, which stay readable until they are released."""
    pool = make_pool()
    lease = pool.acquire()
    lease.array((4,), "i4")[:] = 6
    with pytest.raises(shmpool.LeasesAliveError) as caught:
        pool.close()
    assert caught.value.slots == [lease.slot]
    assert lease.live
    assert lease.array().tolist() == [6] * 4
    lease.release()
    with pytest.raises(shmpool.AlreadyEndedError, match="released"):
        lease.array()


@pytest.mark.parametrize("with_queue", [False, True])
def test_an_array_stays_readable_after_the_pool_was_collected(with_queue: bool) -> None:
    """The memory goes with the last view, not with the Pool object."""
    pool = shmpool.Pool.create(slots=2, slot_size=PAGE, queues=("a",))
    if with_queue:
        pool.queue("a").put(pool.acquire())
    array = pool.acquire().array((4,), "i4")
    array[:] = range(4)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    array += 1
    assert array.tolist() == [1, 2, 3, 4]


def test_a_lease_outlives_its_pool_object() -> None:
    """A lease in hand when the Pool is collected is read and released as ever."""
    pool = shmpool.Pool.create(slots=2, slot_size=PAGE)
    lease = pool.acquire()
    lease.array((4,), "i4")[:] = 6
    del pool
    gc.collect()
    assert lease.array().tolist() == [6] * 4
    lease.release()
    assert not lease.live


def test_bytes_are_read_where_they_were_written(pool: shmpool.Pool) -> None:
    """A copy, from any offset, to the end at most."""
    with pool.acquire() as lease:
        size = lease.nbytes
        lease._write_at(size - 3, b"end")
        copy = lease._read_at(size - 3, 3)
        lease._write_at(size - 3, b"off")
        assert (copy, lease._read_at(size, 0)) == (b"end", b"")
        for offset, length in [(size, 1), (size - 3, 4), (-1, 1), (0, -1), (1, sys.maxsize)]:
            with pytest.raises(IndexError, match="are not in the slot"):
                lease._read_at(offset, length)
        for arguments in [(), (1,), (1, 2, 3), ("1", 2)]:
            with pytest.raises(TypeError):
                lease._read_at(*arguments)
    with pytest.raises(shmpool.StaleTicketError):
        lease._read_at(0, 1)


# --- the object ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [shmpool.Lease, _core.LeaseBase], ids=lambda kind: kind.__name__)
def test_a_lease_cannot_be_made_by_hand(kind: type) -> None:
    """Leases come from acquire, get and claim alone, whichever way they are called for."""
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        object.__new__(kind)


def test_a_subclass_of_a_lease_cannot_be_made_by_hand() -> None:
    """A subclass opens no back door."""
    with pytest.raises(TypeError):
        type("Mine", (shmpool.Lease,), {})()


def test_a_lease_takes_no_attributes(pool: shmpool.Pool) -> None:
    """Slots only: a misspelt assignment is an error, and numbers are read-only."""
    with pool.acquire() as lease:
        for name in ("extra", "slot", "generation", "live"):
            with pytest.raises(AttributeError):
                setattr(lease, name, 1)


def test_a_weak_reference_to_a_lease_dies_with_it(pool: shmpool.Pool) -> None:
    """`weakref.ref(lease)` works, calls back, and keeps nothing."""
    lease = pool.acquire()
    died: list[object] = []
    reference = weakref.ref(lease, died.append)
    assert reference() is lease
    del lease
    assert reference() is None
    assert died == [reference]
    assert pool.audit()["free"] == pool.slots


def test_a_lease_is_collected_in_a_cycle_of_others(pool: shmpool.Pool) -> None:
    """The collector finds cycles that only lead to a lease."""
    cycle: list[Any] = [pool.acquire()]
    cycle.append(cycle)
    assert pool.audit()["leased"] == 1
    del cycle
    gc.collect()
    assert pool.audit()["free"] == pool.slots


def test_ending_leases_leaks_no_references(pool: shmpool.Pool) -> None:
    """A thousand leases leave the mapping's reference count as it was."""
    mapping = pool._mapping
    before = sys.getrefcount(mapping)
    for _ in range(1000):
        lease = pool.acquire()
        lease.array((4,), "u1")[:] = 1
        lease.release()
        with pytest.raises(shmpool.AlreadyEndedError):
            lease.release()
    del lease
    gc.collect()
    assert sys.getrefcount(mapping) == before


def test_repr_names_slot_generation_and_pool(pool: shmpool.Pool) -> None:
    """`<Lease 0@7 of pool …>`, and whether it is over."""
    lease = pool.acquire()
    named = f"{lease.slot}@{lease.generation}"
    assert str(lease) == str(lease.ticket) == named
    assert named in repr(lease)
    assert pool.name in repr(lease)
    assert f"{PAGE} bytes" in repr(lease)
    assert "over" not in repr(lease)
    lease.release()
    assert "(over)" in repr(lease)


def test_slot_and_generation_are_known_after_the_end(pool: shmpool.Pool) -> None:
    """Names of a lease outlive it; each use of a slot has a generation of its own."""
    generations = []
    for _ in range(3):
        with pool.acquire() as lease:
            slot = lease.slot
        assert lease.slot == slot
        generations.append(lease.generation)
    assert generations == sorted(set(generations))


def test_a_ticket_packs_slot_and_generation(pool: shmpool.Pool) -> None:
    """`lease.detach()` gives the next generation of the same slot."""
    lease = pool.acquire()
    ticket = lease.detach()
    assert ticket == shmpool.Ticket.of(lease.slot, lease.generation + 1)
    assert (ticket.slot, ticket.generation) == (lease.slot, lease.generation + 1)
    pool.claim(ticket).release()


def test_a_lease_in_the_memory_of_another_is_a_fresh_one(make_pool: Callable[..., Any]) -> None:
    """Whatever the one before went through: ended, put, shared, looked at, weakly held."""
    pool = make_pool(slots=40)
    before = [sys.getrefcount(kind) for kind in (shmpool.Lease, shmpool.Borrow, _core.LeaseBase)]
    for _ in range(3):
        leases = [pool.acquire() for _ in range(40)]  # more than are kept
        dead = [weakref.ref(lease) for lease in leases]
        kept = leases[0].array((4,), "u1")
        leases[1].release()
        pool.queue("a").put(leases[2])
        borrow = pool.borrow(leases[3].share())
        del leases
        assert kept.sum() >= 0
        assert [ref() for ref in dead] == [None] * 40
        for fresh in (pool.acquire(), pool.queue("a").get()):
            assert fresh.live
            assert not fresh.shared
            assert not gc.is_tracked(fresh)
            assert fresh.array((4,), "u1").flags.writeable
            fresh.release()
        borrow.release()
        del kept, borrow, fresh
    after = [sys.getrefcount(kind) for kind in (shmpool.Lease, shmpool.Borrow, _core.LeaseBase)]
    assert after == before
