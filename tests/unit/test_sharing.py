"""Sharing: one slot read by many at once, freed by the last, and never written meanwhile."""

from __future__ import annotations

import dataclasses
import gc
import io
import os
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Borrow, Lease, Pool, Ticket, _core

PAGE = 4096
POINT = np.dtype([("x", "<f4"), ("tag", "S3"), ("box", "<i2", (2, 2))])
HEADER = np.dtype([("number", "<i4"), ("name", "S4")])

MakePool = Callable[..., Pool]
frombuffer: Any = np.frombuffer  # numpy's stubs do not know the buffer protocol

VIEWS: dict[str, Callable[[Any], Any]] = {
    "array": lambda right: right.array((4, 4), "u1"),
    "described array": lambda right: right.array(),
    "slice": lambda right: right.array((4, 4), "u1")[1:, ::2],
    "field": lambda right: right.array((2,), POINT)["x"],
    "memoryview": memoryview,
    "slice of a memoryview": lambda right: memoryview(right)[8:16],
    "frombuffer": lambda right: frombuffer(right, "u1", count=8),
    "asarray": np.asarray,
    "buffer of a reader": lambda right: right.reader().getbuffer(),
}

ENDINGS: dict[str, Callable[[Any], object]] = {
    "release": lambda right: right.release(),
    "with": lambda right: right.__exit__(None, None, None),
}


def shared(pool: Pool, value: int = 7) -> Lease:
    """A lease of six described bytes, shared."""
    lease = pool.acquire()
    lease.array((2, 3), "u1")[:] = value
    lease.share()
    return lease


def memory_behind(address: int) -> tuple[str, str, int]:
    """Device, inode and offset of the byte that is mapped at an address, as the system says."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        reach, _, offset, device, inode, *_ = line.split()
        start, end = (int(number, 16) for number in reach.split("-"))
        if start <= address < end:
            return device, inode, int(offset, 16) + address - start
    raise AssertionError(f"nothing is mapped at {address:#x}")


def states(pool: Pool) -> dict[str, int]:
    """Slots by state, without those that are none."""
    return {state: count for state, count in pool.audit().items() if count}


@pytest.fixture
def one(make_pool: MakePool) -> Pool:
    """A single slot."""
    return make_pool(slots=1)


@pytest.fixture
def strict(make_pool: MakePool) -> Pool:
    """A single slot, whose rights do not end under views."""
    return make_pool(slots=1, views="raise")


# --- what a borrow is ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, 4), "f4"), (5, "u1"), ((), "f8"), ((3, 0, 2), "i4"), ((4,), POINT), ((2,), ">u4")],
    ids=str,
)
def test_a_borrower_gets_the_array_as_described(pool: Pool, shape: Any, dtype: Any) -> None:
    """`borrow.array()` has shape, dtype and bytes of the owner's `array(shape, dtype)`."""
    lease = pool.acquire()
    frombuffer(lease, "u1")[:] = np.arange(PAGE) % 2
    payload = lease.array(shape, dtype).tobytes()
    with lease, pool.borrow(lease.share()) as borrow:
        got = borrow.array()
        assert got.shape == np.empty(shape, dtype).shape
        assert got.dtype == np.dtype(dtype)
        assert got.tobytes() == payload
        assert got.flags.c_contiguous
        del got


def test_a_borrow_has_the_names_of_its_slot(pool: Pool) -> None:
    """Slot, generation, ticket and size are the lease's; the ticket is that of `share`."""
    lease = pool.acquire()
    ticket = lease.share()
    assert isinstance(ticket, Ticket)
    with lease, pool.borrow(ticket) as borrow:
        assert isinstance(borrow, Borrow)
        assert (borrow.slot, borrow.generation) == (lease.slot, lease.generation)
        assert borrow.ticket == lease.ticket == ticket
        assert borrow.nbytes == lease.nbytes == PAGE
        assert borrow.live
        assert str(borrow) == str(ticket)
        for part in (str(ticket), pool.name, f"{PAGE} bytes"):
            assert part in repr(borrow)
        assert "over" not in repr(borrow)
    assert "(over)" in repr(borrow)


def test_a_borrow_copies_nothing(pool: Pool) -> None:
    """Behind the owner's addresses and the borrower's, which are others, is one page of a file."""
    with shared(pool) as lease, pool.borrow(lease.ticket) as borrow:
        at = [right.array().__array_interface__["data"][0] for right in (lease, borrow)]
        assert at[0] != at[1]
        assert memory_behind(at[0]) == memory_behind(at[1])
        with pool.acquire() as other:
            address = other.array((1,), "u1").__array_interface__["data"][0]
            assert memory_behind(address) != memory_behind(at[0])


def test_a_ticket_may_be_a_plain_integer(pool: Pool) -> None:
    """It came as text or by struct: an int is a ticket, anything else is refused by kind."""
    with shared(pool) as lease:
        pool.borrow(int(lease.ticket)).release()
        pool.borrow(Ticket(int(str(int(lease.ticket))))).release()
        for number in (-1, 1 << 64):
            with pytest.raises(shmpool.ArgumentError):
                pool.borrow(number)
        with pytest.raises(TypeError):
            pool.borrow("0@1")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            pool.borrow(1.0)  # type: ignore[arg-type]


def test_the_header_travels_along_and_is_read_only(make_pool: MakePool) -> None:
    """A borrower reads the owner's record and cannot write to it by item, name or whole."""
    pool = make_pool(header=HEADER)
    lease = pool.acquire()
    lease.header.assign((42, b"name"))
    with lease, pool.borrow(lease.share()) as borrow:
        assert borrow.header.number == 42
        assert borrow.header["name"] == b"name"
        for write in (
            lambda: setattr(borrow.header, "number", 1),
            lambda: borrow.header.__setitem__("number", 1),
            lambda: borrow.header.assign((1, b"x")),
        ):
            with pytest.raises(shmpool.SharedLeaseError, match="write to borrow"):
                write()
        assert lease.header.number == 42


def test_without_a_header_there_is_none_to_borrow(pool: Pool) -> None:
    """ArgumentError, as for a lease."""
    lease = shared(pool)
    with pytest.raises(shmpool.ArgumentError, match="header="):
        _ = pool.borrow(lease.ticket).header
    lease.release()


def test_a_borrow_is_read_as_a_file(pool: Pool) -> None:
    """`borrow.reader()` has exactly the bytes written, and takes none."""
    lease = pool.acquire()
    with lease.writer() as file:
        file.write(b"some text")
    with lease, pool.borrow(lease.share()) as borrow, borrow.reader() as file:
        assert file.read() == b"some text"
        assert not file.writable()
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
    again = Borrow.reader
    with pytest.raises(shmpool.AlreadyEndedError):
        again(borrow)


def test_what_nobody_described_has_no_array(pool: Pool) -> None:
    """`array()` and `reader()` raise ShapeError, `array(shape, dtype)` works."""
    with pool.acquire() as lease, pool.borrow(lease.share()) as borrow:
        for use in (borrow.array, borrow.reader):
            with pytest.raises(shmpool.ShapeError, match="nobody described"):
                use()
        assert borrow.array((2,), "f8").shape == (2,)
        with pytest.raises(shmpool.ShapeError):
            borrow.array()
        with pytest.raises(shmpool.ShapeError):
            borrow.array((PAGE + 1,), "u1")


@pytest.mark.parametrize("dtype", ["O", [("x", "O")]], ids=str)
def test_python_objects_are_not_read_out_of_a_shared_slot(pool: Pool, dtype: Any) -> None:
    """Bytes taken for addresses of objects would be a crash: ShapeError, as in a lease."""
    with shared(pool) as lease, pool.borrow(lease.ticket) as borrow:
        for right in (lease, borrow):
            with pytest.raises(shmpool.ShapeError):
                right.array((2,), dtype)


@pytest.mark.parametrize("viewing", VIEWS)
def test_every_view_of_a_borrow_is_read_only(pool: Pool, viewing: str) -> None:
    """No array and no memoryview of a borrow can be written to, or made to be."""
    with shared(pool) as lease, pool.borrow(lease.ticket) as borrow:
        view = VIEWS[viewing](borrow)
        if isinstance(view, memoryview):
            assert view.readonly
            with pytest.raises(TypeError):
                view[0:1] = b"x"
        else:
            assert not view.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                view[...] = 1
            with pytest.raises(ValueError, match="WRITEABLE"):
                view.flags.writeable = True
        del view
        with pytest.raises((TypeError, BufferError)):
            io.BytesIO(b"xxxx").readinto(borrow)  # type: ignore[arg-type]
        assert bytes(lease)[:6] == b"\7" * 6


# --- what sharing does to the lease -------------------------------------------------------


def test_sharing_twice_gives_the_same_ticket(pool: Pool) -> None:
    """The ticket is good for any number of borrows, before and after, also under views."""
    lease = shared(pool)
    ticket = lease.share()
    view = lease.array()
    assert lease.share() == ticket == lease.ticket
    del view
    borrows = [pool.borrow(ticket) for _ in range(3)]
    assert lease.share() == ticket
    for borrow in borrows:
        borrow.release()
    assert states(pool) == {"free": 3, "shared": 1}
    assert pool.statistics().shared == 1
    assert pool.statistics().members[0].shared == 1
    lease.release()


def test_sharing_does_not_end_the_lease(pool: Pool) -> None:
    """The owner goes on holding it, and says that it is shared."""
    lease = pool.acquire()
    assert not lease.shared
    lease.share()
    assert lease.shared
    assert lease.live
    assert pool.statistics().members[0].held == 1
    lease.release()
    assert not lease.live
    assert states(pool) == {"free": 4}


@pytest.mark.parametrize("viewing", [name for name in VIEWS if name != "buffer of a reader"])
def test_sharing_is_refused_under_a_view_that_could_write(strict: Pool, viewing: str) -> None:
    """With views="raise": ViewsAliveError, and the lease is leased, writable, not borrowed."""
    pool = strict
    lease = pool.acquire()
    lease.array((2, 2), "u1")[:] = 3
    view = VIEWS[viewing](lease)
    with pytest.raises(shmpool.ViewsAliveError, match="writable") as caught:
        lease.share()
    assert (caught.value.slot, caught.value.views) == (lease.slot, 1)
    assert not lease.shared
    assert states(pool) == {"leased": 1}
    with pytest.raises(shmpool.StaleTicketError):
        pool.borrow(lease.ticket)
    memoryview(lease)[0] = 4
    del view
    lease.share()
    assert memoryview(lease)[0] == 4
    lease.release()


def test_views_are_ignored_in_sharing_where_the_pool_says_so(make_pool: MakePool) -> None:
    """views="ignore" shares under a writable array: whose it is knows what it does."""
    pool = make_pool(views="ignore")
    lease = pool.acquire()
    view = lease.array((4,), "u1")
    borrow = pool.borrow(lease.share())
    view[:] = 5
    assert borrow.array().tolist() == [5] * 4
    assert not borrow.array().flags.writeable
    assert not lease.array().flags.writeable
    lease.release()
    borrow.release()


REFUSED: dict[str, tuple[str, Callable[[Pool, Lease], object]]] = {
    "writer": ("write to", lambda _, lease: lease.writer()),
    "field": ("write to", lambda _, lease: setattr(lease.header, "number", 1)),
    "header": ("write to", lambda _, lease: lease.header.assign((1, b"x"))),
    "describe": ("describe", lambda _, lease: lease._describe_as((2,), np.dtype("u1"))),
    "detach": ("detach", lambda _, lease: lease.detach()),
    "put": ("put", lambda pool, lease: pool.queue("a").put(lease)),
    "put in time": ("put", lambda pool, lease: pool.queue("a").put(lease, timeout=0)),
    "put_nowait": ("put", lambda pool, lease: pool.queue("a").put_nowait(lease)),
}


@pytest.mark.parametrize("use", REFUSED)
def test_a_shared_lease_can_neither_be_written_nor_sent(make_pool: MakePool, use: str) -> None:
    """SharedLeaseError names slot and remedy; the lease goes on, and its bytes are as before."""
    pool = make_pool(header=HEADER)
    lease = pool.acquire()
    lease.array((2, 3), "u1")[:] = 7
    lease.header.assign((42, b"name"))
    lease.share()
    action, call = REFUSED[use]
    with pytest.raises(shmpool.SharedLeaseError, match="write before share") as caught:
        call(pool, lease)
    assert isinstance(caught.value, ValueError)
    assert caught.value.slot == lease.slot
    assert f"cannot {action} lease {lease}" in str(caught.value)
    assert lease.live
    assert lease.header.number == 42
    assert lease.array().tolist() == [[7] * 3] * 2
    assert pool.queue("a").empty()
    assert states(pool) == {"free": 3, "shared": 1}
    lease.release()


def test_an_open_writer_writes_no_more_after_share(pool: Pool) -> None:
    """A file opened before is refused from then on, and so is closing it: nothing is described."""
    lease = pool.acquire()
    lease.array((2, 3), "u1")[:] = 7
    file = lease.writer()
    file.write(b"abc")
    lease.share()
    for write in (lambda: file.write(b"x"), lambda: file.truncate(0)):
        with pytest.raises(shmpool.SharedLeaseError):
            write()
    with pytest.raises(shmpool.SharedLeaseError):
        file.close()
    assert file.closed
    assert lease.array().shape == (2, 3)
    assert bytes(lease)[:4] == b"abc\7"
    lease.release()


@pytest.mark.parametrize("viewing", VIEWS)
def test_the_owner_reads_on_read_only(pool: Pool, viewing: str) -> None:
    """After share the owner's arrays and memoryviews are read-only, too."""
    with shared(pool) as lease:
        view = VIEWS[viewing](lease)
        readonly = view.readonly if isinstance(view, memoryview) else not view.flags.writeable
        assert readonly
        del view


def test_an_array_of_another_shape_does_not_describe_a_shared_slot(pool: Pool) -> None:
    """The owner may look at the bytes as it likes; borrowers go on seeing what was described."""
    with shared(pool) as lease, pool.borrow(lease.ticket) as borrow:
        assert lease.array((3,), "<u2").tolist() == [0x0707] * 3
        assert borrow.array((1,), "u1").tolist() == [7]
        assert borrow.array().shape == lease.array().shape == (2, 3)


@pytest.mark.parametrize("ending", ["release", "detach", "put"])
def test_a_lease_that_is_over_cannot_be_shared(pool: Pool, ending: str) -> None:
    """AlreadyEndedError, and nothing is shared."""
    lease = pool.acquire()
    {"release": lease.release, "detach": lease.detach, "put": lambda: pool.queue("a").put(lease)}[
        ending
    ]()
    with pytest.raises(shmpool.AlreadyEndedError, match="share"):
        lease.share()
    assert pool.audit()["shared"] == 0
    if ending == "detach":
        pool.claim(Ticket.of(lease.slot, lease.generation + 1)).release()


def test_a_lease_at_its_last_generation_cannot_be_shared(make_pool: MakePool) -> None:
    """An error and no harm: it stays leased, is written to and released, and retires."""
    pool = make_pool(slots=2)
    pool._mapping.view().slots["word"][0] = _core.GENERATION_MAX << 16
    lease = pool.acquire()
    assert (lease.slot, lease.generation) == (0, _core.GENERATION_MAX)
    with pytest.raises(shmpool.ShmpoolError, match="generations"):
        lease.share()
    assert not lease.shared
    assert lease.live
    lease.array((2,), "u1")[:] = 1
    assert states(pool) == {"free": 1, "leased": 1}
    lease.release()
    assert states(pool) == {"free": 1, "retired": 1}


def test_the_last_generation_but_one_can_be_shared(make_pool: MakePool) -> None:
    """It drains into the last one, is leased once more, and then retires."""
    pool = make_pool(slots=1)
    pool._mapping.view().slots["word"][0] = (_core.GENERATION_MAX - 1) << 16
    lease = pool.acquire()
    borrow = pool.borrow(lease.share())
    lease.release()
    assert states(pool) == {"draining": 1}
    borrow.release()
    with pool.acquire() as last:
        assert last.generation == _core.GENERATION_MAX
    assert states(pool) == {"retired": 1}


def test_a_slot_from_a_queue_is_shared_and_released(pool: Pool) -> None:
    """What was got or claimed is shared as what was acquired."""
    lease = pool.acquire()
    lease.array((3,), "u1")[:] = 5
    pool.queue("a").put(lease)
    for taken in (lambda: pool.queue("a").get(), lambda: pool.claim(pool.acquire().detach())):
        got = taken()
        with pool.borrow(got.share()):
            got.release()
    assert states(pool) == {"free": 4}


# --- how borrows end ----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_owner_may_release_first(one: Pool, ending: str) -> None:
    """The slot drains: no new borrow, those that are out stay good, the last one frees it."""
    lease = shared(one)
    ticket = lease.ticket
    borrows = [one.borrow(ticket) for _ in range(3)]
    lease.release()
    for borrow in borrows:
        assert states(one) == {"draining": 1}
        assert borrow.live
        assert borrow.array().tolist() == [[7] * 3] * 2
        with pytest.raises(shmpool.StaleTicketError):
            one.borrow(ticket)
        with pytest.raises(shmpool.PoolExhaustedError):
            one.acquire_nowait()
        ENDINGS[ending](borrow)
        assert not borrow.live
    assert states(one) == {"free": 1}
    with one.acquire_nowait() as following:
        assert following.generation == ticket.generation + 1


def test_borrows_may_end_first(one: Pool) -> None:
    """While the owner holds on, the slot stays shared and can be borrowed again."""
    lease = shared(one)
    for _ in range(3):
        with one.borrow(lease.ticket):
            pass
        assert states(one) == {"shared": 1}
    lease.release()
    assert states(one) == {"free": 1}


def test_a_draining_slot_says_who_reads_it(make_pool: MakePool) -> None:
    """PoolExhaustedError and StaleTicketError name the borrower with its pid."""
    pool = make_pool(slots=1, member_name="reader")
    lease = shared(pool)
    ticket, borrow = lease.ticket, pool.borrow(lease.ticket)
    assert f"shared by reader (pid {os.getpid()})" in str(stale(pool, Ticket(ticket + 1)))
    lease.release()
    text = str(stale(pool, ticket))
    assert "released under generation 2" in text
    assert f"read by reader (pid {os.getpid()})" in text
    with pytest.raises(shmpool.PoolExhaustedError, match=r"reader \(pid \d+\): 1 borrowed for"):
        pool.acquire(timeout=0)
    borrow.release()


def stale(pool: Pool, ticket: int) -> shmpool.StaleTicketError:
    """The error of a borrow that is refused."""
    with pytest.raises(shmpool.StaleTicketError) as caught:
        pool.borrow(ticket)
    return caught.value


USES: dict[str, Callable[[Any], object]] = {
    "array": lambda borrow: borrow.array((2,), "u1"),
    "described array": lambda borrow: borrow.array(),
    "memoryview": memoryview,
    "frombuffer": lambda borrow: frombuffer(borrow, "u1"),
    "header": lambda borrow: borrow.header.number,
    "write to the header": lambda borrow: borrow.header.assign((1, b"")),
    "reader": lambda borrow: borrow.reader(),
    "release": lambda borrow: borrow.release(),
    "enter": lambda borrow: borrow.__enter__(),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("use", USES)
def test_every_use_of_a_borrow_that_is_over_raises(
    make_pool: MakePool, use: str, ending: str
) -> None:
    """AlreadyEndedError with slot and generation; nobody else's borrow ends by it."""
    pool = make_pool(header=HEADER)
    lease = shared(pool)
    borrow, other = pool.borrow(lease.ticket), pool.borrow(lease.ticket)
    ENDINGS[ending](borrow)
    with pytest.raises(shmpool.AlreadyEndedError, match="it was released before") as caught:
        USES[use](borrow)
    assert (caught.value.slot, caught.value.generation) == (lease.slot, lease.generation)
    assert caught.value.state == "SHARED"
    lease.release()
    assert states(pool) == {"free": 3, "draining": 1}
    other.release()
    assert states(pool) == {"free": 4}


def test_leaving_the_block_of_a_borrow_that_ended_inside_does_nothing(pool: Pool) -> None:
    """`with pool.borrow(t) as b: b.release()` is no error."""
    with shared(pool) as lease, pool.borrow(lease.ticket) as borrow:
        borrow.release()
    assert states(pool) == {"free": 4}


@pytest.mark.parametrize("viewed", [False, True])
def test_an_exception_in_the_block_of_a_borrow_is_not_masked(pool: Pool, viewed: bool) -> None:
    """The error on its way is the one seen, even under living views; the borrow ends."""
    lease = shared(pool)
    borrow = pool.borrow(lease.ticket)
    kept = [borrow.array()] if viewed else []
    with pytest.raises(KeyError, match="mine"), borrow:
        raise KeyError("mine")
    assert not borrow.live
    lease.release()
    assert states(pool) == {"free": 4}
    kept.clear()


def test_views_of_a_failed_block_hold_a_borrow_where_they_are_no_error(strict: Pool) -> None:
    """With views="raise" the error goes on unmasked; the slot drains until the last view dies."""
    lease = shared(strict)
    borrow = strict.borrow(lease.ticket)
    kept = [borrow.array()]
    with pytest.raises(KeyError, match="mine"), borrow:
        raise KeyError("mine")
    assert not borrow.live
    lease.release()
    assert states(strict) == {"draining": 1}
    kept.clear()
    assert states(strict) == {"free": 1}


def test_collecting_a_borrow_gives_it_back(pool: Pool) -> None:
    """A borrow that nobody refers to holds nothing."""
    lease = shared(pool)
    borrow = pool.borrow(lease.ticket)
    lease.release()
    del borrow
    assert states(pool) == {"free": 4}


def test_collecting_a_shared_lease_releases_it(pool: Pool) -> None:
    """As any lease: the slot drains, or is free."""
    lease = shared(pool)
    borrow = pool.borrow(lease.ticket)
    del lease
    assert states(pool) == {"free": 3, "draining": 1}
    borrow.release()
    lease = shared(pool)
    del lease
    assert states(pool) == {"free": 4}


# --- living views -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("viewing", VIEWS)
def test_a_borrow_does_not_end_under_a_view(strict: Pool, viewing: str, ending: str) -> None:
    """With views="raise": ViewsAliveError that speaks of a borrow, which goes on."""
    one = strict
    lease = shared(one)
    borrow = one.borrow(lease.ticket)
    view = VIEWS[viewing](borrow)
    with pytest.raises(shmpool.ViewsAliveError, match="borrow") as caught:
        ENDINGS[ending](borrow)
    assert (caught.value.slot, caught.value.views) == (lease.slot, 1)
    assert f"cannot release borrow {borrow}" in str(caught.value)
    assert "The borrow goes on" in str(caught.value)
    assert borrow.live
    lease.release()
    assert states(one) == {"draining": 1}
    assert bytes(borrow)[:6] == b"\7" * 6
    del view
    ENDINGS[ending](borrow)
    assert states(one) == {"free": 1}


@pytest.mark.parametrize("viewing", VIEWS)
def test_a_shared_lease_does_not_end_under_a_view(strict: Pool, viewing: str) -> None:
    """The owner's read-only views hold the lease as any view does, and borrows are not hurt."""
    one = strict
    lease = shared(one)
    borrow, view = one.borrow(lease.ticket), VIEWS[viewing](lease)
    with pytest.raises(shmpool.ViewsAliveError, match="lease"):
        lease.release()
    assert states(one) == {"shared": 1}
    one.borrow(lease.ticket).release()
    del view
    lease.release()
    borrow.release()
    assert states(one) == {"free": 1}


def test_the_error_counts_the_views_of_one_borrow(strict: Pool) -> None:
    """Views of the lease and of other borrows of the slot are not counted, nor do they hold."""
    lease = shared(strict)
    one, other = strict.borrow(lease.ticket), strict.borrow(lease.ticket)
    kept = [one.array() for _ in range(3)]
    other.release()
    with pytest.raises(shmpool.ViewsAliveError, match="3 arrays") as caught:
        one.release()
    assert caught.value.views == 3
    lease.release()
    kept.clear()
    one.release()


@pytest.mark.parametrize("viewing", VIEWS)
def test_a_collected_borrow_gives_back_when_the_last_view_dies(one: Pool, viewing: str) -> None:
    """Not before, so nobody writes under the view, and at once then."""
    lease = shared(one)
    borrow = one.borrow(lease.ticket)
    views = [VIEWS[viewing](borrow), memoryview(borrow)]
    del borrow
    lease.release()
    for _ in range(2):
        assert states(one) == {"draining": 1}
        with pytest.raises(shmpool.PoolExhaustedError):
            one.acquire_nowait()
        views.pop(0)
    assert states(one) == {"free": 1}


def test_a_collected_shared_lease_ends_when_its_last_view_dies(one: Pool) -> None:
    """Until then the slot stays shared, and can be borrowed."""
    lease = shared(one)
    ticket, view = lease.ticket, lease.array()
    del lease
    assert states(one) == {"shared": 1}
    borrow = one.borrow(ticket)
    del view
    assert states(one) == {"draining": 1}
    borrow.release()
    assert states(one) == {"free": 1}


def test_an_error_that_is_kept_is_no_view_of_a_borrow(strict: Pool) -> None:
    """A refused call leaves nothing in its traceback that keeps the borrow from ending."""
    lease = strict.acquire()
    borrow = strict.borrow(lease.share())
    kept = []
    for fails in (
        borrow.array, borrow.reader, lambda: borrow.array((PAGE + 1,), "u1"),
        lambda: frombuffer(borrow, "u1", count=PAGE + 1),
        lambda: borrow.header,
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError, shmpool.ShmpoolError)) as caught:
            fails()
        kept.append(caught)
    borrow.release()
    lease.release()


def test_views_are_ignored_in_borrows_where_the_pool_says_so(make_pool: MakePool) -> None:
    """views="ignore" ends a borrow under an array, by release and by collection."""
    pool = make_pool(slots=1, views="ignore")
    for end in (lambda borrow: borrow.release(), lambda _: None):
        lease = shared(pool)
        borrow = pool.borrow(lease.ticket)
        array = borrow.array()
        lease.release()
        end(borrow)
        del borrow
        assert states(pool) == {"free": 1}
        assert array.shape == (2, 3)


# --- tickets that cannot be borrowed ------------------------------------------------------


def test_a_lease_that_nobody_shared_is_told_what_to_do(pool: Pool) -> None:
    """Its holder has to share() it; and who that is."""
    with pool.acquire() as lease:
        error = stale(pool, lease.ticket)
        assert "its holder has to share() it" in str(error)
        assert (error.state, error.pid) == ("LEASED", os.getpid())
        assert (error.slot, error.generation) == (lease.slot, lease.generation)
        assert not isinstance(error, shmpool.AlreadyClaimedError)


def test_a_detached_ticket_is_to_be_claimed(pool: Pool) -> None:
    """To claim() it: and it is still good for that."""
    ticket = pool.acquire().detach()
    assert "claim() it" in str(stale(pool, ticket))
    pool.claim(ticket).release()


def test_a_queued_ticket_is_to_be_taken_from_its_queue(pool: Pool) -> None:
    """To take it from its queue, whose name it says."""
    lease = pool.acquire()
    pool.queue("a").put(lease)
    text = str(stale(pool, Ticket.of(lease.slot, lease.generation + 1)))
    assert "take it from its queue" in text
    assert "'a'" in text
    pool.queue("a").get().release()


def test_a_shared_ticket_is_not_claimed(pool: Pool) -> None:
    """To borrow() it; claiming takes nothing from anybody."""
    with shared(pool) as lease:
        with pytest.raises(shmpool.StaleTicketError, match=r"borrow\(\) it") as caught:
            pool.claim(lease.ticket)
        assert not isinstance(caught.value, shmpool.AlreadyClaimedError)
        assert lease.live


@pytest.mark.parametrize("ahead", [-1, 0, 1, 1 << 40])
def test_a_free_slot_is_not_borrowed(pool: Pool, ahead: int) -> None:
    """Whatever the generation: past, present, or never issued."""
    pool.acquire().release()
    error = stale(pool, Ticket.of(0, 2 + ahead))
    assert (error.current_generation, error.state) == (2, "FREE")
    assert "that right is over" in str(error)
    assert states(pool) == {"free": 4}


@pytest.mark.parametrize("slot", [4, 65_535])
def test_a_ticket_of_a_slot_that_is_not_there_is_stale(pool: Pool, slot: int) -> None:
    """It is another pool's: the message says how many slots this one has."""
    error = stale(pool, Ticket.of(slot, 3))
    assert "has 4 slots" in str(error)
    assert f"{slot}@3" in str(error)


def test_a_ticket_of_another_generation_leaves_no_mark(one: Pool) -> None:
    """A borrow in vain sets no bit that would keep the slot from being freed."""
    lease = shared(one)
    for ahead in (-1, 1):
        stale(one, Ticket.of(lease.slot, lease.generation + ahead))
    borrow = one.borrow(lease.ticket)
    lease.release()
    stale(one, lease.ticket)
    assert states(one) == {"draining": 1}  # the audit would find a bit of nobody's
    borrow.release()
    stale(one, lease.ticket)
    assert states(one) == {"free": 1}
    assert one.statistics().members[0].stale == 4


# --- pools, members, statistics -----------------------------------------------------------


def test_each_member_borrows_for_itself(make_pool: MakePool) -> None:
    """Two attachments: the slot is free when both are done, whatever their order."""
    pool = make_pool(slots=1)
    with Pool.attach(pool.name) as other, Pool.attach(pool.name) as third:
        lease = shared(pool)
        borrows = [p.borrow(lease.ticket) for p in (other, third, other, pool)]
        lease.release()
        for borrow in (borrows[1], borrows[0], borrows[3]):
            borrow.release()
            assert states(pool) == {"draining": 1}
        borrows[2].release()
        assert states(pool) == {"free": 1}


def test_a_waiter_is_woken_by_the_last_borrower(one: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a slot gets the drained one; it would sleep for ever if nobody rang."""
    monkeypatch.setattr("shmpool._waiting.SLICE", 1e6)
    lease = shared(one)
    borrow = one.borrow(lease.ticket)
    lease.release()
    generations: list[int] = []
    waiter = threading.Thread(target=lambda: generations.append(one.acquire().generation))
    waiter.start()
    while not any(one._mapping.view().class_states["waiting"][0]):
        pass
    borrow.release()
    waiter.join()
    assert generations == [2]


def test_a_borrow_is_no_lease_to_put(pool: Pool) -> None:
    """TypeError: what is only read cannot be sent on."""
    with shared(pool) as lease, pool.borrow(lease.ticket) as borrow:
        for options in ({}, {"timeout": 0}):
            with pytest.raises(TypeError, match="Borrow"):
                pool.queue("a").put(borrow, **options)  # type: ignore[arg-type]
        assert borrow.live


def test_closing_with_borrows_in_hand_is_told(make_pool: MakePool) -> None:
    """LeasesAliveError names their slots; they stay readable until they are given back."""
    pool = make_pool()
    lease = shared(pool)
    with Pool.attach(pool.name) as other:
        borrow = other.borrow(lease.ticket)
        with pytest.raises(shmpool.LeasesAliveError) as caught:
            other.close()
        assert caught.value.slots == [lease.slot]
        lease.release()
        assert borrow.array().tolist() == [[7] * 3] * 2
        assert states(pool) == {"free": 3, "draining": 1}
        with pytest.raises(shmpool.PoolClosedError):
            other.borrow(lease.ticket)
        borrow.release()
    assert states(pool) == {"free": 4}


def test_the_coordinator_closes_with_borrows_in_hand(make_pool: MakePool) -> None:
    """So does the coordinator's; a collected borrow under views is nothing in hand."""
    pool = make_pool()
    lease = shared(pool)
    borrow, array = pool.borrow(lease.ticket), pool.borrow(lease.ticket).array()
    with pytest.raises(shmpool.LeasesAliveError) as caught:
        pool.close()
    assert caught.value.slots == [lease.slot]
    assert borrow.array().tolist() == array.tolist()
    borrow.release()
    lease.release()


def test_a_closed_pool_lends_nothing(make_pool: MakePool) -> None:
    """PoolClosedError, also from a member whose coordinator closed."""
    pool = make_pool()
    other = Pool.attach(pool.name)
    ticket = pool.acquire().ticket
    pool.close()
    for closed in (pool, other):
        with pytest.raises(shmpool.PoolClosedError):
            closed.borrow(ticket)
    other.close()


def test_statistics_count_shares_borrows_and_bytes(pool: Pool) -> None:
    """Each share once, each borrow, and what went from hand to hand without a copy."""
    with shared(pool) as lease:
        for _ in range(5):
            pool.borrow(lease.ticket).release()
        with pytest.raises(shmpool.StaleTicketError):
            pool.borrow(0)
        snapshot = pool.statistics()
        assert (snapshot.shared, snapshot.draining, snapshot.leased) == (1, 0, 0)
    member = pool.statistics().members[0]
    assert (member.shared, member.borrowed, member.stale) == (1, 5, 1)
    assert (member.acquired, member.released) == (1, 1)
    assert member.received == pool.statistics().bytes_handed_on == 5 * PAGE
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.shared = 2  # type: ignore[misc]


def test_gets_claims_and_borrows_are_bytes_received(make_pool: MakePool) -> None:
    """`received` counts whole slots of whatever class they are of; acquiring is no receiving."""
    pool = make_pool(slots=None, slot_size=None, classes=[(64, 2), (PAGE, 2)])
    pool.queue("a").put(pool.acquire(64))
    pool.queue("a").get().release()
    pool.claim(pool.acquire(PAGE).detach()).release()
    with pool.acquire(PAGE) as lease:
        pool.borrow(lease.share()).release()
    assert pool.statistics().members[0].received == 64 + PAGE + PAGE


@pytest.mark.parametrize("state", ["free", "leased", "queued"])
def test_the_audit_finds_a_bit_where_nobody_may_read(pool: Pool, state: str) -> None:
    """I8: readers there are of shared and draining slots alone."""
    with shared(pool) as lease:
        pool.borrow(lease.ticket).release()  # so that reader id 0 is ours
    lease = pool.acquire()
    if state == "free":
        lease.release()
    elif state == "queued":
        pool.queue("a").put(lease)
    bits = pool._mapping.view().slots["readers"][lease.slot]
    bits[0] = 1
    with pytest.raises(shmpool.AuditError, match="I8") as caught:
        pool.audit()
    assert caught.value.slot == lease.slot
    bits[0] = 0
    pool.audit()
    if lease.live:
        lease.release()


def test_the_audit_finds_a_reader_who_is_nobody(pool: Pool) -> None:
    """I8: a bit whose reader id no member has would never be cleared."""
    with shared(pool) as lease:
        bits = pool._mapping.view().slots["readers"][lease.slot]
        bits[3] = 1 << 63
        with pytest.raises(shmpool.AuditError, match="a reader is a member"):
            pool.audit()
        bits[3] = 0
        pool.audit()


# --- threads ------------------------------------------------------------------------------


def test_threads_borrow_one_ticket_while_the_owner_releases(one: Pool) -> None:
    """8 threads, 50 borrows each, over many generations: right bytes or StaleTicketError."""
    errors: list[BaseException] = []
    counts = {"borrowed": 0, "stale": 0}
    lock, start = threading.Lock(), threading.Barrier(9)
    current: list[Ticket] = [Ticket(0)]

    def read() -> None:
        try:
            start.wait()
            for _ in range(50):
                ticket = current[0]
                try:
                    with one.borrow(ticket) as borrow:
                        values = set(borrow.array().ravel().tolist())
                    assert values == {ticket.generation % 251}
                    with lock:
                        counts["borrowed"] += 1
                except shmpool.StaleTicketError:
                    with lock:
                        counts["stale"] += 1
        except BaseException as error:  # noqa: BLE001 - told at the end
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    lease = shared(one, 1)
    current[0] = lease.ticket
    start.wait()
    while any(thread.is_alive() for thread in threads):
        lease.release()
        lease = one.acquire()
        lease.array((2, 512), "u1")[:] = lease.generation % 251
        current[0] = lease.share()
    lease.release()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert counts["borrowed"] + counts["stale"] == 400
    assert one.statistics().members[0].borrowed == counts["borrowed"]
    assert states(one) == {"free": 1}


def test_many_borrows_at_once_are_counted_each(one: Pool) -> None:
    """One process may hold hundreds of one slot: it is free after the last, in any order."""
    lease = shared(one)
    borrows = [one.borrow(lease.ticket) for _ in range(400)]
    lease.release()
    borrows[::2] = [borrow.release() for borrow in borrows[::2]]  # type: ignore[func-returns-value]
    assert states(one) == {"draining": 1}
    borrows.clear()
    assert states(one) == {"free": 1}


# --- the object ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Borrow, _core.BorrowBase], ids=lambda kind: kind.__name__)
def test_a_borrow_cannot_be_made_by_hand(kind: type) -> None:
    """Borrows come from `pool.borrow` alone."""
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        object.__new__(kind)


def test_a_borrow_takes_no_attributes_and_does_not_pickle(pool: Pool) -> None:
    """Slots only; its ticket travels, the right does not."""
    with shared(pool) as lease, pool.borrow(lease.ticket) as borrow:
        for name in ("extra", "slot", "generation", "live"):
            with pytest.raises(AttributeError):
                setattr(borrow, name, 1)
        with pytest.raises(TypeError):
            pickle.dumps(borrow)
        again = pickle.loads(pickle.dumps(borrow.ticket))  # noqa: S301 - our own
        pool.borrow(again).release()


def test_a_weak_reference_to_a_borrow_dies_with_it(pool: Pool) -> None:
    """`weakref.ref(borrow)` works and keeps nothing."""
    with shared(pool) as lease:
        borrow = pool.borrow(lease.ticket)
        reference = weakref.ref(borrow)
        assert reference() is borrow
        del borrow
        assert reference() is None


def test_borrowing_leaks_no_references(pool: Pool) -> None:
    """A thousand borrows leave the mapping's reference count as it was."""
    mapping = pool._mapping
    lease = shared(pool)
    before = sys.getrefcount(mapping)
    for _ in range(1000):
        borrow = pool.borrow(lease.ticket)
        borrow.array()
        borrow.release()
        with pytest.raises(shmpool.StaleTicketError):
            pool.borrow(0)
    del borrow
    gc.collect()
    assert sys.getrefcount(mapping) == before
    lease.release()


def test_a_borrow_outlives_its_pool_object() -> None:
    """Lease and borrow in hand when the Pool is collected are read and released as ever."""
    pool = Pool.create(slots=2, slot_size=PAGE)
    lease = shared(pool)
    borrow = pool.borrow(lease.ticket)
    del pool
    gc.collect()
    assert borrow.array().tolist() == [[7] * 3] * 2
    lease.release()
    array = borrow.array()
    del borrow
    assert array.tolist() == [[7] * 3] * 2
