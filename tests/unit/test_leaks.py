"""Leaks: a right that nobody ends is told once, with the line that took it; slow ones, too."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import shmpool
from shmpool import LeakWarning, Pool, _core
from shmpool._overdue import Overdue
from shmpool.testing import abandon

MakePool = Callable[..., Pool]
Take = Callable[[Pool], Any]

# What is taken is forgotten here on purpose, and the level is the test's own.
pytestmark = pytest.mark.shmpool_leaks(reason="they leave leases behind to see what is said")


def borrowed(pool: Pool) -> shmpool.Borrow:
    lease = pool.acquire()
    borrow = pool.borrow(lease.share())
    lease.release()
    return borrow


def got(pool: Pool) -> shmpool.Lease:
    pool.queue("a").put(pool.acquire())
    return pool.queue("a").get()


TAKES: dict[str, Take] = {
    "acquire": lambda pool: pool.acquire(),
    "acquire_nowait": lambda pool: pool.acquire_nowait(),
    "get": got,
    "claim": lambda pool: pool.claim(pool.acquire().detach()),
    "borrow": borrowed,
}


@contextmanager
def heard() -> Iterator[list[warnings.WarningMessage]]:
    """The leaks that are told meanwhile."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", LeakWarning)
        yield told


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
def test_a_right_that_is_collected_is_told_once(make_pool: MakePool, take: Take) -> None:
    """Kind, slot@generation, pool, line, time and remedy; the slot is free all the same."""
    pool = make_pool(leaks="all")
    right = take(pool)
    line = take.__code__.co_firstlineno
    name, kind = str(right), type(right).__name__.lower()
    with heard() as told:
        del right
        gc.collect()
    assert len(told) == 1
    text = str(told[0].message)
    for part in (f"a {kind} of slot {name}", repr(pool.name), "test_leaks.py:", "s later", "with"):
        assert part in text
    assert "leave_to_views()" in text
    assert told[0].category is LeakWarning
    assert told[0].filename == "test_leaks.py"
    assert told[0].lineno in range(line, line + 5)
    assert pool.audit()["free"] == pool.slots


def test_a_right_that_ends_is_told_of_never(make_pool: MakePool) -> None:
    """However it ends: release, with, put, detach, leave_to_views, or an error in its block."""
    pool = make_pool(leaks="all")
    with heard() as told:
        pool.acquire().release()
        with pool.acquire():
            pass
        pool.queue("a").put(pool.acquire())
        with pool.queue("a").get() as lease:
            pool.claim(lease.detach()).release()
        with pytest.raises(KeyError), pool.acquire():
            raise KeyError
        pool.acquire().leave_to_views()
        borrow = borrowed(pool)
        assert len(_core.tracked()) == 1
        borrow.leave_to_views()
        gc.collect()
    assert told == []
    assert _core.tracked() == []
    assert pool.audit()["free"] == pool.slots


def test_without_a_level_nothing_is_tracked(make_pool: MakePool) -> None:
    """leaks="off" is the default, and silent."""
    pool = make_pool()
    with heard() as told:
        lease = pool.acquire()
        assert _core.tracked() == []
        del lease
    assert told == []


def test_one_in_128_is_sampled(make_pool: MakePool) -> None:
    """Each 128th right of a mapping, the first among them; that is debug's default."""
    pool = make_pool(leaks="sampled")
    with heard() as told:
        for _ in range(129):
            pool.acquire()
    assert len(told) == 2


@pytest.mark.parametrize("level", ["off", "all"])
def test_the_environment_overrules_the_pool(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """SHMPOOL_LEAKS is for this process, whatever the pool was made with."""
    monkeypatch.setenv("SHMPOOL_LEAKS", level)
    pool = make_pool(leaks="all" if level == "off" else "off")
    with heard() as told, Pool.attach(pool.name) as other:
        pool.acquire()
        other.acquire()
    assert len(told) == (0 if level == "off" else 2)


def test_a_level_that_is_none_is_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """ArgumentError, in create and in attach, before anything is made."""
    monkeypatch.setenv("SHMPOOL_LEAKS", "paranoid")
    with pytest.raises(shmpool.ArgumentError, match="SHMPOOL_LEAKS is 'paranoid'"):
        Pool.create(slots=1, slot_size=64)
    with pytest.raises(shmpool.ArgumentError, match="'off', 'sampled', 'all'"):
        Pool.attach(pool.name)


def test_a_leak_raises_nothing_and_keeps_the_error_on_its_way(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With warnings as errors it is unraisable; a TypeError that drops the lease stays one."""
    pool = make_pool(leaks="all")
    unraised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraised.append)
    length: Any = len
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakWarning)
        with pytest.raises(TypeError, match="has no len"):
            length(pool.acquire())  # the error is set when the argument goes
    assert [thing.exc_type for thing in unraised] == [LeakWarning]
    assert pool.audit()["free"] == pool.slots


def test_a_forked_child_tells_nothing_of_its_parents_leases(make_pool: MakePool) -> None:
    """Its list of tracked rights is empty, and what it drops is not its own."""
    pool = make_pool(leaks="all")
    held = [pool.acquire(), pool.acquire()]
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with heard() as told:
            before = len(_core.tracked())
            held.clear()
            gc.collect()
            mine = pool.acquire()
            after = len(_core.tracked())
            mine.release()
        os.write(writing, f"{before} {after} {len(told)}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading) as answer:  # noqa: PTH123 - a descriptor
        assert answer.read() == "0 1 0"
    assert len(_core.tracked()) == 2
    for lease in held:
        lease.release()


def test_tracked_rights_are_listed_oldest_first(make_pool: MakePool) -> None:
    """Kind, pool, slot, generation, file, line and seconds of each; those after a number only."""
    pool = make_pool(leaks="all")
    lease = pool.acquire()
    number = _core.tracked_so_far()
    pool.borrow(lease.share()).leave_to_views()
    second = pool.acquire()
    rows = _core.tracked()
    assert [row[:4] for row in rows] == [
        ("lease", pool.name, lease.slot, lease.generation),
        ("lease", pool.name, second.slot, second.generation),
    ]
    assert {row[4] for row in rows} == {"test_leaks.py"}
    assert rows[0][6] >= rows[1][6] >= 0
    assert [row[2] for row in _core.tracked(number)] == [second.slot]
    second.release()
    lease.release()


def test_a_right_left_to_its_views_goes_back_with_the_last(pool: Pool) -> None:
    """And is over at once: what it was used for is refused."""
    lease = pool.acquire()
    array = lease.array(3, "u1")
    lease.leave_to_views()
    assert pool.audit()["leased"] == 1
    array[:] = 7
    for late in (lease.leave_to_views, lease.release, lease.array):
        with pytest.raises(shmpool.AlreadyEndedError):
            late()
    del array, late
    assert pool.audit()["free"] == pool.slots


def test_closing_with_leases_in_hand_says_where_they_are_from(make_pool: MakePool) -> None:
    """Up to eight, each with its time and, if tracked, its line."""
    pool = make_pool(slots=10, leaks="all")
    held = [pool.acquire() for _ in range(10)]
    with pytest.raises(shmpool.LeasesAliveError) as caught:
        pool.close()
    text = str(caught.value)
    assert text.count("acquired at test_leaks.py:") == 8
    assert "slot 0 for 0" in text
    assert "and 2 more" in text
    for lease in held:
        lease.release()


def test_what_arrays_keep_is_among_the_slots_and_not_counted(make_pool: MakePool) -> None:
    """One lease, two slots."""
    pool = make_pool(slots=3)
    with pool.acquire():
        given = pool.acquire()
        array = given.array((4,), "u1")
        given.leave_to_views()
        with pytest.raises(shmpool.LeasesAliveError) as caught:
            pool.close()
    assert "with 1 lease or borrow in hand (slots [0, 1], those of arrays inc" in str(caught.value)
    del array


def test_an_abandoned_lease_holds_its_slot(make_pool: MakePool) -> None:
    """As if its process had been killed: nothing is told, nothing ends, close() does not mind."""
    pool = make_pool(leaks="all")
    lease = pool.acquire()
    with heard() as told:
        abandon(lease)
        assert not lease.live
        del lease
        gc.collect()
    assert told == []
    assert pool.audit()["leased"] == 1
    pool.close()
    with pytest.raises(TypeError, match="not a lease"):
        abandon(pool)  # type: ignore[arg-type]


# Leases that are held for too long.


def look(watch: Overdue, seconds: float) -> None:
    """A look at what will be so many seconds from now, if nothing changes."""
    watch._look(time.monotonic_ns() + int(seconds * 1e9))


def test_a_lease_held_for_too_long_is_told_once(make_pool: MakePool) -> None:
    """By the reaper's thread: member, pid, slot and seconds; LeakWarning, of any member's lease."""
    heard_of = threading.Event()
    pool = make_pool(lease_warning=0.01)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("always", LeakWarning)
        said: list[Any] = []

        def show(message: Any, category: Any, *_: Any, **__: Any) -> None:
            said.append((category, str(message), threading.current_thread().name))
            heard_of.set()

        patch.setattr(warnings, "showwarning", show)
        with Pool.attach(pool.name, member_name="slow") as other, other.acquire() as lease:
            heard_of.wait()
            name = str(lease)
    assert [category for category, _, _ in said] == [LeakWarning]
    text, thread = said[0][1:]
    for part in (f"slow (pid {os.getpid()}) has held slot {name}", "lease_warning=0.01", " s, "):
        assert part in text
    assert thread.startswith("shmpool-reaper")


@pytest.fixture
def slow(make_pool: MakePool) -> Pool:
    """A pool whose leases are to take an hour at most."""
    return make_pool(lease_warning=3600)


def test_each_generation_of_a_slot_is_told_by_itself(slow: Pool) -> None:
    """Once for each, at the second look; what is shared is held, what is queued is not."""
    watch = Overdue(slow._mapping)
    with heard() as told:
        for number in range(2):
            with slow.acquire() as lease:
                look(watch, 3599)
                look(watch, 3601)
                assert len(told) == number
                look(watch, 3602)
                lease.share()
                for _ in range(3):
                    look(watch, 3603)
                assert len(told) == number + 1
                assert f"slot {lease} of pool" in str(told[-1].message)
        slow.queue("a").put(slow.acquire())
        look(watch, 3700)
        look(watch, 3700)
    assert len(told) == 2
    slow.queue("a").get().release()


def test_a_word_without_its_time_is_not_believed(slow: Pool) -> None:
    """A right's time is written after its word: one look between the two says nothing."""
    watch = Overdue(slow._mapping)
    with slow.acquire() as lease, heard() as told:
        since = slow._mapping.view().slots["since_ns"]
        began = int(since[lease.slot])
        since[lease.slot] = 0  # of whoever had the slot long ago
        look(watch, 0)
        since[lease.slot] = began
        look(watch, 0)
    assert told == []


def test_a_watch_looks_only_now_and_then(slow: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times a second at most, and never where no time was given."""
    looks: list[int] = []
    monkeypatch.setattr(Overdue, "_look", lambda _, now: looks.append(now))
    watch = Overdue(slow._mapping)
    monkeypatch.setattr(time, "monotonic_ns", lambda: int(1e12))
    for _ in range(3):
        watch.look()
    assert len(looks) == 1
    monkeypatch.setattr(time, "monotonic_ns", lambda: int(1e12 + 0.25e9))
    watch.look()
    assert len(looks) == 2


def test_a_pool_without_a_time_has_no_watch(pool: Pool) -> None:
    """lease_warning is None: nothing is looked at."""
    watch = Overdue(pool._mapping)
    with pool.acquire(), heard() as told:
        for _ in range(3):
            watch.look()
    assert told == []


def test_a_warning_that_is_an_error_is_logged(slow: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """The reaper has more to do than to fail."""
    watch = Overdue(slow._mapping)
    with slow.acquire(), warnings.catch_warnings():
        warnings.simplefilter("error", LeakWarning)
        for _ in range(3):
            look(watch, 3601)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "has held slot 0" in caplog.text
