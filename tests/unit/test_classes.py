"""Slots of several sizes: which one an acquire gets, who is woken, and writers that outgrow one."""

from __future__ import annotations

import io
import multiprocessing as mp
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from outside import counted

import shmpool
from shmpool import Pool, QueueOptions, Ticket
from workers import crasher

SMALL, LARGE, HUGE = 4096, 65536, 1 << 20
TWO = [(SMALL, 2), (LARGE, 1)]

MakePool = Callable[..., Pool]


@pytest.fixture
def make_classes(make_pool: MakePool) -> Callable[..., Pool]:
    """Make pools with classes."""

    def make(*classes: Any, **options: Any) -> Pool:
        return make_pool(slots=None, slot_size=None, classes=list(classes), **options)

    return make


@pytest.fixture
def two(make_classes: MakePool) -> Pool:
    """Two small slots and a large one."""
    return make_classes(*TWO)


def free(pool: Pool) -> list[int]:
    """Free slots by class."""
    return [c.free for c in pool.statistics().classes]


def refused(kind: type[Exception], **options: Any) -> str:
    """What `Pool.create` says."""
    with pytest.raises(kind) as caught:
        Pool.create(**options).close()
    assert isinstance(caught.value, shmpool.ArgumentError)
    return str(caught.value)


# --- create -------------------------------------------------------------------------------


def test_classes_are_sorted_by_size(make_classes: MakePool) -> None:
    """However they were named: the smallest first, and slot numbers in that order."""
    pool = make_classes(("64 KiB", 1), (64, 3), ("4 KiB", 2, 5), views="raise")
    classes = pool.statistics().classes
    assert [c.slot_size for c in classes] == [64, SMALL, LARGE]
    assert [c.slots for c in classes] == [3, 5, 1]
    assert [c.free for c in classes] == [3, 2, 1]
    assert [c.uncommitted for c in classes] == [0, 3, 0]
    assert [c.stride for c in classes] == [64, SMALL, LARGE]
    assert [c.committed_bytes for c in classes] == [192, 2 * SMALL, LARGE]
    assert (pool.slots, pool.slot_size) == (9, LARGE)
    assert pool.statistics().payload_bytes == 192 + 2 * SMALL + LARGE
    assert pool.statistics().uncommitted == 3
    slots = {size: pool.acquire(size).slot for size in (LARGE, 64, SMALL)}
    assert slots[64] < 3 <= slots[SMALL] < 8 == slots[LARGE]
    pool.audit()


def test_repr_names_every_class(two: Pool) -> None:
    """`2 slots of 4.0 KiB and 1 slots of 64.0 KiB`."""
    assert "2 slots of 4.0 KiB and 1 slots of 64.0 KiB" in repr(two)


def test_a_pool_with_classes_is_attached_with_classes(two: Pool) -> None:
    """Sizes and places are read from the header: both see the same bytes."""
    with Pool.attach(two.name) as other:
        for size in (SMALL, LARGE):
            lease = two.acquire(size)
            lease.array(size, "u1")[:] = size % 251
            with other.claim(lease.detach()) as claimed:
                assert claimed.nbytes == size
                assert (claimed.array() == size % 251).all()


def test_eight_classes_are_the_most(make_classes: MakePool) -> None:
    """Eight work, each with its own bytes; nine are refused, and none."""
    classes = [(64 << i, 2) for i in range(8)]
    pool = make_classes(*classes)
    leases = [pool.acquire(size) for size, _ in classes for _ in range(2)]
    for number, lease in enumerate(leases):
        memoryview(lease)[:] = bytes([number]) * lease.nbytes
    for number, lease in enumerate(leases):
        assert bytes(lease) == bytes([number]) * (64 << number // 2)
    pool.audit()
    assert "1 to 8" in refused(shmpool.SizeError, classes=[*classes, (1 << 20, 1)])
    assert "1 to 8" in refused(shmpool.SizeError, classes=[])
    for lease in leases:
        lease.release()


@pytest.mark.parametrize("again", [4096, "4 KiB", "0.00390625 MiB"])
def test_each_size_is_named_once(again: Any) -> None:
    """Two classes of one size are one class: in whatever unit."""
    text = refused(shmpool.SizeError, classes=[(4096, 1), (8192, 1), (again, 2)])
    assert "each size once" in text
    assert repr(again) in text


@pytest.mark.parametrize(
    "options",
    [{"slots": 1}, {"slot_size": 64}, {"max_slots": 4}, {"slots": 1, "slot_size": 64}],
    ids=str,
)
def test_classes_and_slots_exclude_each_other(options: dict[str, Any]) -> None:
    """Either slots= and slot_size=, or classes=."""
    assert "either" in refused(shmpool.ArgumentError, classes=[(64, 1)], **options)


@pytest.mark.parametrize("options", [{}, {"slots": 1}, {"slot_size": 64}], ids=str)
def test_neither_is_refused_by_name(options: dict[str, Any]) -> None:
    """A pool without slots= or slot_size= or classes= says what to give."""
    assert "classes=" in refused(shmpool.SizeError, **options)


@pytest.mark.parametrize(
    "entry", [64, (64,), (64, 1, 2, 3), "64", (), None, {64: 1}, "ab", "abc"], ids=str
)
def test_an_entry_that_is_no_class_is_quoted(entry: Any) -> None:
    """(slot_size, count) or (slot_size, count, max_count)."""
    text = refused(shmpool.ArgumentError, classes=[(32, 1), entry])
    assert repr(entry) in text
    assert "(slot_size, count, max_count)" in text


@pytest.mark.parametrize(
    "entry",
    [
        (0, 1), (-1, 1), ("none", 1), (True, 1), ((1 << 46) + 1, 1), (64, 0), (64, -1), (64, True),
        (64, 1.0), (64, 65_536), (64, 2, 1), (64, 0, 0), (64, 1, 65_536), (64, 1, True),
    ],
    ids=str,
)  # fmt: skip
def test_a_number_out_of_range_is_a_size_error(entry: Any) -> None:
    """Sizes from 1 byte, counts from 1, or 0 with a maximum above, which is no less than it."""
    refused(shmpool.SizeError, classes=[entry])


def test_all_classes_together_have_65535_slots_at_most() -> None:
    """Those without memory are counted."""
    text = refused(shmpool.SizeError, classes=[(1, 1, 40_000), (2, 1, 40_000)])
    assert "80000" in text
    assert "65535" in text


@pytest.mark.parametrize("most", [0, -1, 1, 65_536, True, 2.5, "4"])
def test_max_slots_is_no_less_than_slots(most: Any) -> None:
    """From `slots` to 65,535, an integer."""
    text = refused(shmpool.SizeError, slots=2, slot_size=64, max_slots=most)
    assert "max_slots" in text
    assert repr(most) in text


# --- acquire(nbytes) ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nbytes", "size"),
    [
        (None, SMALL), (0, SMALL), (1, SMALL), (SMALL, SMALL), (SMALL + 1, LARGE), (LARGE, LARGE),
        (LARGE + 1, HUGE), (HUGE, HUGE), (np.int64(5000), LARGE), (np.uint8(200), SMALL),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("how", ["acquire", "with a time-out", "acquire_nowait"])
def test_the_smallest_class_that_fits_is_taken(
    make_classes: MakePool, nbytes: Any, size: int, how: str
) -> None:
    """Whichever way one acquires; `lease.nbytes` says what came."""
    pool = make_classes((SMALL, 1), (LARGE, 1), (HUGE, 1))
    arguments = () if nbytes is None else (nbytes,)
    with {
        "acquire": pool.acquire,
        "with a time-out": lambda *a: pool.acquire(*a, timeout=0),
        "acquire_nowait": pool.acquire_nowait,
    }[how](*arguments) as lease:
        assert lease.nbytes == size
        assert memoryview(lease).nbytes == size


def test_a_full_class_gives_way_to_the_next(make_classes: MakePool) -> None:
    """A larger slot is better than none; a smaller one is not."""
    pool = make_classes((SMALL, 1), (LARGE, 1), (HUGE, 1))
    leases = [pool.acquire(1) for _ in range(3)]
    assert [lease.nbytes for lease in leases] == [SMALL, LARGE, HUGE]
    leases.pop(0).release()
    for nbytes in (SMALL + 1, LARGE, HUGE):
        with pytest.raises(shmpool.PoolExhaustedError):
            pool.acquire_nowait(nbytes)
    pool.acquire_nowait(SMALL).release()
    assert pool.statistics().members[0].exhausted == 3


def test_a_class_grows_before_a_larger_one_is_tried(make_classes: MakePool) -> None:
    """Memory for a small slot is cheaper than a large one that somebody may need."""
    pool = make_classes((SMALL, 1, 3), (LARGE, 1))
    leases = [pool.acquire() for _ in range(4)]
    assert [lease.nbytes for lease in leases] == [SMALL] * 3 + [LARGE]
    assert [c.uncommitted for c in pool.statistics().classes] == [0, 0]
    pool.audit()


@pytest.mark.parametrize("classes", [[(SMALL, 1)], TWO], ids=["one class", "two"])
@pytest.mark.parametrize("nbytes", [LARGE + 1, 1 << 40, 1 << 64, 1 << 80, -1])
def test_what_no_slot_has_room_for_is_a_size_error(
    make_classes: MakePool, nbytes: int, classes: Any
) -> None:
    """`needed` and `slot_size` are numbers; the message names the largest slot."""
    pool = make_classes(*classes)
    largest = classes[-1][0]
    for acquire in (pool.acquire, pool.acquire_nowait, lambda n: pool.acquire(n, timeout=0)):
        with pytest.raises(shmpool.SizeError, match=f"{nbytes} bytes do not fit") as caught:
            acquire(nbytes)
        assert (caught.value.needed, caught.value.slot_size) == (nbytes, largest)
        assert str(largest) in str(caught.value)
    assert pool.audit()["free"] == pool.slots


@pytest.mark.parametrize("nbytes", ["1 KiB", [1], object()], ids=str)
def test_a_number_of_bytes_is_a_number(two: Pool, nbytes: Any) -> None:
    """TypeError for what is none."""
    with pytest.raises(TypeError):
        two.acquire(nbytes)
    with pytest.raises(TypeError):
        two.acquire(1, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        two.acquire(nbytes=1)  # type: ignore[call-arg]
    assert two.audit()["free"] == two.slots


def test_the_message_of_an_exhausted_class_is_of_that_class(
    make_classes: MakePool,
) -> None:
    """How many slots of what size are held, by whom: the free small ones are not meant."""
    pool = make_classes(*TWO, member_name="holder")
    lease = pool.acquire(LARGE)
    with pytest.raises(shmpool.PoolExhaustedError) as caught:
        pool.acquire(LARGE, timeout=0)
    text = str(caught.value)
    assert "the only slot of 64.0 KiB or more" in text
    assert f"holder (pid {os.getpid()}): 1 leased for" in text
    lease.release()
    small = [pool.acquire() for _ in range(3)]
    with pytest.raises(shmpool.PoolExhaustedError, match="none of the 3 slots of pool"):
        pool.acquire_nowait()
    for lease in small:
        lease.release()


def test_an_array_has_the_room_of_its_slot(two: Pool) -> None:
    """What fits into a large slot does not fit into a small one."""
    with two.acquire(SMALL) as lease, pytest.raises(shmpool.ShapeError) as caught:
        lease.array(LARGE, "u1")
    assert (caught.value.needed, caught.value.slot_size) == (LARGE, SMALL)
    with two.acquire(LARGE) as lease:
        lease.array(LARGE, "u1")


def test_headers_and_descriptions_belong_to_their_slots(make_classes: MakePool) -> None:
    """Of whatever class: none is another's."""
    pool = make_classes((64, 2), (SMALL, 2), (LARGE, 2), header=[("number", "<i4")])
    leases = [pool.acquire(size) for size in (64, 64, SMALL, SMALL, LARGE, LARGE)]
    for number, lease in enumerate(leases):
        lease.header.number = number
        lease.array((number + 1,), "u1")[:] = number
        pool.queue("a").put(lease)
    for number in range(6):
        with pool.queue("a").get() as lease:
            assert lease.header.number == number
            assert lease.array().tolist() == [number] * (number + 1)


@pytest.mark.parametrize("reuse", ["warm", "cold"])
def test_each_class_is_used_as_the_pool_says(make_classes: MakePool, reuse: str) -> None:
    """Warm: the lowest free slot of the class again; cold: round its slots."""
    pool = make_classes((SMALL, 2), (LARGE, 3), reuse=reuse)
    seen: list[int] = []
    for _ in range(6):
        with pool.acquire(LARGE) as lease:
            seen.append(lease.slot)
        with pool.acquire(SMALL) as lease:
            assert lease.slot < 2
    assert seen == ([2] * 6 if reuse == "warm" else [2, 3, 4] * 2)


# --- waiters ------------------------------------------------------------------------------


@contextmanager
def waiting(pool: Pool, nbytes: int) -> Iterator[list[int]]:
    """A thread that waits for a slot: the list gets the size that came, by the end of the block."""
    came: list[int] = []

    def acquire() -> None:
        with pool.acquire(nbytes) as lease:
            came.append(lease.nbytes)

    thread = threading.Thread(target=acquire)
    thread.start()
    wait_until_asleep(pool)
    yield came
    thread.join()


def wait_until_asleep(pool: Pool) -> None:
    """Until the member of a pool has set its bit for its largest class."""
    mask, me = pool._mapping.view().class_states["waiting"][-1], pool._mapping.me
    while not int(mask[me // 64]) >> me % 64 & 1:
        pass


@pytest.fixture
def sound_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks again unless rung: a wake-up that is lost is waited for, for ever."""
    monkeypatch.setattr("shmpool._waiting.SLICE", 1e6)


@pytest.mark.usefixtures("sound_sleep")
def test_a_waiter_for_a_large_slot_gets_a_large_one(make_classes: MakePool) -> None:
    """Small ones released meanwhile do not end its wait, nor cost it the wake-up."""
    pool = make_classes((SMALL, 1), (LARGE, 1))
    small, large = pool.acquire(SMALL), pool.acquire(LARGE)
    with waiting(pool, LARGE) as came:
        small.release()
        for _ in range(100):
            pool.acquire(SMALL).release()
        assert not came
        large.release()
    assert came == [LARGE]


@pytest.mark.usefixtures("sound_sleep")
@pytest.mark.parametrize("released", [SMALL, LARGE, HUGE])
def test_a_waiter_for_a_small_slot_takes_whatever_is_released(
    make_classes: MakePool, released: int
) -> None:
    """Its bit is set in every class that would do."""
    pool = make_classes((SMALL, 1), (LARGE, 1), (HUGE, 1))
    leases = {size: pool.acquire(size) for size in (SMALL, LARGE, HUGE)}
    with waiting(pool, SMALL) as came:
        leases[released].release()
    assert came == [released]


@pytest.mark.usefixtures("sound_sleep")
@pytest.mark.parametrize("order", [(SMALL, LARGE), (LARGE, SMALL)], ids=str)
@pytest.mark.parametrize("first", ["small", "large"])
def test_two_waiters_and_two_releases_wake_both(
    make_classes: MakePool, order: tuple[int, int], first: str
) -> None:
    """The one for a small slot may be rung twice, and take but one: it passes the other on."""
    pool = make_classes((SMALL, 1), (LARGE, 1), members=3)
    with Pool.attach(pool.name) as one, Pool.attach(pool.name) as other:
        for _ in range(20):
            leases = {size: pool.acquire(size) for size in (SMALL, LARGE)}
            by_size = (one, other) if first == "small" else (other, one)
            with waiting(by_size[0], SMALL) as small, waiting(by_size[1], LARGE) as large:
                for size in order:
                    leases[size].release()
            assert large == [LARGE]
            assert small in ([SMALL], [LARGE])
    assert pool.audit()["free"] == 2


@pytest.mark.usefixtures("sound_sleep")
@pytest.mark.parametrize("nbytes", [SMALL, LARGE])
def test_growing_wakes_a_waiter(make_classes: MakePool, nbytes: int) -> None:
    """`grow` rings whoever waits for that class, or for a smaller one."""
    pool = make_classes((SMALL, 1), (LARGE, 1, 2))
    leases = [pool.acquire(size) for size in (SMALL, LARGE)]
    view = pool._mapping.view()
    view.class_states["uncommitted"][1] = 0  # so that nobody who waits grows it by himself
    with waiting(pool, nbytes) as came:
        view.class_states["uncommitted"][1] = 1
        assert pool.grow(1, LARGE) == 1
    assert came == [LARGE]
    assert len(leases) == 2


@pytest.mark.usefixtures("sound_sleep")
def test_a_waiter_is_woken_by_whatever_ends_a_right(make_classes: MakePool) -> None:
    """Release, collection, the last view, a borrow's end, a moved writer's small slot."""
    pool = make_classes((SMALL, 1), (LARGE, 1))
    ends: list[Callable[[list[Any]], object]] = [
        lambda held: held.pop().release(),
        lambda held: held.pop(),
        lambda held: held.append(held.pop().array((1,), "u1")) or held.pop(),
        lambda held: held.append(pool.borrow(held[0].share())) or held.pop(0).release()
        or held.pop().release(),
    ]  # fmt: skip
    for end in ends:
        held: list[Any] = [pool.acquire(LARGE)]
        with waiting(pool, LARGE) as came:
            end(held)
        assert came == [LARGE]
    held = [pool.acquire(SMALL)]
    with pool.acquire(LARGE) as large:
        with waiting(pool, SMALL) as came:
            large.release()
            held[0].writer(timeout=None).write(bytes(SMALL + 1))
        assert came in ([SMALL], [LARGE])
    assert held.pop().nbytes == LARGE


def test_a_wait_in_vain_leaves_no_bit_in_any_class(two: Pool) -> None:
    """After a time-out nobody rings for us any more."""
    leases = [two.acquire() for _ in range(3)]
    with pytest.raises(shmpool.PoolExhaustedError, match=r"0\.001 s"):
        two.acquire(1, timeout=0.001)
    assert not two._mapping.view().class_states["waiting"].any()
    leases.clear()
    assert two.statistics().members[0].rung == 0


def acquire_and_tell(pool: Pool, nbytes: int, gate: Any, answer: Any) -> None:
    gate.set()
    with pool.acquire(nbytes) as lease:
        answer.send(lease.nbytes)


def test_waiters_in_other_processes_get_what_they_wait_for(make_classes: MakePool) -> None:
    """One for each class, by every release its own."""
    context = mp.get_context("fork")
    pool = make_classes((SMALL, 1), (LARGE, 1))
    leases = {size: pool.acquire(size) for size in (SMALL, LARGE)}
    mine, theirs = context.Pipe(duplex=False)
    children = []
    for nbytes in (LARGE, SMALL + 1):
        gate = context.Event()
        child = context.Process(target=acquire_and_tell, args=(pool, nbytes, gate, theirs))
        child.start()
        gate.wait()
        children.append(child)
    leases[SMALL].release()
    assert not mine.poll(0)
    leases[LARGE].release()
    assert [mine.recv(), mine.recv()] == [LARGE, LARGE]
    for child in children:
        child.join()
    mine.close(), theirs.close()
    assert pool.audit()["free"] == 2


# --- writers that move on -----------------------------------------------------------------


def three_sizes(make_classes: MakePool, **more: Any) -> Pool:
    """One slot of each of three sizes, with headers."""
    options = {"a": QueueOptions(), "b": QueueOptions()}
    header = [("number", "<i4"), ("name", "S4")]
    return make_classes((64, 1), (SMALL, 1), (LARGE, 1), header=header, queues=options, **more)


@pytest.fixture
def three(make_classes: MakePool) -> Pool:
    """One slot of each of three sizes, with headers."""
    return three_sizes(make_classes)


def test_a_writer_that_outgrows_its_slot_moves_on(three: Pool) -> None:
    """Lease and file go on in a larger slot, with all that was written, the header, and more."""
    lease = three.acquire()
    ticket = lease.ticket
    lease.header.assign((42, b"name"))
    data = bytes(number % 251 for number in range(SMALL + 100))
    with lease.writer() as file:
        for at in range(0, len(data), 100):
            assert file.write(data[at : at + 100]) == len(data[at : at + 100])
        assert file.tell() == len(data)
    assert (lease.nbytes, lease.slot) == (LARGE, 2)
    assert lease.ticket != ticket
    assert lease.live
    assert (lease.header.number, lease.header.name) == (42, b"name")
    assert bytes(lease.array()) == data
    assert free(three) == [1, 1, 0]
    member = three.statistics().members[0]
    assert (member.moved, member.overflows) == (2, 2)
    assert (member.acquired, member.released, member.held) == (3, 2, 1)
    three.audit()
    three.queue("a").put(lease)
    with three.queue("a").get() as got:
        assert bytes(got.array()) == data
        assert got.header.number == 42


def test_a_single_write_may_skip_a_class(three: Pool) -> None:
    """It moves to the smallest that fits, once."""
    lease = three.acquire()
    with lease.writer() as file:
        file.write(b"x" * LARGE)
    assert lease.slot == 2
    assert bytes(lease.array()) == b"x" * LARGE
    assert three.statistics().members[0].moved == 1
    lease.release()
    assert free(three) == [1, 1, 1]


def test_the_moved_lease_is_one_lease(three: Pool) -> None:
    """Its old ticket is over, its new one good; it is released once."""
    lease = three.acquire()
    old = lease.ticket
    lease.writer().write(b"x" * 100)
    with pytest.raises(shmpool.StaleTicketError):
        three.claim(Ticket.of(old.slot, old.generation))
    word = three._mapping.view().word(old.slot)
    assert word.generation == old.generation + 1
    ticket = lease.share()
    three.borrow(ticket).release()
    lease.release()
    with pytest.raises(shmpool.AlreadyEndedError):
        lease.release()
    assert free(three) == [1, 1, 1]


@pytest.mark.parametrize("room", [64, SMALL])
def test_the_last_byte_that_fits_moves_nothing(three: Pool, room: int) -> None:
    """A full slot is no overflow; one byte more is."""
    lease = three.acquire(room)
    file = lease.writer()
    file.write(b"x" * room)
    assert lease.nbytes == room
    assert three.statistics().members[0].overflows == 0
    file.write(b"")
    assert lease.nbytes == room
    file.write(b"y")
    assert lease.nbytes > room
    file.close()
    assert bytes(lease.array()) == b"x" * room + b"y"


def test_seeks_and_truncates_move_on_like_writes(three: Pool) -> None:
    """A gap is zeros in the larger slot, whatever was there; positions stay."""
    with three.acquire(LARGE) as dirty, three.acquire(SMALL) as other:
        for lease in (dirty, other):
            memoryview(lease)[:] = b"\xff" * lease.nbytes
    lease = three.acquire()
    with lease.writer() as file:
        file.write(b"head")
        file.seek(200)
        assert lease.nbytes == 64
        file.write(b"tail")
        assert lease.nbytes == SMALL
        assert file.tell() == 204
        file.seek(2)
        file.write(b"AD")
        file.truncate(SMALL + 4)
        assert lease.nbytes == LARGE
        assert file.tell() == 4
    expected = b"heAD" + bytes(196) + b"tail"
    assert bytes(lease.array()) == expected.ljust(SMALL + 4, b"\0")


def test_a_moved_writer_reads_back_what_was_written(three: Pool) -> None:
    """Reading, and libraries that patch their headers, see one file."""
    lease = three.acquire()
    with lease.writer() as file:
        np.savez(file, a=np.arange(500), b=np.zeros(10))
        file.seek(0)
        assert file.read(2) == b"PK"
    with lease.reader() as file:
        loaded = np.load(io.BytesIO(file.read()))
        assert loaded["a"].tolist() == list(range(500))
        loaded.close()


@pytest.mark.parametrize("viewing", ["array", "memoryview", "getbuffer", "own bytes"])
def test_views_alive_refuse_a_move_and_nothing_is_lost(
    make_classes: MakePool, viewing: str
) -> None:
    """views="raise": ViewsAliveError; lease, file and bytes as before, the larger slot free."""
    three = three_sizes(make_classes, views="raise")
    lease = three.acquire()
    file = lease.writer()
    file.write(b"abc")
    view: Any = {
        "array": lambda: lease.array((3,), "u1"),
        "memoryview": lambda: memoryview(lease),
        "getbuffer": file.getbuffer,
        "own bytes": lambda: None,
    }[viewing]()
    data = file.getbuffer() if viewing == "own bytes" else b"x" * 100
    file.seek(62 if viewing == "own bytes" else 3)
    position, ticket = file.tell(), lease.ticket
    with pytest.raises(shmpool.ViewsAliveError, match="move"):
        file.write(data)
    assert (lease.ticket, file.tell(), lease.live) == (ticket, position, True)
    assert bytes(memoryview(lease)[:3]) == b"abc"
    assert free(three) == [0, 1, 1]
    assert three.statistics().members[0].moved == 0
    del view, data
    file.seek(3)
    file.write(b"x" * 100)
    file.close()
    assert bytes(lease.array()) == b"abc" + b"x" * 100


def test_beyond_the_largest_class_a_write_overflows(three: Pool) -> None:
    """SlotOverflowError says so, writes nothing, and moves nothing."""
    lease = three.acquire()
    file = lease.writer(timeout=None)
    file.write(b"abc")
    for grow in (lambda: file.write(bytes(LARGE)), lambda: file.truncate(LARGE + 3)):
        with pytest.raises(shmpool.SlotOverflowError, match="slot_size=65539") as caught:
            grow()
        assert (caught.value.needed, caught.value.slot_size) == (LARGE + 3, 64)
        assert file.tell() == 3
    assert lease.nbytes == 64
    assert bytes(file.getbuffer()) == b"abc"
    member = three.statistics().members[0]
    assert (member.overflows, member.moved) == (2, 0)
    lease.release()


def test_without_a_larger_slot_free_a_write_overflows(three: Pool) -> None:
    """SlotOverflowError names the wanting slots and their holders; later it goes on."""
    lease, others = three.acquire(), [three.acquire(SMALL), three.acquire(LARGE)]
    file = lease.writer()
    file.write(b"abc")
    with pytest.raises(shmpool.SlotOverflowError) as caught:
        file.write(b"x" * 100)
    text = str(caught.value)
    assert (caught.value.needed, caught.value.slot_size) == (103, 64)
    for part in ("64 bytes", "at least 103", "4.0 KiB or more", "timeout", str(os.getpid())):
        assert part in text
    assert (lease.nbytes, file.tell(), bytes(file.getbuffer())) == (64, 3, b"abc")
    with pytest.raises(shmpool.SlotOverflowError, match=r"0\.001 s"):
        lease.writer(timeout=0.001).write(b"x" * 100)
    others.pop(0).release()
    file.write(b"x" * 100)
    assert lease.nbytes == SMALL
    member = three.statistics().members[0]
    assert (member.overflows, member.moved) == (3, 1)
    lease.release()
    others.pop().release()


@pytest.mark.usefixtures("sound_sleep")
def test_a_writer_with_a_time_out_waits_for_a_larger_slot(three: Pool) -> None:
    """None for ever: it goes on when somebody releases one that would do."""
    lease, others = three.acquire(), [three.acquire(SMALL), three.acquire(LARGE)]

    def write() -> None:
        with lease.writer(timeout=None) as file:
            file.write(b"abc")
            file.write(b"x" * SMALL)

    thread = threading.Thread(target=write)
    thread.start()
    wait_until_asleep(three)
    others.pop(0).release()  # too small, by three bytes
    others.pop().release()
    thread.join()
    assert bytes(lease.array()) == b"abc" + b"x" * SMALL
    assert free(three) == [1, 1, 0]


def test_a_closed_pool_lets_no_writer_move(make_classes: MakePool) -> None:
    """PoolClosedError; the lease stays good with what was written."""
    pool = make_classes((64, 1), (SMALL, 1))
    lease = pool.acquire()
    file = lease.writer()
    file.write(b"abc")
    with pytest.raises(shmpool.LeasesAliveError):
        pool.close()
    with pytest.raises(shmpool.PoolClosedError):
        file.write(b"x" * 100)
    assert bytes(file.getbuffer()) == b"abc"
    lease.release()


def test_a_moved_lease_stays_in_the_reckoning_of_its_queue(
    make_classes: MakePool,
) -> None:
    """Got after a death, moved: attempts and reason go along; put anew they are forgotten."""
    pool = make_classes((64, 2), (SMALL, 1), queues={"a": QueueOptions(), "b": QueueOptions()})
    pool.queue("a").put(pool.acquire())
    pid = kill_a_taker(pool)
    lease = pool.queue("a").get()
    assert lease.attempts == 1
    with lease.writer() as file:
        file.write(b"x" * 100)
    assert lease.nbytes == SMALL
    assert lease.attempts == 1
    assert f"pid {pid}" in (lease.reason or "")
    word = pool._mapping.view().word(lease.slot)
    assert word.queue == 1
    pool.queue("b").put(lease)
    with pool.queue("b").get() as got:
        assert (got.attempts, got.reason) == (0, None)
    pool.audit()


def kill_a_taker(pool: Pool) -> int | None:
    """A process takes a ticket from queue "a" and is killed."""
    context = mp.get_context("fork")
    gate = context.Event()
    child = context.Process(target=crasher.take, args=(pool.queue("a"), gate))
    child.start()
    gate.wait()
    child.kill()
    child.join()
    return child.pid


def move_and_hold(pool: Pool, gate: Any) -> None:
    lease = pool.queue("a").get()
    with lease.writer() as file:
        file.write(b"x" * 100)
    gate.set()
    signal.pause()


def test_a_moved_lease_is_delivered_again_when_its_holder_dies(make_classes: MakePool) -> None:
    """With the bytes written so far, and one attempt more; the small slot is free."""
    context = mp.get_context("fork")
    pool = make_classes((64, 1), (SMALL, 1))
    pool.queue("a").put(pool.acquire())
    gate = context.Event()
    child = context.Process(target=move_and_hold, args=(pool, gate))
    child.start()
    gate.wait()
    child.kill()
    child.join()
    with pool.queue("a").get() as lease:
        assert lease.nbytes == SMALL
        assert lease.attempts == 1
        assert bytes(lease.array()) == b"x" * 100
        assert free(pool) == [1, 0]
    assert counted(pool, "requeued") == 1
    assert pool.audit()["free"] == 2


def test_ctrl_c_in_the_middle_of_a_move_is_seen(three: Pool) -> None:
    """KeyboardInterrupt while the small slot's waiter is rung: it comes out, no byte is lost."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    lease = three.acquire()
    file = lease.writer()
    file.write(b"abc")
    nobody = 9
    three._mapping.bells.extend([None] * nobody + [interrupted])
    three._mapping.view().class_states["waiting"][0][0] |= 1 << nobody
    with pytest.raises(KeyboardInterrupt):
        file.write(b"x" * 100)
    assert lease.live
    assert bytes(file.getbuffer()) == b"abc"
    file.write(b"x" * 100)
    file.close()
    assert bytes(lease.array()) == b"abc" + b"x" * 100
    lease.release()
    assert free(three) == [1, 1, 1]


@pytest.mark.parametrize("other", ["text", None, 5], ids=str)
def test_only_a_lease_of_the_pool_takes_over(three: Pool, make_pool: MakePool, other: Any) -> None:
    """The private door of the writer is not open to nonsense: nothing changes hands."""
    lease = three.acquire()
    with pytest.raises(TypeError):
        lease._move(other)
    foreign = make_pool().acquire()
    with pytest.raises(shmpool.ForeignLeaseError):
        lease._move(foreign)
    ended = three.acquire(SMALL)
    ended.release()
    with pytest.raises(shmpool.AlreadyEndedError):
        lease._move(ended)
    assert (lease.live, foreign.live, lease.nbytes) == (True, True, 64)
    foreign.release()
