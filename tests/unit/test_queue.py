"""Queues: first in, first out, with time-outs, and waking whoever waits."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import shmpool
from shmpool import QueueOptions, _core
from shmpool._doorbell import find_bell

PATIENCE = 60.0  # seconds after which a thread that should have been woken is a failure


def number_of(lease: shmpool.Lease) -> int:
    """The number that `send` wrote, and the lease given back."""
    number = int(lease.array()[0])
    lease.release()
    return number


def send(pool: shmpool.Pool, name: str, number: int) -> None:
    """One slot with a number in it through a queue."""
    lease = pool.acquire()
    lease.array((1,), "<i8")[0] = number
    pool.queue(name).put(lease)


def fill(pool: shmpool.Pool) -> list[shmpool.Lease]:
    """Every slot there is."""
    return [pool.acquire_nowait() for _ in range(pool.slots)]


@contextmanager
def started(pool: shmpool.Pool, *calls: Callable[[], Any]) -> Iterator[list[Future[Any]]]:
    """Threads that make the calls; the block is entered when each has looked and goes to sleep.

    Leaving the block by an error closes the pool, so that no thread waits for ever.
    """
    doorbell = pool._mapping.doorbell
    with ThreadPoolExecutor(len(calls)) as threads:
        futures = [threads.submit(call) for call in calls]
        try:
            while doorbell.asleep + sum(future.done() for future in futures) < len(calls):
                os.sched_yield()
            yield futures
        except BaseException:
            pool._finish()
            raise


def waiting(pool: shmpool.Pool) -> list[tuple[int, int]]:
    """What the sleeping threads of this process wait for, once for each thread."""
    kinds = _core.FOR_SLOT, _core.FOR_TICKET, _core.FOR_SPACE
    things = [(kind, index) for kind in kinds for index in range(_core.MAX_QUEUES + 1)]
    return [thing for thing in things for _ in range(pool._mapping.doorbell.threads(*thing))]


@pytest.fixture
def tight(make_pool: Callable[..., shmpool.Pool]) -> shmpool.Pool:
    """A pool whose queue `a` holds one ticket."""
    return make_pool(queues={"a": QueueOptions(maxsize=1), "b": QueueOptions()})


# --- order and size -----------------------------------------------------------------------


def test_what_was_put_first_comes_first(make_pool: Callable[..., shmpool.Pool]) -> None:
    """A queue is a FIFO, over many rounds of its ring."""
    pool = make_pool(slots=5)
    coming = going = 0
    for count in (1, 5, 2, 4, 3) * 20:
        for _ in range(count):
            send(pool, "a", coming)
            coming += 1
        for _ in range(count):
            assert number_of(pool.queue("a").get(timeout=0)) == going
            going += 1
    assert pool.audit()["free"] == 5


def test_order_is_that_of_putting_not_of_slots(pool: shmpool.Pool) -> None:
    """Slots leave a queue in the order in which they were put, whatever their numbers."""
    leases = fill(pool)
    order = [leases[index] for index in (2, 0, 3, 1)]
    slots = [lease.slot for lease in order]
    for lease in order:
        pool.queue("a").put(lease)
    assert [pool.queue("a").get().slot for _ in order] == slots


def test_queues_of_a_pool_are_apart(pool: shmpool.Pool) -> None:
    """What is put into one queue does not come out of another."""
    send(pool, "a", 1)
    send(pool, "b", 2)
    assert number_of(pool.queue("b").get(timeout=0)) == 2
    with pytest.raises(shmpool.QueueEmpty):
        pool.queue("b").get(timeout=0)
    assert number_of(pool.queue("a").get(timeout=0)) == 1


def test_a_queue_counts_what_waits(pool: shmpool.Pool) -> None:
    """`qsize()` and `empty()` follow puts and gets."""
    todo = pool.queue("a")
    assert (todo.qsize(), todo.empty()) == (0, True)
    for count in range(1, pool.slots + 1):
        send(pool, "a", count)
        assert (todo.qsize(), todo.empty()) == (count, False)
    for count in reversed(range(pool.slots)):
        todo.get(timeout=0).release()
        assert todo.qsize() == count
    assert todo.empty()


def test_a_queue_without_a_limit_holds_every_slot(pool: shmpool.Pool) -> None:
    """Maxsize 0 is no limit: a put never waits."""
    for lease in fill(pool):
        pool.queue("a").put_nowait(lease)
    assert pool.queue("a").qsize() == pool.slots
    assert pool.audit()["queued"] == pool.slots


def test_the_same_queue_is_given_each_time(pool: shmpool.Pool) -> None:
    """`pool.queue(name)` is one object, which knows its name and its pool."""
    assert pool.queue("a") is pool.queue("a")
    assert (pool.queue("a").name, pool.queue("a").pool) == ("a", pool)
    assert "'a'" in repr(pool.queue("a"))
    with pytest.raises(shmpool.ArgumentError, match="'c'"):
        pool.queue("c")


# --- time-outs ----------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.0, 1e-9, 0.001, 0.02])
def test_an_empty_queue_raises_empty_in_time(pool: shmpool.Pool, timeout: float) -> None:
    """QueueEmpty is queue.Empty, and names the queue."""
    with pytest.raises(queue.Empty, match="'a'") as caught:
        pool.queue("a").get(timeout=timeout)
    assert isinstance(caught.value, shmpool.QueueEmpty)


def test_get_nowait_raises_at_once(pool: shmpool.Pool) -> None:
    """get_nowait gives what is there, or raises QueueEmpty."""
    with pytest.raises(shmpool.QueueEmpty):
        pool.queue("a").get_nowait()
    send(pool, "a", 3)
    assert number_of(pool.queue("a").get_nowait()) == 3


@pytest.mark.parametrize("timeout", [0, 0.0, 1e-9, 0.001, 0.02])
def test_a_full_queue_raises_full_in_time(tight: shmpool.Pool, timeout: float) -> None:
    """QueueFull is queue.Full; the lease stays with whoever could not put it."""
    send(tight, "a", 1)
    with tight.acquire() as lease:
        with pytest.raises(queue.Full, match="'a'") as caught:
            tight.queue("a").put(lease, timeout=timeout)
        assert isinstance(caught.value, shmpool.QueueFull)
        with pytest.raises(shmpool.QueueFull):
            tight.queue("a").put_nowait(lease)
        assert lease.live
        lease.array((1,), "<i8")[0] = 2
        assert number_of(tight.queue("a").get()) == 1
        tight.queue("a").put(lease, timeout=timeout)
    assert number_of(tight.queue("a").get()) == 2


def test_one_full_queue_does_not_stop_another(tight: shmpool.Pool) -> None:
    """Maxsize belongs to a queue."""
    send(tight, "a", 1)
    send(tight, "b", 2)
    send(tight, "b", 3)
    assert tight.queue("b").qsize() == 2


@pytest.mark.parametrize("timeout", [0, 1e-9, 0.01])
def test_an_exhausted_pool_raises_in_time(pool: shmpool.Pool, timeout: float) -> None:
    """PoolExhaustedError is a TimeoutError, and says who holds the slots."""
    leases = fill(pool)
    with pytest.raises(TimeoutError, match="none of the 4 slots") as caught:
        pool.acquire(timeout=timeout)
    assert isinstance(caught.value, shmpool.PoolExhaustedError)
    for lease in leases:
        lease.release()


@pytest.mark.parametrize("wait", ["get", "acquire", "put"])
def test_a_wait_is_never_shorter_than_its_timeout(tight: shmpool.Pool, wait: str) -> None:
    """It takes all the time that it was given."""
    send(tight, "a", 1)
    held = [tight.acquire() for _ in range(tight.slots - 1)]
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: tight.queue("b").get(timeout=0.15),
        "acquire": lambda: tight.acquire(timeout=0.15),
        "put": lambda: tight.queue("a").put(held[0], timeout=0.15),
    }
    began = time.monotonic()
    with pytest.raises((queue.Empty, queue.Full, TimeoutError)):
        calls[wait]()
    assert time.monotonic() - began >= 0.15


@pytest.mark.parametrize("timeout", [-1, -1e-9, float("-inf"), float("nan")])
@pytest.mark.parametrize("waits", [False, True])
def test_a_timeout_that_is_no_time_is_refused(
    make_pool: Callable[..., shmpool.Pool], waits: bool, timeout: float
) -> None:
    """Negative and nan are ArgumentError, also where nothing would have to be waited for."""
    pool = make_pool(slots=2, queues={"a": QueueOptions(maxsize=1)})
    if waits:
        send(pool, "a", 1)
        lease = pool.acquire()
        with pytest.raises(shmpool.ArgumentError, match="timeout"):
            pool.acquire(timeout=timeout)
        with pytest.raises(shmpool.ArgumentError, match="timeout"):
            pool.queue("a").put(lease, timeout=timeout)
        number_of(pool.queue("a").get())
        with pytest.raises(shmpool.ArgumentError, match="timeout"):
            pool.queue("a").get(timeout=timeout)
    else:
        with pytest.raises(shmpool.ArgumentError, match="timeout"):
            pool.acquire(timeout=timeout)
        lease = pool.acquire()
        with pytest.raises(shmpool.ArgumentError, match="timeout"):
            pool.queue("a").put(lease, timeout=timeout)
        assert lease.live
        pool.queue("a").put(lease)
        with pytest.raises(shmpool.ArgumentError, match="timeout"):
            pool.queue("a").get(timeout=timeout)
        with pytest.raises(shmpool.ArgumentError, match="timeout"):
            pool.queue("a").get_many(1, timeout=timeout)
        assert pool.queue("a").qsize() == 1


@pytest.mark.parametrize("timeout", [1e12, float("inf")])
def test_a_very_long_timeout_is_a_time(pool: shmpool.Pool, timeout: float) -> None:
    """As long as you like, and for ever: nothing overflows where something is there."""
    lease = pool.acquire(timeout=timeout)
    pool.queue("a").put(lease, timeout=timeout)
    pool.queue("a").get(timeout=timeout).release()


@pytest.mark.parametrize("timeout", [None, 1e12, float("inf")], ids=str)
def test_a_very_long_wait_ends_when_something_comes(
    pool: shmpool.Pool, timeout: float | None
) -> None:
    """The same in the middle of a wait."""
    todo = pool.queue("a")
    with started(pool, lambda: number_of(todo.get(timeout=timeout))) as (got,):
        send(pool, "a", 5)
        assert got.result(PATIENCE) == 5


# --- closing ------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 0, 0.01], ids=str)
def test_a_closed_queue_is_drained_first(pool: shmpool.Pool, timeout: float | None) -> None:
    """What was put before close() is delivered, then get raises QueueClosedError."""
    todo = pool.queue("a")
    for number in range(3):
        send(pool, "a", number)
    todo.close()
    todo.close()
    assert todo.closed
    assert "closed" in repr(todo)
    assert [number_of(todo.get(timeout=timeout)) for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(shmpool.QueueClosedError, match="'a'"):
            todo.get(timeout=timeout)
    with pytest.raises(shmpool.QueueClosedError):
        todo.get_nowait()
    assert not pool.queue("b").closed


@pytest.mark.parametrize("options", [{}, {"timeout": 0}, {"timeout": 5}], ids=str)
def test_a_put_to_a_closed_queue_leaves_the_lease(
    pool: shmpool.Pool, options: dict[str, float]
) -> None:
    """QueueClosedError, and the lease goes on: it may be put elsewhere."""
    pool.queue("a").close()
    with pool.acquire() as lease:
        lease.array((1,), "<i8")[0] = 8
        with pytest.raises(shmpool.QueueClosedError, match="stays yours"):
            pool.queue("a").put(lease, **options)
        assert lease.live
        assert pool.queue("a").empty()
        assert lease.array()[0] == 8
        pool.queue("b").put(lease)
    assert number_of(pool.queue("b").get()) == 8


def test_iteration_ends_with_the_queue(pool: shmpool.Pool) -> None:
    """Iterating gives every lease in order until the queue is closed and drained."""
    for number in range(4):
        send(pool, "a", number)
    pool.queue("a").close()
    assert [number_of(lease) for lease in pool.queue("a")] == [0, 1, 2, 3]
    assert list(pool.queue("a")) == []


def test_iteration_goes_on_while_the_queue_is_open(pool: shmpool.Pool) -> None:
    """An empty queue that is open is waited for."""
    todo = pool.queue("a")
    with started(pool, lambda: [number_of(lease) for lease in todo]) as (got,):
        for number in range(50):
            send(pool, "a", number)
        todo.close()
        assert got.result(PATIENCE) == list(range(50))


@pytest.mark.parametrize("call", ["acquire", "get", "put"])
def test_a_closed_pool_lets_nothing_through(
    make_pool: Callable[..., shmpool.Pool], call: str
) -> None:
    """PoolClosedError for whatever wants a slot; leases in hand stay."""
    pool = make_pool()
    todo, lease = pool.queue("a"), pool.acquire()
    with pytest.raises(shmpool.LeasesAliveError):
        pool.close()
    calls: dict[str, Callable[[], object]] = {
        "acquire": pool.acquire,
        "get": todo.get,
        "put": lambda: todo.put(lease),
    }
    with pytest.raises(shmpool.PoolClosedError):
        calls[call]()
    assert lease.live
    lease.release()


# --- many, and none -----------------------------------------------------------------------


@pytest.mark.parametrize(("waiting_there", "most", "expected"), [(3, 2, 2), (3, 3, 3), (3, 9, 3)])
def test_get_many_takes_what_is_there(
    pool: shmpool.Pool, waiting_there: int, most: int, expected: int
) -> None:
    """Up to `most` leases, oldest first; what is too much stays."""
    for number in range(waiting_there):
        send(pool, "a", number)
    leases = pool.queue("a").get_many(most)
    assert [number_of(lease) for lease in leases] == list(range(expected))
    assert pool.queue("a").qsize() == waiting_there - expected


@pytest.mark.parametrize("most", [0, -1])
def test_get_many_of_none_is_refused(pool: shmpool.Pool, most: int) -> None:
    """Asking for less than one is a SizeError, and takes nothing."""
    send(pool, "a", 1)
    with pytest.raises(shmpool.SizeError):
        pool.queue("a").get_many(most)
    assert pool.queue("a").qsize() == 1


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_get_many_waits_for_the_first_alone(pool: shmpool.Pool, timeout: float) -> None:
    """QueueEmpty if not even one came."""
    with pytest.raises(shmpool.QueueEmpty):
        pool.queue("a").get_many(3, timeout=timeout)


def test_get_many_of_a_closed_queue_drains_it(pool: shmpool.Pool) -> None:
    """Then it raises QueueClosedError, as get does."""
    send(pool, "a", 1)
    pool.queue("a").close()
    (lease,) = pool.queue("a").get_many(5)
    assert number_of(lease) == 1
    with pytest.raises(shmpool.QueueClosedError):
        pool.queue("a").get_many(5)


@pytest.mark.parametrize(
    "thing",
    [None, 5, b"bytes", object(), shmpool.Ticket(1)],
    ids=lambda thing: type(thing).__name__,
)
@pytest.mark.parametrize("options", [{}, {"timeout": 0}], ids=str)
def test_only_leases_are_put(pool: shmpool.Pool, thing: Any, options: dict[str, float]) -> None:
    """Anything else is a TypeError that says what to do."""
    with pytest.raises(TypeError, match="Lease"):
        pool.queue("a").put(thing, **options)
    assert pool.queue("a").empty()


@pytest.mark.parametrize(
    "call",
    [
        lambda todo: todo.put(),
        lambda todo: todo.get(1),
        lambda todo: todo.get(time=1),
        lambda todo: todo.get_nowait(timeout=1),
        lambda todo: todo.get(timeout="1"),
        lambda todo: todo.pool.acquire(timeout="1"),
        lambda todo: todo.pool.acquire("1"),
    ],
)
def test_wrong_arguments_are_type_errors(pool: shmpool.Pool, call: Callable[[Any], object]) -> None:
    """The fast path refuses what the signatures do not have."""
    with pytest.raises(TypeError):
        call(pool.queue("a"))
    assert pool.audit()["free"] == pool.slots


# --- waking -------------------------------------------------------------------------------


def test_a_thread_that_waits_in_get_is_woken_by_a_put(pool: shmpool.Pool) -> None:
    """get() sleeps until something comes."""
    todo = pool.queue("a")
    with started(pool, lambda: number_of(todo.get())) as (got,):
        assert not got.done()
        send(pool, "a", 11)
        assert got.result(PATIENCE) == 11


@pytest.mark.parametrize("way", ["release", "with", "collection", "last view", "get and release"])
def test_a_thread_that_waits_in_acquire_is_woken_by_a_slot(
    make_pool: Callable[..., shmpool.Pool], way: str
) -> None:
    """acquire() sleeps until a slot comes back, in whichever way."""
    pool = make_pool(slots=1)
    lease = pool.acquire()
    with started(pool, lambda: pool.acquire().slot) as (got,):
        assert not got.done()
        if way == "release":
            lease.release()
        elif way == "with":
            with lease:
                pass
        elif way == "collection":
            del lease
        elif way == "last view":
            view = memoryview(lease)
            del lease
            assert not got.done()
            del view
        else:
            pool.queue("a").put(lease)
            pool.queue("a").get().release()
        assert got.result(PATIENCE) == 0


def test_a_thread_that_waits_in_put_is_woken_by_a_get(tight: shmpool.Pool) -> None:
    """put() into a full queue sleeps until there is room."""
    send(tight, "a", 1)
    with started(tight, lambda: send(tight, "a", 2)) as (put,):
        assert not put.done()
        assert number_of(tight.queue("a").get()) == 1
        put.result(PATIENCE)
    assert number_of(tight.queue("a").get()) == 2


@pytest.mark.parametrize("waits", ["get", "iterate", "get_many", "put"])
def test_closing_a_queue_wakes_its_waiters(tight: shmpool.Pool, waits: str) -> None:
    """Several threads at once: QueueClosedError, or the end of the iteration."""
    full, other = tight.queue("a"), tight.queue("b")
    calls: dict[str, Callable[[], object]] = {
        "get": other.get,
        "iterate": lambda: list(other),
        "get_many": lambda: other.get_many(3),
        "put": lambda: send(tight, "a", 2),
    }
    send(tight, "a", 1)
    with started(tight, *[calls[waits]] * 3) as futures:
        assert not any(future.done() for future in futures)
        (full if waits == "put" else other).close()
        for future in futures:
            if waits == "iterate":
                assert future.result(PATIENCE) == []
            else:
                assert isinstance(future.exception(PATIENCE), shmpool.QueueClosedError)


@pytest.mark.parametrize("waits", ["acquire", "get", "iterate", "put"])
def test_closing_the_pool_wakes_its_waiters(
    make_pool: Callable[..., shmpool.Pool], waits: str
) -> None:
    """PoolClosedError in the middle of whatever wait, in several threads."""
    pool = make_pool(slots=2, queues={"a": QueueOptions(maxsize=1), "b": QueueOptions()})
    send(pool, "a", 1)
    lease = pool.acquire()
    full, other = pool.queue("a"), pool.queue("b")
    calls: dict[str, Callable[[], object]] = {
        "acquire": pool.acquire,
        "get": other.get,
        "iterate": lambda: list(other),
        "put": lambda: full.put(lease),
    }
    with started(pool, *[calls[waits]] * 2) as futures:
        assert not any(future.done() for future in futures)
        with pytest.raises(shmpool.LeasesAliveError):
            pool.close()
        for future in futures:
            assert isinstance(future.exception(PATIENCE), shmpool.PoolClosedError)
    assert lease.live
    lease.release()


def test_a_quiet_put_wakes_nobody_until_told(pool: shmpool.Pool) -> None:
    """Then as many as are asked for, as long as there are sleepers."""
    queue, lease = pool.queue("a"), pool.acquire()
    others = [shmpool.Pool.attach(pool.name) for _ in range(3)]
    for other in others:
        other._mapping.wait_begin(shmpool._core.FOR_TICKET, queue._number)
    rung = []
    queue._put_quietly(lease)
    for most in [0, -1, 2, 5, 5]:
        queue._wake(most)
        rung.append(pool.statistics().members[0].rung)
    assert rung == [0, 0, 2, 3, 3]
    assert queue.get().slot == lease.slot
    for other in others:
        other.close()
    with pytest.raises(TypeError):
        queue._wake("1")  # type: ignore[arg-type]


def test_a_quiet_put_is_refused_as_any_other(pool: shmpool.Pool, tight: shmpool.Pool) -> None:
    """What is over, another pool's, or comes too late; the lease goes on."""
    queue, lease = pool.queue("a"), pool.acquire()
    with tight.acquire() as foreign, pytest.raises(shmpool.ForeignLeaseError):
        queue._put_quietly(foreign)
    with pytest.raises(TypeError, match="put takes a Lease"):
        queue._put_quietly(7)  # type: ignore[arg-type]
    queue.close()
    with pytest.raises(shmpool.QueueClosedError, match="stays yours"):
        queue._put_quietly(lease)
    lease.release()
    with pytest.raises(shmpool.AlreadyEndedError):
        queue._put_quietly(lease)


def test_waiting_leaves_no_waiting_bit(pool: shmpool.Pool) -> None:
    """A wait that ended, well or not, is forgotten."""
    with pytest.raises(shmpool.QueueEmpty):
        pool.queue("a").get(timeout=0.01)
    assert waiting(pool) == []
    assert not pool._mapping.view().queue_states["waiting"].any()


@pytest.mark.parametrize("way", ["get", "acquire"])
def test_all_waiting_threads_get_something(
    make_pool: Callable[..., shmpool.Pool], way: str
) -> None:
    """Eight threads wait at once, eight things come, and each gets one: in every round."""
    pool = make_pool(slots=8)
    for round_ in range(6):
        held = fill(pool)
        take = {"get": pool.queue("a").get, "acquire": pool.acquire}[way]
        with started(pool, *[take] * 8) as futures:
            assert not any(future.done() for future in futures)
            for lease in held:
                if way == "get":
                    pool.queue("a").put(lease)
                else:
                    lease.release()
            gotten = [future.result(PATIENCE) for future in futures]
        assert sorted(lease.slot for lease in gotten) == list(range(8)), f"round {round_}"
        assert waiting(pool) == []
        del futures
        for lease in gotten:
            lease.release()
    assert pool.audit()["free"] == 8


def test_threads_that_wait_for_different_things_each_get_theirs(tight: shmpool.Pool) -> None:
    """One doorbell for all threads of a process loses nobody."""
    send(tight, "a", 1)
    held = [tight.acquire() for _ in range(tight.slots - 1)]
    calls: list[Callable[[], Any]] = [
        lambda: tight.queue("a").put(held[0]),
        lambda: number_of(tight.queue("b").get()),
        lambda: tight.acquire().slot,
    ]
    held[1].array((1,), "<i8")[0] = 21
    with started(tight, *calls) as (put, got, acquired):
        tight.queue("b").put(held[1])
        assert got.result(PATIENCE) == 21
        assert isinstance(acquired.result(PATIENCE), int)
        assert number_of(tight.queue("a").get()) == 1
        put.result(PATIENCE)
    assert tight.queue("a").qsize() == 1


@pytest.mark.parametrize("maxsize", [0, 1, 2])
def test_threads_that_go_round_lose_no_slot(
    make_pool: Callable[..., shmpool.Pool], maxsize: int
) -> None:
    """Four threads acquire, put, get and release 500 times each: all is free, and in order."""
    pool = make_pool(slots=6, queues={"a": QueueOptions(maxsize=maxsize)})
    begin = threading.Barrier(4)

    def go_round(thread: int) -> int:
        begin.wait(PATIENCE)
        total = 0
        for number in range(500):
            lease = pool.acquire(timeout=PATIENCE)
            lease.array((1,), "<i8")[0] = thread * 500 + number
            pool.queue("a").put(lease, timeout=PATIENCE)
            total += number_of(pool.queue("a").get(timeout=PATIENCE))
        return total

    with ThreadPoolExecutor(4) as threads:
        total = sum(threads.map(go_round, range(4)))
    assert total == sum(range(2000))
    assert pool.audit()["free"] == 6
    assert pool.queue("a").empty()
    statistics = pool.statistics().members[0]
    assert (statistics.acquired, statistics.put, statistics.got) == (2000, 2000, 2000)
    assert statistics.released == 2000


# --- signals ------------------------------------------------------------------------------


class AlarmError(Exception):
    """What the signal handler raises."""


@contextmanager
def alarms(*, interval: float = 0.0, enough: threading.Event | None = None) -> Iterator[list[int]]:
    """SIGALRM after 50 ms; the handler raises, unless it is to be rung again and again.

    With the fifth signal it has been `enough`.
    """
    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        heard.append(number)
        if enough is not None and len(heard) == 5:
            enough.set()
        if not interval:
            raise AlarmError("rung")

    before = signal.signal(signal.SIGALRM, hear)
    signal.setitimer(signal.ITIMER_REAL, 0.05, interval)
    try:
        yield heard
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fill_and_wait(pool: shmpool.Pool) -> None:
    """Wait for a slot that never comes."""
    leases = []
    while True:
        leases.append(pool.acquire())


def put_and_wait(pool: shmpool.Pool) -> None:
    """Wait for room that never comes."""
    while True:
        pool.queue("a").put(pool.acquire())


WAITS: dict[str, Callable[[shmpool.Pool], object]] = {
    "get": lambda pool: pool.queue("b").get(),
    "get with a time-out": lambda pool: pool.queue("b").get(timeout=PATIENCE),
    "iterate": lambda pool: list(pool.queue("b")),
    "acquire": fill_and_wait,
    "put": put_and_wait,
}


@pytest.mark.parametrize("wait", WAITS)
def test_an_exception_of_a_signal_handler_ends_a_wait(tight: shmpool.Pool, wait: str) -> None:
    """Whatever the handler raises comes out of the wait; the pool goes on."""
    with pytest.raises(AlarmError, match="rung"), alarms():
        WAITS[wait](tight)
    assert waiting(tight) == []
    tight.audit()
    with tight.acquire(timeout=PATIENCE) as lease:
        tight.queue("b").put(lease)
    tight.queue("b").get(timeout=PATIENCE).release()


def test_an_exception_of_a_signal_handler_ends_a_wait_beside_a_listener(pool: shmpool.Pool) -> None:
    """Also where another thread listens to the doorbell; that one still gets its ticket."""
    todo = pool.queue("a")
    with started(pool, lambda: number_of(todo.get())) as (got,):
        with pytest.raises(AlarmError, match="rung"), alarms():
            pool.queue("b").get()
        assert not got.done()
        send(pool, "a", 4)
        assert got.result(PATIENCE) == 4


def test_a_signal_handler_that_returns_does_not_end_a_wait(pool: shmpool.Pool) -> None:
    """A wait goes on after signals, and still sees what comes."""
    enough = threading.Event()

    def send_late() -> None:
        enough.wait(PATIENCE)
        send(pool, "a", 6)

    with ThreadPoolExecutor(1) as threads, alarms(interval=0.005, enough=enough) as heard:
        threads.submit(send_late)
        assert number_of(pool.queue("a").get(timeout=PATIENCE)) == 6
    assert len(heard) >= 5


def test_a_signal_handler_may_wait_itself(
    pool: shmpool.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it interrupts a wait: it is heard at once, not when a slice is over."""
    monkeypatch.setattr("shmpool._waiting.SLICE", 1e6)
    doorbell, waits = (
        pool._mapping.doorbell,
        {"a": (_core.FOR_TICKET, 1), "b": (_core.FOR_TICKET, 2)},
    )
    got = []

    def asleep_for(name: str) -> None:
        while not (doorbell.asleep and doorbell.threads(*waits[name])):
            os.sched_yield()

    def disturb() -> None:
        asleep_for("a")
        os.kill(os.getpid(), signal.SIGUSR1)
        asleep_for("b")
        send(pool, "b", 7)
        asleep_for("a")
        send(pool, "a", 8)

    handle = signal.signal(signal.SIGUSR1, lambda *_: got.append(number_of(pool.queue("b").get())))
    try:
        with ThreadPoolExecutor(1) as threads:
            disturbed = threads.submit(disturb)
            got.append(number_of(pool.queue("a").get()))
            disturbed.result(PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, handle)
    assert got == [7, 8]


def test_a_ring_that_another_thread_hears_is_not_lost(
    pool: shmpool.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes when a thread has looked in vain and does not sleep yet."""
    monkeypatch.setattr("shmpool._waiting.SLICE", 1e6)
    mapping, doorbell = pool._mapping, pool._mapping.doorbell
    looking, go_on, late = threading.Event(), threading.Event(), list[int]()
    check = mapping.check

    def held_up() -> None:
        if doorbell.threads(_core.FOR_TICKET, 1) and threading.get_ident() in late:
            looking.set()
            assert go_on.wait(PATIENCE)
        check()

    def get_late() -> int:
        late.append(threading.get_ident())
        return number_of(pool.queue("a").get())

    monkeypatch.setattr(mapping, "check", held_up)
    with started(pool, get_late) as (got,):
        bell = find_bell(pool.name, mapping.me)
        assert bell is not None
        bell.ring()  # for nothing: it looks, and then around
        assert looking.wait(PATIENCE)
        with started(pool, pool.queue("b").get) as (other,):
            send(pool, "a", 3)
            while doorbell.heard < 2:
                os.sched_yield()
            go_on.set()
            assert got.result(PATIENCE) == 3
            send(pool, "b", 4)
            assert number_of(other.result(PATIENCE)) == 4


def test_a_time_out_is_kept_through_signals(pool: shmpool.Pool) -> None:
    """Signals neither shorten nor mask the end of a wait: QueueEmpty."""
    began = time.monotonic()
    with alarms(interval=0.005) as heard, pytest.raises(shmpool.QueueEmpty):
        pool.queue("a").get(timeout=0.2)
    assert time.monotonic() - began >= 0.2
    assert heard
