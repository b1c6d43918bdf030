"""Memory for slots: fetched when needed, given back when idle, and only then."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import shmpool
from shmpool import Pool, Ticket, _core
from shmpool._layout import Standing, State

PAGE = 4096
MIB = 1 << 20

MakePool = Callable[..., Pool]


@pytest.fixture
def growing(make_pool: MakePool) -> Pool:
    """One slot of a MiB, room for four."""
    return make_pool(slots=1, slot_size=MIB, max_slots=4)


def memory(pool: Pool, number: int = 0) -> int:
    """Bytes that the system has put behind the slots of a class."""
    return os.stat(f"/dev/shm/{pool.name}.slab{number}").st_blocks * 512  # noqa: S108, PTH116


def states(pool: Pool) -> dict[str, int]:
    """Slots by state, without those that are none."""
    return {state: count for state, count in pool.audit().items() if count}


def release_all(leases: list[shmpool.Lease]) -> None:
    """Give back every one."""
    while leases:
        leases.pop().release()


# --- growing ------------------------------------------------------------------------------


def test_slots_beyond_the_first_have_no_memory_until_they_are_needed(growing: Pool) -> None:
    """One after the other, when all others are held; and then they keep it."""
    assert growing.slots == 4
    leases = []
    for held in range(1, 5):
        leases.append(growing.acquire())
        assert memory(growing) == held * MIB
        assert states(growing) == {"leased": held} | ({"uncommitted": 4 - held} if held < 4 else {})
        assert growing.statistics().payload_bytes == held * MIB
    with pytest.raises(shmpool.PoolExhaustedError, match="none of the 4 slots"):
        growing.acquire_nowait()
    for number, lease in enumerate(leases):
        lease.array(MIB, "u1")[:] = number
    assert all((lease.array() == number).all() for number, lease in enumerate(leases))
    release_all(leases)
    assert states(growing) == {"free": 4}
    assert memory(growing) == 4 * MIB


def test_a_free_slot_is_taken_before_memory_is_fetched(growing: Pool) -> None:
    """While one is enough there is one."""
    for _ in range(10):
        growing.acquire().release()
    assert memory(growing) == MIB
    assert states(growing) == {"free": 1, "uncommitted": 3}


@pytest.mark.parametrize("reuse", ["warm", "cold"])
def test_a_pool_may_begin_with_nothing(make_pool: MakePool, reuse: str) -> None:
    """slots=0 with max_slots: the first acquire fetches."""
    pool = make_pool(slots=0, slot_size=MIB, max_slots=2, reuse=reuse)
    assert memory(pool) == 0
    assert states(pool) == {"uncommitted": 2}
    with pool.acquire(), pool.acquire():
        assert memory(pool) == 2 * MIB
    assert states(pool) == {"free": 2}


@pytest.mark.parametrize("slot_size", [1, 64, 1000])
def test_slots_smaller_than_a_page_grow(make_pool: MakePool, slot_size: int) -> None:
    """They share pages, and each has its own bytes."""
    pool = make_pool(slots=1, slot_size=slot_size, max_slots=200)
    leases = [pool.acquire() for _ in range(200)]
    for number, lease in enumerate(leases):
        memoryview(lease)[:] = bytes([number]) * slot_size
    for number, lease in enumerate(leases):
        assert bytes(lease) == bytes([number]) * slot_size
    release_all(leases)
    assert states(pool) == {"free": 200}


def test_a_slot_is_sent_and_shared_as_any_other(growing: Pool) -> None:
    """Whoever fetched its memory, another member reads it."""
    first = growing.acquire()
    with Pool.attach(growing.name) as other:
        lease = other.acquire()
        lease.array((3,), "u1")[:] = 7
        other.queue("a").put(lease)
        with growing.queue("a").get() as got:
            assert got.array().tolist() == [7] * 3
            with other.borrow(got.share()) as borrow:
                assert borrow.array().tolist() == [7] * 3
    first.release()


def test_grow_fetches_memory_now(growing: Pool) -> None:
    """As many slots as asked for, and how many that was; they are free, not leased."""
    assert growing.grow() == 1
    assert states(growing) == {"free": 2, "uncommitted": 2}
    assert memory(growing) == 2 * MIB
    assert growing.grow(0) == 0
    assert growing.grow(2) == 2
    assert growing.grow(5) == growing.grow() == 0
    assert states(growing) == {"free": 4}
    assert memory(growing) == 4 * MIB
    assert growing.statistics().members[0].acquired == 0


def test_grow_says_how_many_there_were(growing: Pool) -> None:
    """Fewer than asked for is no error when all have memory: there is nothing more to have."""
    assert growing.grow(100) == 3
    assert states(growing) == {"free": 4}


@pytest.mark.parametrize("slots", [-1, -100, 1.5, "2"], ids=str)
def test_a_number_of_slots_to_grow_is_a_count(growing: Pool, slots: Any) -> None:
    """What is none is refused, and nothing is fetched."""
    with pytest.raises((shmpool.SizeError, TypeError)):
        growing.grow(slots)
    assert states(growing) == {"free": 1, "uncommitted": 3}


def test_grow_fetches_for_the_smallest_class_that_fits(make_pool: MakePool) -> None:
    """As acquire does, but of that class alone; SizeError if none fits."""
    classes = [(PAGE, 1, 3), (MIB, 0, 2)]
    pool = make_pool(slots=None, slot_size=None, classes=classes)
    assert pool.grow(1, PAGE + 1) == 1
    assert [c.free for c in pool.statistics().classes] == [1, 1]
    assert (memory(pool, 0), memory(pool, 1)) == (PAGE, MIB)
    assert pool.grow(10) == 2
    assert [c.free for c in pool.statistics().classes] == [3, 1]
    assert pool.grow(nbytes=PAGE) == 0
    assert [c.committed_bytes for c in pool.statistics().classes] == [3 * PAGE, MIB]
    for nbytes in (MIB + 1, -1):
        with pytest.raises(shmpool.SizeError):
            pool.grow(1, nbytes)


def test_a_pool_without_room_does_not_grow(pool: Pool) -> None:
    """max_slots is `slots` where nobody says otherwise."""
    assert pool.grow() == 0
    assert pool.slots == 4


def test_many_grow_at_once(make_pool: MakePool) -> None:
    """Threads of two members fetch for one slot each, none twice, none for nothing."""
    pool = make_pool(slots=0, slot_size=64 * 1024, max_slots=64)
    errors: list[BaseException] = []
    with Pool.attach(pool.name) as other:

        def work(own: Pool, number: int) -> None:
            try:
                leases = [own.acquire_nowait() for _ in range(8)]
                for lease in leases:
                    lease.array((4,), "u1")[:] = number
                assert all((lease.array() == number).all() for lease in leases)
            except BaseException as error:  # noqa: BLE001 - told at the end
                errors.append(error)

        makers = [(pool, n) if n % 2 else (other, n) for n in range(8)]
        threads = [threading.Thread(target=work, args=arguments) for arguments in makers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors
    counts = pool.audit()
    assert counts["free"] + counts["uncommitted"] == 64
    assert memory(pool) == counts["free"] * 64 * 1024
    assert int(pool._mapping.view().class_states["uncommitted"][0]) == counts["uncommitted"]


# --- trimming -----------------------------------------------------------------------------


def test_trim_gives_back_what_is_free(growing: Pool) -> None:
    """Bytes returned, blocks of the file gone, slots uncommitted; what is held stays."""
    leases = [growing.acquire() for _ in range(3)]
    leases[1].array(MIB, "u1")[:] = 5
    kept = leases.pop(1)
    leases.clear()
    assert growing.trim() == 2 * MIB
    assert memory(growing) == MIB
    assert states(growing) == {"leased": 1, "uncommitted": 3}
    assert growing.statistics().payload_bytes == MIB
    assert (kept.array() == 5).all()
    assert growing.trim() == 0
    kept.release()
    assert growing.trim() == MIB
    assert memory(growing) == 0
    assert states(growing) == {"uncommitted": 4}


def test_a_trimmed_slot_is_fetched_again(growing: Pool) -> None:
    """Under another generation, with zeros, for all slots that there may be."""
    lease = growing.acquire()
    generation = lease.generation
    lease.array(MIB, "u1")[:] = 5
    lease.release()
    growing.trim()
    leases = [growing.acquire() for _ in range(4)]
    for lease in leases:
        assert not lease.array(MIB, "u1").any()
        lease.array(MIB, "u1")[:] = 6
    assert next(lease for lease in leases if not lease.slot).generation == generation + 2
    assert memory(growing) == 4 * MIB
    release_all(leases)
    assert states(growing) == {"free": 4}


def test_slots_of_any_pool_are_trimmed(make_pool: MakePool) -> None:
    """Also of one that was not made to grow: it comes back by the next acquire, or by grow."""
    pool = make_pool(slots=3, slot_size=MIB)
    assert pool.trim() == 3 * MIB
    assert memory(pool) == 0
    with pool.acquire():
        assert memory(pool) == MIB
    assert pool.grow(3) == 2
    assert states(pool) == {"free": 3}
    assert memory(pool) == 3 * MIB


def test_only_free_slots_are_trimmed(make_pool: MakePool) -> None:
    """Leased, queued, detached, shared and draining slots keep their bytes."""
    pool = make_pool(slots=6, slot_size=PAGE)
    leases = [pool.acquire() for _ in range(6)]
    for number, lease in enumerate(leases):
        lease.array(PAGE, "u1")[:] = number + 1
    leases.pop().release()
    pool.queue("a").put(leases.pop())
    ticket = leases.pop().detach()
    shared, draining = leases.pop(), leases.pop()
    borrow = pool.borrow(draining.share())
    peeked = shared.share()
    draining.release()
    assert pool.trim() == PAGE
    assert states(pool) == {
        "leased": 1, "queued": 2, "shared": 1, "draining": 1, "uncommitted": 1,
    }  # fmt: skip
    assert (leases[0].array() == 1).all()
    assert (borrow.array() == 2).all()
    assert (pool.peek(peeked) == 3).all()
    with pool.claim(ticket) as claimed:
        assert (claimed.array() == 4).all()
    with pool.queue("a").get() as got:
        assert (got.array() == 5).all()
    borrow.release()
    leases.clear()
    shared.release()
    assert pool.trim() == 5 * PAGE
    assert memory(pool) == 0


def test_tickets_do_not_survive_a_trim(pool: Pool) -> None:
    """What was free before is over after, and its generation never comes again."""
    with pool.acquire() as lease:
        past = lease.ticket
    free = Ticket.of(past.slot, past.generation + 1)
    pool.trim()
    for ticket in (past, free, Ticket.of(past.slot, past.generation + 2)):
        for use in (pool.claim, pool.borrow, pool.peek):
            with pytest.raises(shmpool.StaleTicketError, match="uncommitted"):
                use(ticket)
    assert pool.acquire().generation > free.generation


def test_views_of_a_collected_lease_are_not_trimmed(make_pool: MakePool) -> None:
    """The slot is still held: its bytes are the view's until it dies."""
    pool = make_pool(slots=1, slot_size=MIB)
    array = pool.acquire().array((MIB,), "u1")
    array[:] = 3
    assert pool.trim() == 0
    assert (array == 3).all()
    del array
    assert pool.trim() == MIB


@pytest.mark.parametrize("slot_size", [1, 64, 2000])
def test_slots_smaller_than_a_page_keep_their_memory(make_pool: MakePool, slot_size: int) -> None:
    """They share it with others: trim gives back nothing, and harms nothing."""
    pool = make_pool(slots=8, slot_size=slot_size, views="raise")
    before = memory(pool)
    with pool.acquire() as lease:
        memoryview(lease)[:] = b"x" * slot_size
        assert pool.trim() == 0
        assert bytes(lease) == b"x" * slot_size
    assert memory(pool) == before
    assert states(pool) == {"free": 8}


@pytest.mark.parametrize("views", ["fence", "copy"])
def test_small_slots_that_can_be_fenced_are_trimmed(make_pool: MakePool, views: str) -> None:
    """Each has pages of its own, and gives them back."""
    pool = make_pool(slots=8, slot_size=64, views=views)
    assert pool.trim() == 8 * PAGE
    assert memory(pool) == 0
    assert states(pool) == {"uncommitted": 8}


def test_every_class_is_trimmed(make_pool: MakePool) -> None:
    """All but those smaller than a page; each gives whole strides."""
    classes = [(64, 4), (PAGE, 2), (5000, 2), (MIB, 1)]
    pool = make_pool(slots=None, slot_size=None, classes=classes, views="raise")
    kept = pool.acquire(5000)
    kept.array(5000, "u1")[:] = 9
    assert pool.trim() == 2 * PAGE + 2 * PAGE + MIB
    assert [memory(pool, number) for number in range(4)] == [PAGE, 0, 2 * PAGE, 0]
    assert [c.uncommitted for c in pool.statistics().classes] == [0, 2, 1, 1]
    assert (kept.array() == 9).all()
    assert pool.acquire(MIB).nbytes == MIB
    kept.release()


def test_a_slot_at_its_last_generation_is_trimmed_for_good(make_pool: MakePool) -> None:
    """It has no further one: it retires instead, and its memory is gone all the same."""
    pool = make_pool(slots=2, slot_size=PAGE)
    pool._mapping.view().slots["word"][0] = _core.GENERATION_MAX << 16
    assert pool.trim() == 2 * PAGE
    assert states(pool) == {"uncommitted": 1, "retired": 1}
    assert memory(pool) == 0
    with pool.acquire() as lease:
        assert lease.slot == 1
    with pytest.raises(shmpool.PoolExhaustedError), pool.acquire():
        pool.acquire_nowait()


def test_another_member_grows_and_trims(make_pool: MakePool) -> None:
    """Neither is the coordinator's privilege."""
    pool = make_pool(slots=1, slot_size=MIB, max_slots=3)
    with Pool.attach(pool.name) as other:
        assert other.grow(2) == 2
        assert states(pool) == {"free": 3}
        assert pool.trim() == 3 * MIB
        with other.acquire():
            assert states(pool) == {"leased": 1, "uncommitted": 2}
        assert other.trim() == MIB
    assert memory(pool) == 0


def test_trimming_while_others_lease_loses_nothing(make_pool: MakePool) -> None:
    """A thread trims without pause: whoever leases has memory of his own, whatever it is."""
    pool = make_pool(slots=4, slot_size=64 * 1024)
    errors: list[BaseException] = []
    done = threading.Event()

    def work(number: int) -> None:
        try:
            for _ in range(200):
                with pool.acquire() as lease:
                    lease.array(64 * 1024, "u1")[:] = number
                    assert (lease.array() == number).all()
        except BaseException as error:  # noqa: BLE001 - told at the end
            errors.append(error)

    def trim() -> None:
        with Pool.attach(pool.name) as other:
            while not done.is_set():
                other.trim()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    trimmer = threading.Thread(target=trim)
    for thread in (*threads, trimmer):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    trimmer.join()
    assert not errors, errors
    counts = pool.audit()
    assert counts["free"] + counts["uncommitted"] == 4
    pool.trim()
    assert memory(pool) == 0
    leases = [pool.acquire_nowait() for _ in range(4)]
    assert len(leases) == 4


def test_a_waiter_is_woken_by_a_trim(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that was taken for trimming just as it looked is there again after: it is rung."""
    monkeypatch.setattr("shmpool._waiting.SLICE", 1e6)
    pool = make_pool(slots=1, slot_size=PAGE)
    view = pool._mapping.view()
    free = int(view.slots["word"][0])
    view.slots["word"][0] = free & ~7 | 5 | pool._mapping.me << 8  # as if being trimmed
    came = threading.Event()

    def wait() -> None:
        pool.acquire().release()
        came.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not pool._mapping.doorbell.asleep:
        pass
    assert not came.is_set()
    view.slots["word"][0] = free  # and now it is trimmed really
    assert pool.trim() == PAGE
    waiter.join()
    assert states(pool) == {"free": 1}


@pytest.mark.parametrize("use", ["grow", "trim"])
def test_a_closed_pool_neither_grows_nor_is_trimmed(growing: Pool, use: str) -> None:
    """PoolClosedError, here and in members whose coordinator closed."""
    other = Pool.attach(growing.name)
    growing.close()
    for pool in (growing, other):
        with pytest.raises(shmpool.PoolClosedError):
            getattr(pool, use)()
    other.close()


def test_the_audit_counts_what_is_uncommitted(growing: Pool) -> None:
    """I10: a class that says less than there is would never be grown."""
    hints = growing._mapping.view().class_states["uncommitted"]
    assert hints.tolist() == [3]
    hints[0] = 2
    with pytest.raises(shmpool.AuditError, match="I10"):
        growing.audit()
    hints[0] = 4  # too many cost a search
    assert states(growing) == {"free": 1, "uncommitted": 3}
    leases = [growing.acquire() for _ in range(4)]
    with pytest.raises(shmpool.PoolExhaustedError):
        growing.acquire_nowait()
    release_all(leases)
    hints[0] = 0


def test_a_pool_that_grew_leaves_nothing(make_pool: MakePool) -> None:
    """Grown and trimmed slots go with the pool; the fixture looks into /dev/shm."""
    pool = make_pool(slots=1, slot_size=MIB, max_slots=8)
    pool.grow(7)
    pool.trim()
    pool.grow(2)
    pool.close()


def test_a_pool_closed_while_a_slot_is_fetched_leaves_with_it(make_pool: MakePool) -> None:
    """The lease that comes of it is good, and its slot is nobody else's before it is released."""
    owner = make_pool(slots=0, slot_size=64 << 20, max_slots=1)
    while True:
        guest = Pool.attach(owner.name)
        me, view = guest._mapping.me, owner._mapping.view()
        got: list[shmpool.Lease] = []
        acquire = lambda pool, to: to.append(pool.acquire())  # noqa: E731
        thread = threading.Thread(target=acquire, args=(guest, got))
        thread.start()
        while not view.word(0).owner:
            pass
        fetching = view.word(0) == (view.word(0).generation, me, 0, State.UNCOMMITTED)
        with suppress(shmpool.LeasesAliveError):  # if it was faster than we
            guest.close()
        thread.join()
        assert view.standing(me) is Standing.ACTIVE
        assert view.word(0).owner == me
        got.pop().release()
        owner.trim()
        if fetching:
            return


def test_a_borrow_that_ends_wakes_nobody_while_others_read(make_pool: MakePool) -> None:
    """Nothing is free by it: who waits for a slot sleeps on."""
    pool = make_pool(slots=1)
    lease = pool.acquire()
    ticket = lease.share()
    thread = threading.Thread(target=lambda: pool.acquire().release())
    thread.start()
    while pool._mapping.doorbell.asleep == 0:
        pass
    before = pool.statistics().members[0].rung
    for _ in range(100):
        pool.borrow(ticket).release()
    assert pool.statistics().members[0].rung == before
    borrow = pool.borrow(ticket)
    lease.release()
    assert pool.statistics().members[0].rung == before
    borrow.release()
    thread.join()


def test_a_right_that_is_collected_is_over_before_anybody_is_woken(make_pool: MakePool) -> None:
    """To ring may be Python code, in which somebody else might end it a second time."""
    pool = make_pool(slots=1)
    lease = pool.acquire()
    borrow = pool.borrow(lease.share())
    lease.release()
    told = []

    def ring(_: int) -> None:
        with pytest.raises(shmpool.AlreadyEndedError) as caught:
            borrow.release()
        told.append(caught.value)

    pool._mapping._ring = ring
    pool._mapping.wait_begin(_core.FOR_SLOT, 0)
    borrow.__exit__(ValueError, ValueError(), None)  # as collection does
    assert len(told) == 1
    assert pool._mapping.live == 0
    assert pool.audit()["free"] == 1
