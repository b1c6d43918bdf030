"""Peeking: a copy of what a ticket stands for, or an error; never anything between."""

from __future__ import annotations

import multiprocessing as mp
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Pool, PoolStatistics, QueueOptions, Ticket, _core, _peek
from workers import crasher

PAGE = 4096
POINT = np.dtype([("x", "<f4"), ("tag", "S3"), ("box", "<i2", (2, 2))])
OFFSETS = np.dtype({"names": ["a", "b"], "formats": ["<i2", "<f8"], "offsets": [8, 16]})

MakePool = Callable[..., Pool]
frombuffer: Any = np.frombuffer


def put(pool: Pool, lease: shmpool.Lease) -> Ticket:
    """Put a lease into queue "a": the ticket that waits there."""
    ticket = Ticket.of(lease.slot, lease.generation + 1)
    pool.queue("a").put(lease)
    return ticket


SENDING: dict[str, Callable[[Pool, shmpool.Lease], Ticket]] = {
    "queued": put,
    "detached": lambda _, lease: lease.detach(),
    "shared": lambda _, lease: lease.share(),
}


@pytest.fixture
def quarantine(make_pool: MakePool) -> Callable[..., tuple[Pool, Ticket]]:
    """A pool with a slot in quarantine, whose holder was killed."""

    def make(**options: Any) -> tuple[Pool, Ticket]:
        pool = make_pool(queues={"a": QueueOptions(on_death="quarantine")}, **options)
        lease = pool.acquire()
        lease.array((3,), "u1")[:] = 7
        pool.queue("a").put(lease)
        context = mp.get_context("fork")
        gate = context.Event()
        taker = context.Process(target=crasher.take, args=(pool.queue("a"), gate))
        taker.start()
        gate.wait()
        taker.kill()
        taker.join()
        while not pool.quarantined():
            pass
        return pool, pool.quarantined()[0].ticket

    return make


# --- what it gives ------------------------------------------------------------------------


@pytest.mark.parametrize("sending", SENDING)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((3, 4), "f4"),
        (5, "u1"),
        ((), "f8"),
        ((), POINT),
        (0, "f8"),
        ((3, 0, 2), "i4"),
        ((4,), POINT),
        ((2, 2), OFFSETS),
        ((3,), ">u4"),
        ((3,), "S5"),
        ((2,), "<U5"),
        ((3,), "M8[us]"),
        ((PAGE,), "u1"),
        ((1,) * 8, "u1"),
    ],
    ids=str,
)
def test_a_copy_is_as_the_sender_described(
    pool: Pool, shape: Any, dtype: Any, sending: str
) -> None:
    """Shape, dtype and bytes; an array of its own, writable, that outlives everything."""
    lease = pool.acquire()
    frombuffer(lease, "u1")[:] = np.arange(PAGE) % 2
    payload = lease.array(shape, dtype).tobytes()
    ticket = SENDING[sending](pool, lease)
    got = pool.peek(ticket)
    assert got.shape == np.empty(shape, dtype).shape
    assert got.dtype == np.dtype(dtype)
    assert got.tobytes() == payload
    assert got.flags.c_contiguous
    assert got.flags.writeable
    assert not np.shares_memory(got, pool.peek(ticket))
    got[...] = np.zeros_like(got)
    assert pool.peek(ticket).tobytes() == payload


@pytest.mark.parametrize("sending", SENDING)
def test_what_nobody_described_is_the_whole_slot_in_bytes(
    make_pool: MakePool, sending: str
) -> None:
    """`slot_size` bytes, not the stride, of whatever size."""
    pool = make_pool(slot_size=5000)
    lease = pool.acquire()
    memoryview(lease)[:] = bytes(number % 251 for number in range(5000))
    got = pool.peek(SENDING[sending](pool, lease))
    assert (got.shape, got.dtype) == ((5000,), np.dtype("u1"))
    assert got.tolist() == [number % 251 for number in range(5000)]


def test_written_bytes_are_peeked_at_as_written(pool: Pool) -> None:
    """What a closed writer described is what is copied."""
    lease = pool.acquire()
    with lease.writer() as file:
        file.write(b"some text")
    assert bytes(pool.peek(lease.detach())) == b"some text"


@pytest.mark.parametrize("slot_size", [64, 100, PAGE, 3 * PAGE, 1 << 20])
def test_every_slot_is_read_at_its_place(make_pool: MakePool, slot_size: int) -> None:
    """Each ticket gives its own slot's bytes, also of slots smaller than a page, or large."""
    pool = make_pool(slots=5, slot_size=slot_size)
    tickets = []
    for number in range(5):
        lease = pool.acquire()
        lease.array(slot_size, "u1")[:] = number + 1
        tickets.append(lease.detach())
    for number, ticket in enumerate(tickets):
        got = pool.peek(ticket)
        assert got.shape == (slot_size,)
        assert (got == number + 1).all()


def test_every_class_is_read_at_its_place(make_pool: MakePool) -> None:
    """Slots of several sizes lie in several files: each is read in its own."""
    sizes = (64, PAGE, 5 * PAGE)
    pool = make_pool(slots=None, slot_size=None, classes=[(size, 2) for size in sizes])
    tickets = {}
    for size in sizes:
        for number in range(2):
            lease = pool.acquire(size)
            memoryview(lease)[:] = bytes([number + size % 249]) * size
            tickets[lease.detach()] = size, number + size % 249
    assert len(tickets) == 6
    for ticket, (size, value) in tickets.items():
        assert pool.peek(ticket).tolist() == [value] * size


def test_a_ticket_may_be_a_plain_integer(pool: Pool) -> None:
    """It came as text or by struct: an int is a ticket, anything else is refused by kind."""
    lease = pool.acquire()
    ticket = lease.detach()
    assert pool.peek(int(ticket)).nbytes == PAGE
    for number in (-1, 1 << 64):
        with pytest.raises(shmpool.ArgumentError):
            pool.peek(number)
    with pytest.raises(TypeError):
        pool.peek("0@1")  # type: ignore[arg-type]


# --- what it costs others: nothing ----------------------------------------------------------


def without_ages(pool: Pool) -> PoolStatistics:
    """What is counted; the oldest ticket grows older by itself."""
    seen = pool.statistics()
    queues = tuple(replace(queue, oldest=None) for queue in seen.queue_statistics)
    return replace(seen, queue_statistics=queues)


@pytest.mark.parametrize("sending", SENDING)
def test_peeking_takes_nothing_from_anybody(pool: Pool, sending: str) -> None:
    """The ticket is as good as before: no right, no bit, no wait, nothing counted."""
    lease = pool.acquire()
    lease.array((3,), "u1")[:] = 7
    ticket = SENDING[sending](pool, lease)
    before, words = without_ages(pool), pool._mapping.view().words().tolist()
    for _ in range(100):
        pool.peek(ticket)
    assert without_ages(pool) == before
    assert pool._mapping.view().words().tolist() == words
    if sending == "queued":
        pool.queue("a").get().release()
    elif sending == "detached":
        pool.claim(ticket).release()
    else:
        pool.borrow(ticket).release()
        lease.release()
    assert pool.audit()["free"] == pool.slots


def test_a_copy_does_not_keep_the_owner(pool: Pool) -> None:
    """A peeked array is no view: the lease ends under it."""
    lease = pool.acquire()
    lease.array((3,), "u1")[:] = 7
    got = pool.peek(lease.share())
    lease.release()
    assert got.tolist() == [7] * 3


def test_another_member_peeks(pool: Pool) -> None:
    """Any attachment may, while others borrow."""
    lease = pool.acquire()
    lease.array((3,), "u1")[:] = 7
    with Pool.attach(pool.name) as other, pool.borrow(lease.share()) as borrow:
        assert other.peek(borrow.ticket).tolist() == [7] * 3
    lease.release()


# --- in each state ------------------------------------------------------------------------


def stale(pool: Pool, ticket: int) -> shmpool.StaleTicketError:
    """The error of a peek that is refused."""
    with pytest.raises(shmpool.StaleTicketError) as caught:
        pool.peek(ticket)
    return caught.value


def test_a_slot_in_quarantine_is_peeked_at(quarantine: Callable[..., tuple[Pool, Ticket]]) -> None:
    """With its description; after the claim no more."""
    pool, ticket = quarantine()
    assert pool.peek(ticket).tolist() == [7] * 3
    assert pool.peek(pool.quarantined()[0].ticket).tolist() == [7] * 3
    with pool.claim(ticket):
        stale(pool, ticket)
    stale(pool, ticket)
    assert pool.audit()["free"] == pool.slots


def test_a_lease_in_hand_is_not_peeked_at(pool: Pool) -> None:
    """Its holder may be writing to it: the message says so, and who that is."""
    with pool.acquire() as lease:
        error = stale(pool, lease.ticket)
    assert "may be writing" in str(error)
    assert (error.state, error.pid) == ("LEASED", os.getpid())


def test_a_claimed_or_taken_ticket_is_not_peeked_at(pool: Pool) -> None:
    """Whoever has it now may be writing to it."""
    lease = pool.acquire()
    ticket = put(pool, lease)
    with pool.queue("a").get():
        stale(pool, ticket)
    ticket = pool.acquire().detach()
    with pool.claim(ticket):
        stale(pool, ticket)


@pytest.mark.parametrize("ahead", [-1, 0, 1, 1 << 40])
def test_a_free_slot_is_not_peeked_at(pool: Pool, ahead: int) -> None:
    """Whatever the generation."""
    pool.acquire().release()
    error = stale(pool, Ticket.of(0, 2 + ahead))
    assert (error.state, error.current_generation) == ("FREE", 2)


@pytest.mark.parametrize("ahead", [-1, 1])
@pytest.mark.parametrize("sending", SENDING)
def test_another_generation_is_not_peeked_at(pool: Pool, sending: str, ahead: int) -> None:
    """The slot is on its way, but not by this ticket."""
    ticket = SENDING[sending](pool, pool.acquire())
    assert "that right is over" in str(
        stale(pool, Ticket.of(ticket.slot, ticket.generation + ahead))
    )


def test_a_draining_slot_is_not_peeked_at(pool: Pool) -> None:
    """Its owner has released it: the ticket is over, though borrowers read on."""
    lease = pool.acquire()
    ticket = lease.share()
    with pool.borrow(ticket):
        lease.release()
        assert stale(pool, ticket).state == "DRAINING"
        assert stale(pool, Ticket.of(ticket.slot, ticket.generation + 1)).state == "DRAINING"


def test_an_uncommitted_or_retired_slot_is_not_peeked_at(make_pool: MakePool) -> None:
    """There is nothing to read."""
    pool = make_pool(slots=2, max_slots=4)
    pool._mapping.view().slots["word"][0] = _core.GENERATION_MAX << 16
    with pool.acquire() as lease:
        ticket = lease.ticket
    assert stale(pool, ticket).state == "RETIRED"
    assert stale(pool, Ticket.of(3, 1)).state == "UNCOMMITTED"


@pytest.mark.parametrize("slot", [4, 65_535])
def test_a_ticket_of_a_slot_that_is_not_there_is_stale(pool: Pool, slot: int) -> None:
    """It is another pool's: the message says how many slots this one has."""
    text = str(stale(pool, Ticket.of(slot, 3)))
    assert "peek at" in text
    assert "has 4 slots" in text


def test_a_closed_pool_is_not_peeked_into(make_pool: MakePool) -> None:
    """PoolClosedError, also from a member whose coordinator closed."""
    pool = make_pool()
    other, ticket = Pool.attach(pool.name), pool.acquire().detach()
    pool.close()
    for closed in (pool, other):
        with pytest.raises(shmpool.PoolClosedError):
            closed.peek(ticket)
    other.close()


@pytest.mark.parametrize("sheet", [b"\xff" * 192, b"\xff" * 8 + bytes(184)], ids=["all", "head"])
def test_a_description_that_is_none_is_told(pool: Pool, sheet: bytes) -> None:
    """CorruptSegmentError for a torn sheet, and nothing worse."""
    lease = pool.acquire()
    lease._describe(sheet)
    with pytest.raises(shmpool.CorruptSegmentError):
        pool.peek(lease.detach())


# --- in the middle of changes -------------------------------------------------------------

CHANGES: dict[str, Callable[[Pool, Ticket], object]] = {
    "release": lambda pool, ticket: pool.claim(ticket).release(),
    "claim": lambda pool, ticket: keep(pool.claim(ticket)),
    "share": lambda pool, ticket: keep(pool.claim(ticket)).share(),
    "send": lambda pool, ticket: pool.claim(ticket).detach(),
}
kept: list[shmpool.Lease] = []


def keep(lease: shmpool.Lease) -> shmpool.Lease:
    kept.append(lease)
    return lease


@pytest.fixture
def nothing_kept() -> Iterator[None]:
    """Leases that a change had to hold are dropped after the test."""
    yield
    kept.clear()


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_before_the_copy_is_an_error(
    pool: Pool, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between description and copy the ticket is claimed, and even shared under its generation."""
    lease = pool.acquire()
    lease.array((8,), "u1")[:] = 7
    ticket = lease.detach()
    empty = np.empty

    def meanwhile(*args: Any) -> Any:
        CHANGES[change](pool, ticket)
        return empty(*args)

    monkeypatch.setattr(_peek.np, "empty", meanwhile)
    stale(pool, ticket)


def test_racing_with_recycling_threads_no_copy_is_mixed(make_pool: MakePool) -> None:
    """4 MiB with one stamp all over, rewritten without pause: one stamp, its own, or an error."""
    size, rounds = 4 << 20, 500
    pool = make_pool(slots=1, slot_size=size)
    current, done = [Ticket(0)], threading.Event()
    failed: list[BaseException] = []

    def recycle() -> None:
        try:
            while not done.is_set():
                lease = pool.acquire()
                ticket = Ticket.of(lease.slot, lease.generation + 1)
                lease.array((size // 8,), "u8")[:] = int(ticket)
                current[0] = lease.detach()
                pool.claim(current[0]).release()
        except BaseException as error:  # noqa: BLE001 - told at the end
            failed.append(error)

    writer = threading.Thread(target=recycle)
    writer.start()
    try:
        while (ticket := current[0]).generation < rounds:
            # A copy is rarely as fast as the writer; the next test sees both outcomes.
            with suppress(shmpool.StaleTicketError):
                assert (pool.peek(ticket) == int(ticket)).all()
    finally:
        done.set()
        writer.join()
    assert not failed, failed


def recycle_for_ever(pool: Pool, size: int, numbers: Any, paused: Any) -> None:
    """Write, offer, linger a little every other time, take back: in a process of its own."""
    while True:
        lease = pool.acquire()
        ticket = Ticket.of(lease.slot, lease.generation + 1)
        lease.array((size // 8,), "u8")[:] = int(ticket)
        lease.detach()
        numbers[0] = int(ticket)
        if ticket.generation % 4 == 0:
            paused.acquire()
        pool.claim(ticket).release()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_racing_with_a_recycling_process_no_copy_is_mixed(make_pool: MakePool, method: str) -> None:
    """The same from another process, which waits now and then: both outcomes are seen.

    Every other time it is told to go on before the copy, so that it writes in its middle:
    such a copy has begun, and is refused all the same.
    """
    context: BaseContext = mp.get_context(method)
    size, rounds = 4 << 20, 40
    pool = make_pool(slots=1, slot_size=size)
    numbers, paused = context.Array("Q", 1, lock=False), context.Semaphore(0)
    writer = context.Process(target=recycle_for_ever, args=(pool, size, numbers, paused))
    writer.start()
    into = np.zeros(size // 8, "u8")
    overtaken = seen = turns = 0
    released = Ticket(0)
    try:
        while overtaken < 10 or seen < rounds:
            ticket = Ticket(numbers[0])
            waits = ticket.generation % 4 == 0 and ticket != released
            turns += waits
            try:
                state, _ = pool._mapping.peek_description(ticket)
                into[:] = 0
                if waits and turns % 2:
                    paused.release()
                    released = ticket
                pool._mapping.peek(ticket, state, into.data)
            except shmpool.StaleTicketError:
                overtaken += bool(into.any())
                continue
            seen += 1
            assert (into == int(ticket)).all()
            if waits and not turns % 2:
                assert (pool.peek(ticket) == int(ticket)).all()
                paused.release()
                released = ticket
    finally:
        writer.kill()
        writer.join()
    assert overtaken >= 10
    assert seen >= rounds
