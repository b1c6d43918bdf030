"""Who wants a slot, or room, and has waited, is told who has it: by an error, or by a warning."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Holder, Pool, QueueOptions, _holders, _waiting
from shmpool.testing import abandon

MakePool = Callable[..., Pool]
ME = os.getpid()
FILE = os.path.basename(__file__)  # noqa: PTH119 - as the story names it
TIGHT = {"a": QueueOptions(maxsize=2), "b": QueueOptions()}


@contextmanager
def guest(pool: Pool, name: str = "guest") -> Iterator[Pool]:
    """Another member, in this process."""
    with Pool.attach(pool.name, member_name=name) as other:
        yield other


def exhausted(pool: Pool, nbytes: int | None = None) -> shmpool.PoolExhaustedError:
    with pytest.raises(shmpool.PoolExhaustedError) as caught:
        pool.acquire_nowait(nbytes)
    return caught.value


def full(queue: shmpool.Queue, lease: shmpool.Lease) -> shmpool.QueueFull:
    with pytest.raises(shmpool.QueueFull) as caught:
        queue.put_nowait(lease)
    return caught.value


def aged(pool: Pool, **seconds: float) -> None:
    """Make slots as old as `slot_0=...` says."""
    since = pool._mapping.view().slots["since_ns"]
    now = int(since.max())
    for slot, age in seconds.items():
        since[int(slot.removeprefix("slot_"))] = now - int(age * 1e9)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait is long from its first slice on."""
    monkeypatch.setattr(_waiting, "PATIENCE", 0.0)


# What a member has.


def test_every_kind_of_hold_is_counted_for_its_member(make_pool: MakePool) -> None:
    """Leased and shared for the owner, borrowed for each reader, queued for who sent it on."""
    pool = make_pool(slots=8, member_name="me")
    with guest(pool) as other:
        kept = [pool.acquire(), pool.acquire()]
        lent = pool.acquire()
        borrows = [other.borrow(lent.share())]
        drained = other.acquire()
        borrows += [pool.borrow(drained.share())]
        drained.release()
        other.queue("a").put(other.acquire())
        tickets = [other.acquire().detach() for _ in range(2)]
        kept.append(pool.acquire())
        counts = {
            h.name: (h.leased, h.shared, h.borrowed, h.queued, h.slots, h.pid)
            for h in exhausted(pool).holders
        }
        assert counts == {"me": (3, 1, 1, 0, 5, ME), "guest": (0, 0, 1, 3, 4, ME)}
        for right in (*kept, lent, *borrows, pool.queue("a").get(), *map(pool.claim, tickets)):
            right.release()
    assert pool.audit()["free"] == 8


def test_the_longest_comes_first(make_pool: MakePool) -> None:
    """Rows are sorted by the oldest hold of each member, and say which slot that is."""
    pool = make_pool(slots=4, member_name="me")
    with guest(pool) as other:
        leases = [pool.acquire(), other.acquire(), pool.acquire(), other.acquire()]
        aged(pool, slot_0=3, slot_1=7, slot_2=5, slot_3=1)
        rows = exhausted(pool).holders
        assert [(h.name, h.slot, int(h.longest)) for h in rows] == [("guest", 1, 7), ("me", 2, 5)]
        for lease in leases:
            lease.release()


def test_only_slots_that_would_do_are_told(make_pool: MakePool) -> None:
    """Of a wanted size or larger: who has small ones is in nobody's way."""
    pool = make_pool(
        slots=None, slot_size=None, classes=[(64, 1), (8192, 1)], views="raise", member_name="me"
    )
    with guest(pool) as other:
        small, large = other.acquire(), pool.acquire(8192)
        assert [(h.name, h.slots) for h in exhausted(pool, 8192).holders] == [("me", 1)]
        assert {h.name for h in exhausted(pool).holders} == {"me", "guest"}
        for lease in (small, large):
            lease.release()


def test_a_holder_is_frozen_and_says_what_it_has() -> None:
    """As people read it; one slot needs no number, and without a site there is none."""
    one = Holder("me", 7, 1, 1, 0, 0, 0, 2.5, 3, "")
    assert str(one) == "me (pid 7): 1 leased for 2.50 s"
    some = dataclasses.replace(one, shared=1, borrowed=2, queued=3, site="x.py:9")
    assert str(some) == (
        "me (pid 7): 1 leased, 1 shared, 2 borrowed, 3 queued for up to 2.50 s, slot 3 at x.py:9"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.leased = 2  # type: ignore[misc]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 255])
def test_a_table_has_eight_lines_at_most(count: int) -> None:
    """The last line counts whoever has none."""
    rows = [Holder(f"m{n}", n, n, 2, 0, 0, 0, 1.0, 0, "") for n in range(count)]
    lines = _holders.table(rows)
    assert len(lines) == min(count, 8)
    if count > 8:
        assert lines[-1] == f"  and {count - 7} more with {2 * (count - 7)} slots"


def test_sites_are_told_by_pools_that_keep_them(make_pool: MakePool) -> None:
    """Of a lease, a share, a borrow, a put and a detach: the line that began it."""
    pool = make_pool(slots=5, debug=True, member_name="me", queues=TIGHT)
    with ExitStack() as stack:
        names = ("leased", "shared", "put", "detached")
        leased, shared, put, detached = (stack.enter_context(guest(pool, name)) for name in names)
        sites = {}
        held = leased.acquire()
        sites["leased"] = line_before()
        lent = shared.acquire()
        sites["shared"] = line_before()
        gone = shared.acquire()
        ticket = gone.share()
        borrow = pool.borrow(ticket)
        sites["me"] = line_before()
        gone.release()
        lent.share()
        lease = put.acquire()
        put.queue("a").put(lease)
        sites["put"] = line_before()
        lease = detached.acquire()
        away = lease.detach()
        sites["detached"] = line_before()
        error = exhausted(pool)
        assert {h.name: h.site for h in error.holders} == sites
        assert all(f" at {site}" in str(error) for site in sites.values())
        for right in (held, lent, borrow, pool.claim(away), pool.queue("a").get()):
            right.release()


def line_before() -> str:
    """The line before the one that calls, as a site."""
    return f"{FILE}:{sys._getframe(1).f_lineno - 1}"


def test_a_pool_without_a_story_has_no_sites(make_pool: MakePool) -> None:
    """And looks for none."""
    pool = make_pool(slots=1, debug=False)
    with pool.acquire():
        assert [h.site for h in exhausted(pool).holders] == [""]


def test_a_name_cannot_break_its_line(make_pool: MakePool) -> None:
    """A member may name itself as it likes; a line of the table stays one."""
    pool = make_pool(slots=1, member_name="a\nb\x1b[31m")
    with pool.acquire():
        error = exhausted(pool)
        assert [h.name for h in error.holders] == ["a?b?[31m"]
        assert len(str(error).splitlines()) == 2


@pytest.mark.parametrize("seed", range(5))
def test_random_words_do_no_harm(make_pool: MakePool, seed: int) -> None:
    """Owners and readers that are none are told as such, or left out."""
    pool = make_pool(slots=64)
    view, chance = pool._mapping.view(), np.random.default_rng(seed)
    before = view.slots.copy(), view.readers.copy()
    view.slots.view(np.uint8)[:] = chance.integers(0, 256, view.slots.nbytes, np.uint8)
    view.readers[:] = chance.integers(0, 1 << 63, view.readers.shape, np.uint64)
    try:
        for number in range(1, 3):
            put, taken = _holders.of_queue(pool._spec, view, number)
            assert len(_holders.table(put + taken)) <= 8
        assert all(isinstance(str(h), str) for h in _holders.of_slots(pool._spec, view, 0))
    finally:
        view.slots[:], view.readers[:] = before


# What the errors say.


def test_an_exhausted_pool_says_in_few_lines_who_has_it(make_pool: MakePool) -> None:
    """A sentence, then a line for each member."""
    pool = make_pool(slots=2, member_name="me")
    leases = [pool.acquire(), pool.acquire()]
    head, line = str(exhausted(pool)).split("\n")
    assert head == (
        f"none of the 2 slots of pool {pool.name!r} is free (2 leased); none came back in 0 s: "
        f"release earlier, pass a longer timeout=, or create the pool with more slots:"
    )
    assert line.startswith(f"  me (pid {ME}): 2 leased for up to ")
    for lease in leases:
        lease.release()


def test_the_error_of_a_writer_says_it_too(make_pool: MakePool) -> None:
    """SlotOverflowError has the holders of the larger slots that did not come."""
    pool = make_pool(
        slots=None, slot_size=None, classes=[(64, 1), (8192, 1)], views="raise", member_name="me"
    )
    with pool.acquire(64) as lease, pool.acquire(8192):
        with pytest.raises(shmpool.SlotOverflowError) as caught:
            lease.writer().write(bytes(65))
        assert [(h.name, h.leased) for h in caught.value.holders] == [("me", 1)]
        assert f"\n  me (pid {ME}): 1 leased for " in str(caught.value)


def test_a_full_queue_says_what_it_is_full_of(make_pool: MakePool) -> None:
    """Length, age of the oldest ticket, who put, who has taken, and who waits."""
    pool = make_pool(slots=5, member_name="me", queues=TIGHT)
    with guest(pool) as other:
        for member in (pool, pool, pool):
            if member.queue("a").qsize() == 2:
                taken = other.queue("a").get()
            member.queue("a").put(member.acquire())
        lease = pool.acquire()
        aged(pool, slot_0=60, slot_1=9, slot_2=2, slot_3=1)
        error = full(pool.queue("a"), lease)
        assert (error.pool, error.queue, error.length, error.maxsize) == (pool.name, "a", 2, 2)
        assert 9 <= error.oldest < 10
        assert error.waited == 0
        assert [(h.name, h.queued, h.slot) for h in error.holders] == [("me", 2, 1)]
        assert [(h.name, h.leased, h.slot) for h in error.consumers] == [("guest", 1, 0)]
        assert error.waiting == ()
        head, *lines = str(error).split("\n")
        assert head.startswith(f"queue 'a' of pool {pool.name!r} has 2 tickets (maxsize=2), the ")
        assert [line.partition(" for ")[0] for line in lines] == [
            f"  put by me (pid {ME}): 2 queued", f"  taken by guest (pid {ME}): 1 leased",
            "  waiting",
        ]  # fmt: skip
        assert lines[-1] == "  waiting for a ticket: nobody"
        for right in (lease, taken, *pool.queue("a").get_many(2)):
            right.release()


def test_who_put_most_comes_first(make_pool: MakePool) -> None:
    """Of a full queue: also if another's ticket is older."""
    pool = make_pool(slots=4, member_name="me", queues={"a": QueueOptions(maxsize=3)})
    with guest(pool) as other:
        for member in (other, pool, pool):
            member.queue("a").put(member.acquire())
        lease = pool.acquire()
        aged(pool, slot_0=9, slot_1=2, slot_2=1)
        error = full(pool.queue("a"), lease)
        assert [(h.name, h.queued) for h in error.holders] == [("me", 2), ("guest", 1)]
        assert int(error.oldest) == 9
        for right in (lease, *pool.queue("a").get_many(3)):
            right.release()


def test_a_full_queue_without_consumers_says_so(make_pool: MakePool) -> None:
    """Nobody waits and nobody has a slot of it: whoever should take is gone."""
    pool = make_pool(member_name="me", queues=TIGHT)
    for _ in range(2):
        pool.queue("a").put(pool.acquire())
    lease = pool.acquire()
    error = full(pool.queue("a"), lease)
    assert str(error).endswith("ticket: nobody, and nobody has a slot that came from it")
    # A member that sleeps for a ticket, as a killed one may still stand there.
    pool._mapping.wait_begin(shmpool._core.FOR_TICKET, 1)
    error = full(pool.queue("a"), lease)
    pool._mapping.wait_end(shmpool._core.FOR_TICKET, 1)
    assert error.waiting == (f"me (pid {ME})",)
    assert str(error).endswith(f"\n  waiting for a ticket: me (pid {ME})")
    for right in (lease, *pool.queue("a").get_many(2)):
        right.release()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_both_errors_travel_with_their_tables(make_pool: MakePool, protocol: int) -> None:
    """By pickle, with what they say and what they carry."""
    pool = make_pool(slots=3, queues=TIGHT, debug=True)
    for _ in range(2):
        pool.queue("a").put(pool.acquire())
    with pool.acquire() as lease:
        for error in (exhausted(pool), full(pool.queue("a"), lease)):
            twin = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
            assert (type(twin), str(twin), twin.facts) == (type(error), str(error), error.facts)
            assert twin.holders
            assert isinstance(twin.holders[0], Holder)
    for lease in pool.queue("a").get_many(2):
        lease.release()


# What is logged of a wait that is long.


def records(caplog: pytest.LogCaptureFixture, logger: str) -> list[Any]:
    return [record for record in caplog.records if record.name == logger]


def test_patience_is_five_seconds() -> None:
    """As the documents say."""
    assert _waiting.PATIENCE == 5.0


@pytest.mark.usefixtures("impatient")
def test_a_long_wait_for_a_slot_is_told_once(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    """At WARNING, with the table and its facts, however many slices the wait has."""
    pool = make_pool(slots=1, member_name="me")
    for _ in range(2):
        began = time.monotonic()
        with pool.acquire(), pytest.raises(shmpool.PoolExhaustedError):
            pool.acquire(timeout=0.35)
        elapsed = time.monotonic() - began
    told = records(caplog, "shmpool.pool")
    assert [record.levelno for record in told] == [logging.WARNING] * 2
    record = told[-1]
    assert record.pool == pool.name
    assert [(h.name, h.leased) for h in record.holders] == [("me", 1)]
    assert 0 < record.waited <= elapsed
    head, line = record.getMessage().split("\n")
    assert "s so far: the only slot of pool" in head
    assert line.startswith(f"  me (pid {ME}): 1 leased for ")


@pytest.mark.usefixtures("impatient")
def test_a_long_wait_for_room_is_told_once(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    """The same, of a queue."""
    pool = make_pool(member_name="me", queues=TIGHT)
    for _ in range(2):
        pool.queue("a").put(pool.acquire())
    lease = pool.acquire()
    began = time.monotonic()
    with pytest.raises(shmpool.QueueFull):
        pool.queue("a").put(lease, timeout=0.35)
    elapsed = time.monotonic() - began
    (record,) = records(caplog, "shmpool.queue")
    assert record.levelno == logging.WARNING
    assert (record.pool, record.queue, record.length, record.maxsize) == (pool.name, "a", 2, 2)
    assert [(h.name, h.queued) for h in record.holders] == [("me", 2)]
    assert (record.consumers, record.waiting) == ((), ())
    assert 0 < record.waited <= elapsed
    assert "\n  waiting for a ticket: nobody" in record.getMessage()
    for right in (lease, *pool.queue("a").get_many(2)):
        right.release()


@pytest.mark.usefixtures("impatient")
def test_a_wait_for_a_ticket_is_not_told(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """A consumer with nothing to do is no news."""
    with pytest.raises(shmpool.QueueEmpty):
        pool.queue("a").get(timeout=0.15)
    assert not [record for record in caplog.records if record.name.startswith("shmpool")]


def test_a_wait_that_is_not_long_is_not_told(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor one that does not wait at all."""
    pool = make_pool(slots=1)
    with pool.acquire():
        for timeout in (0, 0.25):
            with pytest.raises(shmpool.PoolExhaustedError):
                pool.acquire(timeout=timeout)
    assert not records(caplog, "shmpool.pool")


@pytest.mark.usefixtures("impatient")
def test_a_wait_that_was_told_of_goes_on(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever hears of it may give a slot back, and the waiter gets it."""
    pool = make_pool(slots=1)
    lease = pool.acquire()
    released = []

    class Reliever(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lease.release()
            released.append(record)

    logger = logging.getLogger("shmpool.pool")
    monkeypatch.setattr(logger, "handlers", [Reliever()])
    with pool.acquire(timeout=100):
        assert len(released) == 1


def test_what_the_dead_hold_is_told_until_it_is_reaped(make_pool: MakePool) -> None:
    """An abandoned lease is still its member's."""
    pool = make_pool(slots=1, member_name="me")
    abandon(pool.acquire())
    assert [(h.name, h.leased) for h in exhausted(pool).holders] == [("me", 1)]
