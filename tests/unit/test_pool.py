"""The pool itself: what `create` refuses, how it closes, what its errors say."""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Pool, QueueOptions, _core
from shmpool._layout import State

MakePool = Callable[..., Pool]
SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is


def listing() -> set[str]:
    """Names in /dev/shm."""
    return {entry.name for entry in SHM.iterdir()}


def refused(kind: type[Exception], **options: Any) -> Exception:
    """The error of `Pool.create`, which must leave nothing behind."""
    before = listing()
    with pytest.raises(kind) as caught:
        Pool.create(**({"slots": 2, "slot_size": 64} | options)).close()
    assert listing() == before
    return caught.value


# What `create` refuses.


@pytest.mark.parametrize("value", [0, -1, -(1 << 70), 1 << 70, True, False, 2.5, "nonsense", None])
@pytest.mark.parametrize("what", ["slots", "slot_size", "members"])
def test_a_count_out_of_range_is_named_with_its_value(what: str, value: Any) -> None:
    """Slots, slot_size and members are integers from 1 to their maximum, never bools."""
    error = refused(shmpool.SizeError, **{what: value})
    assert what in str(error)
    assert str(value) in str(error)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("what", "value"), [("slots", 65_536), ("members", 256), ("slot_size", (1 << 46) + 1)]
)
def test_one_more_than_the_most_is_too_many(what: str, value: int) -> None:
    """65,535 slots, 255 members and 64 TiB are the ends of the ranges."""
    assert str(value) in str(refused(shmpool.SizeError, **{what: value}))


@pytest.mark.parametrize("text", ["", "B", "MiB", "-1", "1e3", "1,5 MiB", "5 XiB", "0x10", "nan"])
def test_a_slot_size_that_is_no_size_is_quoted(text: str) -> None:
    """A text is a number and a unit, nothing else."""
    assert repr(text) in str(refused(shmpool.SizeError, slot_size=text))


@pytest.mark.parametrize("text", ["0", "0 MiB", "0.1 B", "65 TiB", "9" * 30, "9" * 400])
def test_a_slot_size_in_words_is_held_to_the_range(text: str) -> None:
    """A well-formed text out of range is a SizeError like a number out of range."""
    assert "slot_size" in str(refused(shmpool.SizeError, slot_size=text))


@pytest.mark.parametrize("what", ["slots", "slot_size", "members"])
def test_an_integer_of_numpy_is_an_integer(what: str, make_pool: MakePool) -> None:
    """Sizes are computed with numpy, and np.int64 counts as int everywhere alike."""
    pool = make_pool(**{what: np.int64(3)})
    with pool.acquire() as lease:
        assert lease.nbytes == pool.slot_size


def test_31_queues_are_the_most(make_pool: MakePool) -> None:
    """The 31st queue works, a 32nd is refused with the count and the most."""
    names = tuple(f"q{number}" for number in range(32))
    pool = make_pool(queues=names[:31])
    pool.queue("q30").put(pool.acquire())
    pool.queue("q30").get_nowait().release()
    message = str(refused(shmpool.SizeError, queues=names))
    assert "32" in message
    assert "31" in message


def test_queues_as_one_text_are_no_tuple_of_letters() -> None:
    """queues="todo" is refused, and the message shows the tuple that was meant."""
    assert "('todo',)" in str(refused(shmpool.ArgumentError, queues="todo"))


@pytest.mark.parametrize(
    "name", ["", "/x", "a/b", "..", ".a", "-a", "a b", "a\n", "\0", "ä", "x" * 49, "../x"]
)
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    """1 to 48 letters, digits, '_', '-' and '.', the first no '-' or '.'."""
    assert repr(name) in str(refused(shmpool.ArgumentError, name=name))
    with pytest.raises(shmpool.NotAPoolError):
        Pool.attach(name)


@pytest.mark.parametrize("name", ["x", "x" * 48, "0", "_", "a.b-c_D"])
def test_a_name_within_the_rules_is_kept(make_pool: MakePool, name: str) -> None:
    """The pool has the name it was given, and is found by it."""
    assert make_pool(name=name).name == name
    with Pool.attach(name) as other:
        assert other.name == name


@pytest.mark.parametrize("name", ["", "x" * 32, "ä" * 16, "a\0b", 5, None, b"bytes", "\ud800"])
def test_a_queue_name_that_cannot_be_stored_is_quoted(name: Any) -> None:
    """A queue's name is 1 to 31 bytes of text without NUL."""
    assert repr(name) in str(refused(shmpool.ArgumentError, queues=("ok", name)))


@pytest.mark.parametrize("name", ["x" * 31, "ä" * 15, "a b", "/"])
def test_any_other_text_names_a_queue(make_pool: MakePool, name: str) -> None:
    """Any text of 31 bytes in UTF-8, found again by whoever attaches."""
    pool = make_pool(queues=(name,))
    with Pool.attach(pool.name) as other:
        assert other.queue(name).qsize() == 0


@pytest.mark.parametrize("header", ["f8", "u1", "O", [("a", "O")], ("f4", (3,))])
def test_a_header_is_structured_and_holds_no_objects(header: Any) -> None:
    """A header needs fields by name, and bytes instead of Python objects."""
    assert "structured" in str(refused(shmpool.ArgumentError, header=header))


def test_a_header_has_a_most() -> None:
    """64 KiB of header record and no more."""
    assert "65537" in str(refused(shmpool.SizeError, header=[("a", "u1", (65_537,))]))


@pytest.mark.parametrize("value", ["hot", "", None, 0, "WARM", "raise "])
@pytest.mark.parametrize("what", ["reuse", "views"])
def test_a_policy_is_one_of_its_words(what: str, value: Any) -> None:
    """The message names the option, the value and the choices."""
    message = str(refused(shmpool.ArgumentError, **{what: value}))
    assert f"{what} is {value!r}" in message
    assert {"reuse": "'cold'", "views": "'ignore'"}[what] in message


@pytest.mark.parametrize("value", [-1, -1e-9, 1e9, float("inf"), float("nan"), -float("inf")])
def test_an_orphan_grace_is_a_time(value: float) -> None:
    """Seconds from 0 to 1e9, neither negative nor infinite nor NaN."""
    message = str(refused(shmpool.ArgumentError, orphan_grace=value))
    assert f"orphan_grace is {value!r}" in message


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_spin_is_a_time(value: float) -> None:
    """Seconds to poll: neither negative nor infinite nor NaN, and told before anything is made."""
    assert "spin" in str(refused(shmpool.ArgumentError, spin=value))


@pytest.mark.parametrize("letter", ["nowhere", "", "A"])
def test_a_dead_letter_is_a_queue_of_the_pool(letter: str) -> None:
    """dead_letter names the queue, what was asked for and what there is."""
    options = {"a": QueueOptions(dead_letter=letter), "b": QueueOptions()}
    message = str(refused(shmpool.ArgumentError, queues=options))
    assert f"dead_letter of queue 'a' is {letter!r}" in message
    assert "['a', 'b']" in message


@pytest.mark.parametrize("on_death", ["explode", "", None, "Requeue"])
def test_on_death_is_one_of_its_words(on_death: Any) -> None:
    """on_death is "requeue" or "free"."""
    message = str(refused(shmpool.ArgumentError, queues={"a": QueueOptions(on_death=on_death)}))
    assert f"on_death of queue 'a' is {on_death!r}" in message
    assert "requeue, free" in message


@pytest.mark.parametrize("what", ["maxsize", "max_attempts"])
@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_a_queue_option_out_of_range_is_a_size_error(what: str, value: int) -> None:
    """Maxsize and max_attempts fit into 32 bits and are not negative."""
    options = {"a": QueueOptions(**{what: value})}  # type: ignore[arg-type]
    assert what in str(refused(shmpool.SizeError, queues=options))


# Memory and names.


@pytest.mark.parametrize("slots", [1, 7, 65_535])
def test_a_pool_too_large_for_dev_shm_is_told_the_sizes_and_the_remedy(slots: int) -> None:
    """Needed, free and total in message and facts, the remedy, and nothing is left."""
    error: Any = refused(shmpool.OutOfSharedMemoryError, slots=slots, slot_size="60 TiB")
    space = os.statvfs(SHM)
    assert error.needed >= slots * 60 * 1024**4
    assert error.total == space.f_blocks * space.f_frsize
    assert 0 <= error.free <= error.total
    for part in ("TiB", f"{slots} slots of 60.0 TiB", "are free", "--shm-size", "remount"):
        assert part in str(error)
    assert isinstance(error, OSError)


def test_a_name_that_lives_is_not_taken(make_pool: MakePool) -> None:
    """PoolExistsError names pool and pid, and the pool that was there goes on untouched."""
    pool = make_pool(name="alive", slots=2)
    lease = pool.acquire()
    lease.array((8,), "u1")[:] = 9
    pool.queue("a").put(lease)
    error: Any = refused(shmpool.PoolExistsError, name="alive", slots=9)
    assert error.pid == os.getpid()
    assert isinstance(error, FileExistsError)
    for part in ("'alive'", f"pid {os.getpid()}", "attach"):
        assert part in str(error)
    with Pool.attach("alive") as other, other.queue("a").get_nowait() as lease:
        assert other.slots == 2
        assert (lease.array() == 9).all()
    assert pool.audit()["free"] == 2


def test_a_full_member_table_is_told_who_is_in_it(make_pool: MakePool) -> None:
    """members=1 is the coordinator alone; whoever comes next is told its name and pid."""
    pool = make_pool(members=1, member_name="boss")
    with pytest.raises(shmpool.TooManyMembersError) as caught:
        Pool.attach(pool.name)
    for part in (repr(pool.name), "members=1", f"boss (pid {os.getpid()})"):
        assert part in str(caught.value)
    assert caught.value.members == 1
    pool.acquire().release()


def test_an_attachment_that_was_refused_keeps_no_descriptor(make_pool: MakePool) -> None:
    """TooManyMembersError leaves no file descriptor open, however often it comes."""
    pool = make_pool(members=1)
    gc.collect()  # what other tests have left for it
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing's own descriptor counts
    for _ in range(20):
        with pytest.raises(shmpool.TooManyMembersError):
            Pool.attach(pool.name)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_an_unknown_queue_is_told_what_there_is(pool: Pool) -> None:
    """ArgumentError names the pool, what was asked for, and the queues."""
    with pytest.raises(shmpool.ArgumentError) as caught:
        pool.queue("c")
    for part in (repr(pool.name), "'c'", "['a', 'b']"):
        assert part in str(caught.value)


@pytest.mark.parametrize("nbytes", [4097, 1 << 40, 1 << 70, -1])
def test_more_bytes_than_a_slot_has_are_refused(pool: Pool, nbytes: int) -> None:
    """acquire(nbytes) with too many is a SizeError with both numbers; no slot is taken."""
    for acquire in (pool.acquire, pool.acquire_nowait):
        with pytest.raises(shmpool.SizeError) as caught:
            acquire(nbytes)
        assert (caught.value.needed, caught.value.slot_size) == (nbytes, 4096)
        assert str(nbytes) in str(caught.value)
        assert "4096" in str(caught.value)
    assert pool.audit()["free"] == pool.slots


@pytest.mark.parametrize("nbytes", [None, 0, 1, 4096])
def test_as_many_bytes_as_a_slot_has_are_given(pool: Pool, nbytes: int | None) -> None:
    """acquire(nbytes) gives a whole slot for anything that fits."""
    for acquire in (pool.acquire, pool.acquire_nowait):
        with acquire(nbytes) as lease:
            assert lease.nbytes == 4096


# Closing.


def test_closing_with_a_lease_in_hand_closes_all_the_same() -> None:
    """LeasesAliveError names the slots; the pool is closed, the lease stays usable."""
    pool = Pool.create(slots=3, slot_size=64)
    first, lease = pool.acquire(), pool.acquire()
    first.release()
    lease.array((4,), "u1")[:] = 5
    with pytest.raises(shmpool.LeasesAliveError) as caught:
        pool.close()
    assert caught.value.slots == [lease.slot]
    assert str([lease.slot]) in str(caught.value)
    assert repr(pool.name) in str(caught.value)
    assert pool.closed
    assert not (SHM / pool.name).exists()
    with pytest.raises(shmpool.PoolClosedError):
        pool.acquire_nowait()
    array = lease.array()
    assert (array == 5).all()
    array[:] = 6
    del array
    assert bytes(memoryview(lease)[:4]) == b"\6\6\6\6"
    lease.release()
    pool.close()


def test_with_raises_for_a_lease_in_hand() -> None:
    """Leaving `with` in good order tells of leases that are alive."""
    pool = Pool.create(slots=1, slot_size=64)
    with pytest.raises(shmpool.LeasesAliveError), pool:
        lease = pool.acquire()
    lease.release()


def test_with_does_not_mask_an_error_by_the_leases_it_left() -> None:
    """An error on its way out of `with` is the one that is seen, and the pool is closed."""
    pool = Pool.create(slots=1, slot_size=64)
    with pytest.raises(ZeroDivisionError) as caught, pool:  # noqa: PT012
        lease = pool.acquire()
        lease.slot / 0
    assert caught.value.__context__ is None
    assert pool.closed
    lease.release()


def test_close_and_unlink_may_be_called_again() -> None:
    """Both are idempotent, in any order."""
    pool = Pool.create(slots=1, slot_size=64)
    pool.unlink()
    pool.unlink()
    pool.acquire().release()
    pool.close()
    pool.close()
    pool.unlink()
    assert pool.closed
    assert repr(pool) == f"<Pool {pool.name!r}, closed>"


def test_an_unlinked_pool_goes_on_for_those_who_are_there(make_pool: MakePool) -> None:
    """Unlink takes the names only: members keep working, newcomers find nothing."""
    pool = make_pool()
    with Pool.attach(pool.name) as other:
        pool.unlink()
        assert not (SHM / pool.name).exists()
        with pytest.raises(shmpool.PoolNotFoundError) as caught:
            Pool.attach(pool.name)
        assert repr(pool.name) in str(caught.value)
        pool.queue("a").put(pool.acquire())
        other.queue("a").get_nowait().release()


def test_a_closed_pool_is_not_found(make_pool: MakePool) -> None:
    """Attaching after close is a PoolNotFoundError, which is a FileNotFoundError."""
    pool = make_pool()
    pool.close()
    with pytest.raises(shmpool.PoolNotFoundError) as caught:
        Pool.attach(pool.name)
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.name == pool.name
    assert repr(pool.name) in str(caught.value)


def test_only_the_coordinator_unlinks(make_pool: MakePool) -> None:
    """Unlink by anybody else is an ArgumentError, and takes nothing away."""
    pool = make_pool()
    with Pool.attach(pool.name) as other:
        with pytest.raises(shmpool.ArgumentError) as caught:
            other.unlink()
        assert repr(pool.name) in str(caught.value)
        assert (SHM / pool.name).exists()


def test_closing_an_attachment_closes_no_pool(make_pool: MakePool) -> None:
    """A member that leaves leaves alone."""
    pool = make_pool()
    other = Pool.attach(pool.name)
    other.close()
    other.close()
    assert other.closed
    assert not pool.closed
    with pytest.raises(shmpool.PoolClosedError):
        other.acquire_nowait()
    pool.acquire().release()


def test_everything_raises_pool_closed_after_close(make_pool: MakePool) -> None:
    """Acquire, get, claim and put name the closed pool, in members of it too."""
    pool = make_pool()
    other = Pool.attach(pool.name)
    queue, ticket = other.queue("a"), pool.acquire().detach()
    lease = other.acquire()
    pool.close()
    assert other.closed
    calls: list[Callable[[], Any]] = [
        other.acquire, other.acquire_nowait, queue.get, queue.get_nowait,
        lambda: other.claim(ticket), lambda: pool.claim(ticket), pool.acquire,
        lambda: queue.put(lease),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(shmpool.PoolClosedError) as caught:
            call()
        assert repr(pool.name) in str(caught.value)
    lease.release()
    other.close()


# Every slot is held.


def test_an_exhausted_pool_names_who_holds_how_many(make_pool: MakePool) -> None:
    """PoolExhaustedError is a TimeoutError; it counts by member, and what waits where."""
    pool = make_pool(slots=6, member_name="hoarder")
    with Pool.attach(pool.name, member_name="guest") as other:
        held = [pool.acquire(), pool.acquire(), pool.acquire()]
        guest = other.acquire()
        pool.queue("b").put(pool.acquire())
        ticket = pool.acquire().detach()
        with pytest.raises(shmpool.PoolExhaustedError) as caught:
            pool.acquire(timeout=0.01)
        error, pid = caught.value, os.getpid()
        assert isinstance(error, TimeoutError)
        assert error.slots == 6
        assert error.waited == 0.01
        counts = {holder.who: (holder.leased, holder.queued) for holder in error.holders}
        assert counts == {f"hoarder (pid {pid})": (3, 2), f"guest (pid {pid})": (1, 0)}
        for part in (
            "none of the 6 slots", repr(pool.name),
            f"hoarder (pid {pid}): 3 leased, 2 queued for up to",
            f"guest (pid {pid}): 1 leased for",
            "1 waits in 'b'", "1 waits in no queue", "0.01 s", "timeout=", "more slots",
        ):  # fmt: skip
            assert part in str(error)
        guest.release()
    for lease in held:
        lease.release()
    pool.claim(ticket).release()
    pool.queue("b").get_nowait().release()
    assert pool.audit()["free"] == 6


def test_acquire_nowait_gives_a_slot_or_raises_at_once(make_pool: MakePool) -> None:
    """As many leases as slots, then PoolExhaustedError, then again after a release."""
    pool = make_pool(slots=2)
    leases = [pool.acquire_nowait(), pool.acquire_nowait()]
    assert {lease.slot for lease in leases} == {0, 1}
    with pytest.raises(shmpool.PoolExhaustedError) as caught:
        pool.acquire_nowait()
    assert caught.value.waited == 0
    leases.pop().release()
    leases.append(pool.acquire_nowait())
    assert pool.statistics().members[0].exhausted == 1
    for lease in leases:
        lease.release()


@pytest.mark.parametrize("timeout", [-1, -1e-9, float("nan")])
def test_a_timeout_that_is_no_time_is_refused(pool: Pool, timeout: float) -> None:
    """A time-out is a number of seconds from 0 on, as in queue.Queue."""
    held = [pool.acquire() for _ in range(pool.slots)]
    with pytest.raises(shmpool.ArgumentError) as caught:
        pool.acquire(timeout=timeout)
    assert repr(timeout) in str(caught.value)
    for lease in held:
        lease.release()


# Which slot.


def test_warm_gives_the_slot_that_was_just_used(make_pool: MakePool) -> None:
    """reuse="warm": the lowest free slot again, with the next generation."""
    pool = make_pool(reuse="warm")
    generations = []
    for _ in range(10):
        with pool.acquire() as lease:
            assert lease.slot == 0
            generations.append(lease.generation)
    assert generations == sorted(set(generations))


def test_cold_goes_round(make_pool: MakePool) -> None:
    """reuse="cold": each of n slots once before any comes again."""
    pool = make_pool(reuse="cold", slots=5)
    slots = []
    for _ in range(15):
        with pool.acquire() as lease:
            slots.append(lease.slot)
    for turn in (slots[0:5], slots[5:10], slots[10:15]):
        assert sorted(turn) == [0, 1, 2, 3, 4]


def test_every_one_of_65_535_slots_can_be_leased(make_pool: MakePool) -> None:
    """The most slots there can be: all different, all usable, and all freed."""
    pool = make_pool(slots=65_535, slot_size=64)
    leases = [pool.acquire_nowait() for _ in range(65_535)]
    assert {lease.slot for lease in leases} == set(range(65_535))
    with pytest.raises(shmpool.PoolExhaustedError):
        pool.acquire_nowait()
    for lease in (leases[0], leases[65_534]):
        lease.array((8,), "u8")[:] = lease.slot
    assert (leases[65_534].array() == leases[65_534].slot).all()
    assert pool.audit()["leased"] == 65_535
    for lease in leases:
        lease.release()
    assert pool.audit()["free"] == 65_535
    assert min(pool.acquire_nowait().slot for _ in range(3)) == 0


# Statistics.


def test_statistics_are_frozen_and_add_up(make_pool: MakePool) -> None:
    """A snapshot: the slots by state add up, counters tell what happened, nothing can be set."""
    pool = make_pool(slots=5, member_name="me")
    queue = pool.queue("a")
    held, ticket = pool.acquire(), pool.acquire().detach()
    queue.put(pool.acquire())
    before = pool.statistics()
    assert sum(getattr(before, state.name.lower()) for state in State) == before.slots == 5
    assert (before.free, before.leased, before.queued) == (2, 1, 2)
    assert before.queues == {"a": 1, "b": 0}
    (member,) = before.members
    assert (member.name, member.pid, member.held) == ("me", os.getpid(), 1)
    assert (member.acquired, member.put, member.detached, member.got) == (3, 1, 1, 0)
    pool.claim(ticket).release()
    queue.get().release()
    held.release()
    after = pool.statistics()
    (member,) = after.members
    assert (after.free, member.held, member.released) == (5, 0, 3)
    assert (member.got, member.claimed) == (1, 1)
    assert after.bytes_handed_on == 2 * pool.slot_size
    assert after.payload_bytes == (SHM / f"{pool.name}.slab0").stat().st_size
    assert after.control_bytes == (SHM / pool.name).stat().st_size
    assert before.free == 2, "a snapshot does not move"
    for snapshot, field in ((after, "free"), (member, "held")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(snapshot, field, 7)


@pytest.mark.parametrize(
    ("slot_size", "stride"),
    [(1, 64), (64, 64), (65, 128), (4095, 4096), (4096, 4096), (4097, 8192)],
)
def test_slots_of_a_page_or_more_take_whole_pages(
    make_pool: MakePool, slot_size: int, stride: int
) -> None:
    """Small slots start on cache lines, large ones on pages, where none of them is fenced."""
    for views in ("raise", "ignore"):
        pool = make_pool(slot_size=slot_size, views=views)
        assert (pool.slot_size, pool.statistics().stride) == (slot_size, stride)


@pytest.mark.parametrize("options", [{}, {"views": "fence"}, {"views": "copy"}])
@pytest.mark.parametrize(("slot_size", "stride"), [(1, 4096), (4096, 4096), (4097, 8192)])
def test_slots_that_can_be_fenced_take_whole_pages(
    make_pool: MakePool, options: dict[str, str], slot_size: int, stride: int
) -> None:
    """However small they are: what is protected is pages. Fencing is the default."""
    pool = make_pool(slot_size=slot_size, **options)
    assert (pool.slot_size, pool.statistics().stride) == (slot_size, stride)


# Audit.


def word(generation: int, owner: int, queue: int, state: State) -> int:
    """A slot word, packed."""
    return generation << 16 | owner << 8 | queue << 3 | state


def poke(pool: Pool, slot: int, value: int) -> int:
    """Overwrite the word of a slot through the file: what was there."""
    at = _core.layout(pool._spec.counts)["slots"] + 64 * slot
    with (SHM / pool.name).open("r+b") as file:
        file.seek(at)
        old = int.from_bytes(file.read(8), "little")
        file.seek(at)
        file.write(value.to_bytes(8, "little"))
    return old


BROKEN = {
    "I2: a generation is at least 1": word(0, 0, 0, State.FREE),
    "I2: retired => the last generation": word(5, 0, 0, State.RETIRED),
    "I3: owner != 0 => leased, queued, shared or being committed": word(5, 1, 0, State.FREE),
    "I3: leased, queued or shared => owner != 0": word(5, 0, 0, State.LEASED),
    "I4: an owner is a member": word(5, 200, 0, State.LEASED),
    "I5: queue != 0 => leased, queued or quarantined": word(5, 0, 1, State.FREE),
    "I5: a queue is one of the pool's": word(5, 1, 3, State.QUEUED),
    "I6: a queued ticket stands in its ring": word(5, 1, 1, State.QUEUED),
    "I9: draining => readers": word(5, 0, 0, State.DRAINING),
}


@pytest.mark.parametrize("slot", [0, 2, 3])
@pytest.mark.parametrize("rule", BROKEN)
def test_audit_names_the_slot_and_the_rule_that_a_word_breaks(
    pool: Pool, slot: int, rule: str
) -> None:
    """A word that cannot be is found, with slot, word and rule in message and facts."""
    assert pool.audit() == {state.name.lower(): 4 * (state is State.FREE) for state in State}
    old = poke(pool, slot, BROKEN[rule])
    with pytest.raises(shmpool.AuditError) as caught:
        pool.audit()
    assert caught.value.slot == slot
    assert caught.value.rule == rule
    assert caught.value.word.generation == BROKEN[rule] >> 16
    assert rule in str(caught.value)
    assert str(slot) in str(caught.value)
    poke(pool, slot, old)
    assert pool.audit()["free"] == 4
