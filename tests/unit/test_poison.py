"""Poison: writes that go past every right are found: into free slots, and over the end of one."""

from __future__ import annotations

import ctypes
import gc
import mmap
import multiprocessing as mp
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmpool
from shmpool import Lease, Pool

MakePool = Callable[..., Pool]
SIZES = [1, 64, 4095, 4096]
FILL, CANARY = 0xDD, 0xFD
END: dict[str, Callable[[Pool, Lease], object]] = {
    "release": lambda _, lease: lease.release(),
    "put": lambda pool, lease: pool.queue("a").put(lease),
    "detach": lambda _, lease: lease.detach(),
    "share": lambda _, lease: lease.share(),
}


@pytest.fixture
def make(make_pool: MakePool) -> MakePool:
    """Pools with poison, whose views are refused rather than fenced."""
    return lambda **options: make_pool(**{"poison": True, "views": "raise", **options})


def write(pool: Pool, slot: int, offset: int, data: bytes) -> None:
    """Write as whoever has a pointer to the slab does: past every right."""
    spec = pool._spec
    number = sum(slot >= first for first in spec.firsts) - 1
    at = (slot - spec.firsts[number]) * spec.classes[number].stride + offset
    path = Path("/dev/shm") / f"{pool.name}.slab{number}"  # noqa: S108 - shared memory
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[at : at + len(data)] = data


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("at", ["first", "last"])
def test_a_write_to_a_free_slot_is_told_by_the_next_acquire(
    make: MakePool, size: int, at: str
) -> None:
    """Slot, offset, how many bytes, what stands there; then the slot is whole and free again."""
    pool = make(slot_size=size)
    pool.acquire().release()
    offset = 0 if at == "first" else size - 1
    write(pool, 0, offset, b"\x07")
    with pytest.raises(shmpool.WriteAfterReleaseError) as caught:
        pool.acquire()
    error = caught.value
    assert (error.slot, error.offset, error.damaged, error.generation) == (0, offset, 1, 2)
    assert error.found == (b"\x07" + bytes([FILL]) * 15)[: min(16, size - offset)]
    for part in ("slot 0 of pool", "while it was free", f"offset {offset}: 07", "pointer"):
        assert part in str(error)
    assert pool.audit()["free"] == pool.slots
    with pool.acquire() as lease:
        assert lease.slot == 0
        assert bytes(lease) == bytes([FILL]) * size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", END.values(), ids=END)
def test_a_write_over_the_end_is_told_when_the_lease_ends(
    make: MakePool, size: int, end: Callable[[Pool, Lease], object]
) -> None:
    """It goes on, the bytes behind are whole again, and the second time it ends."""
    pool = make(slot_size=size)
    lease = pool.acquire()
    write(pool, 0, size + 2, b"\x01\x02")
    with pytest.raises(shmpool.SlotOverrunError) as caught:
        end(pool, lease)
    error = caught.value
    assert (error.slot, error.behind, error.offset, error.damaged) == (0, 0, 2, 2)
    assert error.found[:3] == bytes([1, 2, CANARY])
    assert f"the first at offset {size + 2}" in str(error)
    assert lease.live
    end(pool, lease)
    if lease.live:
        lease.release()


def test_the_last_byte_of_the_room_behind_is_watched(make: MakePool) -> None:
    """Everything from the end of a slot to its neighbour."""
    pool = make(slot_size=4096)
    stride = pool.statistics().stride
    lease = pool.acquire()
    write(pool, 0, stride - 1, b"\x00")
    with pytest.raises(shmpool.SlotOverrunError):
        lease.release()
    lease.release()


def test_a_write_in_front_of_a_slot_is_told_by_its_lease(make: MakePool) -> None:
    """Where the canary is that of the slot before: both are named."""
    pool = make(slot_size=64)
    first, second = pool.acquire(), pool.acquire()
    write(pool, 1, -1, b"\x00")
    with pytest.raises(shmpool.SlotOverrunError, match="from slot 0 over its end, or from slot 1"):
        second.release()
    second.release()
    first.release()


def test_a_failing_block_is_not_masked(make: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error on its way is the one to be seen; the overrun is unraisable, and mended."""
    pool = make(slot_size=64)
    unraised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraised.append)

    def fail() -> None:
        with pool.acquire():
            write(pool, 0, 64, b"\x00")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [thing.exc_type for thing in unraised] == [shmpool.SlotOverrunError]
    assert pool.audit()["free"] == pool.slots
    pool.acquire().release()


def test_what_is_collected_is_filled_too(make: MakePool) -> None:
    """A right ends by its last view: the slot is filled then, and not before."""
    pool = make(slot_size=64)
    lease = pool.acquire()
    array = lease.array(64, "u1")
    array[:] = 7
    lease.leave_to_views()
    assert (array == 7).all()
    del array
    gc.collect()
    write(pool, 0, 5, b"\x00")
    with pytest.raises(shmpool.WriteAfterReleaseError):
        pool.acquire()


def test_what_is_on_its_way_is_neither_filled_nor_checked(make: MakePool) -> None:
    """The bytes of a sent slot are its receiver's, and of a claimed one; then they are gone."""
    pool = make(slot_size=64)
    lease = pool.acquire()
    memoryview(lease)[:] = b"x" * 64
    pool.queue("a").put(lease)
    with pool.queue("a").get() as lease:
        assert bytes(lease) == b"x" * 64
        ticket = lease.detach()
    with pool.claim(ticket) as lease:
        assert bytes(lease) == b"x" * 64
    with pool.acquire() as lease:
        assert bytes(lease) == bytes([FILL]) * 64


def test_readers_of_a_shared_slot_keep_its_bytes(make: MakePool) -> None:
    """Its owner fills nothing that others read, and nobody looks at the slot afterwards."""
    pool = make(slot_size=64)
    lease = pool.acquire()
    memoryview(lease)[:] = b"x" * 64
    borrow = pool.borrow(lease.share())
    lease.release()
    assert bytes(borrow) == b"x" * 64
    borrow.release()
    with pool.acquire() as lease:
        assert lease.slot == 0
        assert bytes(lease) == b"x" * 64


def test_slots_that_were_never_used_are_not_checked(make: MakePool) -> None:
    """There is nothing in them but zeros."""
    pool = make(slot_size=64)
    write(pool, 0, 0, b"\x07")
    pool.acquire().release()


def test_memory_that_was_given_back_is_not_checked(make: MakePool) -> None:
    """Its pages are zeros when they come again, with canaries behind them."""
    pool = make(slot_size=4096, slots=2, max_slots=4)
    for lease in [pool.acquire() for _ in range(4)]:
        lease.release()
    assert pool.trim()
    leases = sorted((pool.acquire() for _ in range(4)), key=lambda lease: lease.slot)
    write(pool, 3, 4096, b"\x00")
    with pytest.raises(shmpool.SlotOverrunError):
        leases[3].release()
    for lease in leases:
        lease.release()
    assert pool.audit()["free"] == pool.slots


def test_slots_without_memory_have_no_canary(make: MakePool) -> None:
    """The neighbour of a slot that was trimmed, or never had memory, ends in peace."""
    pool = make(slot_size=4096, slots=1, max_slots=3)
    first, second = pool.acquire(), pool.acquire()
    first.release()
    pool.trim()
    second.release()
    assert pool.grow() == 1


@pytest.mark.parametrize("grown", [0, 3])
def test_every_class_is_watched(make: MakePool, grown: int) -> None:
    """Each with its own size, in the slots that were there and in those that came later."""
    classes = [(64, 3 - grown, 3), (1000, 3 - grown, 3), (8192, 3 - grown, 3)]
    pool = make(slots=None, slot_size=None, classes=classes)
    for number, (size, *_) in enumerate(classes):
        leases = [pool.acquire(size) for _ in range(3)]
        victim = leases[1]
        assert victim.slot == number * 3 + 1
        write(pool, victim.slot, size, b"\x00")
        with pytest.raises(shmpool.SlotOverrunError):
            victim.release()
        for lease in leases:
            lease.release()
        write(pool, victim.slot, size - 1, b"\x00")
        taken = pool.acquire(size)
        with pytest.raises(shmpool.WriteAfterReleaseError, match=f"slot {victim.slot} of"):
            pool.acquire(size)
        taken.release()


def _write_late(pool: Pool, ticket: int, asked: Any, answer: Any) -> None:
    lease = pool.claim(ticket)
    array = lease.array()
    address = array.ctypes.data
    del array
    lease.release()
    answer.send(None)
    asked.recv()
    ctypes.memset(address + 100, 0x41, 3)
    answer.send(None)
    pool.close()


def test_a_pointer_kept_by_another_process_is_found(make: MakePool) -> None:
    """It released the slot, and still writes: whoever acquires it is told."""
    pool = make(slot_size=4096, views="ignore")
    lease = pool.acquire()
    lease.array(4096, "u1")[:] = 1
    context = mp.get_context("spawn")
    asked, ask = context.Pipe(duplex=False)
    answer, answered = context.Pipe(duplex=False)
    arguments = (pool, lease.detach(), asked, answered)
    child = context.Process(target=_write_late, args=arguments)
    child.start()
    answer.recv()
    ask.send(None)
    answer.recv()
    with pytest.raises(shmpool.WriteAfterReleaseError) as caught:
        pool.acquire()
    assert (caught.value.offset, caught.value.damaged) == (100, 3)
    assert caught.value.found.startswith(b"AAA")
    child.join()
    assert child.exitcode == 0


def test_without_poison_nothing_is_filled(make_pool: MakePool) -> None:
    """Contents are as the last holder left them."""
    pool = make_pool(slot_size=64)
    with pool.acquire() as lease:
        memoryview(lease)[:] = b"x" * 64
    with pool.acquire() as lease:
        assert bytes(lease) == b"x" * 64


def _die_filling(pool: Pool, ready: Any) -> None:
    lease = pool.queue("a").get()
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(f"{pool.name}.slab0"):
            second_page = int(line.split("-")[0], 16) + 4096
            ctypes.CDLL(None).mprotect(ctypes.c_void_p(second_page), 4096, 0)
    ready.send(None)
    lease.release()


def test_a_delivery_is_none_any_more_before_it_is_filled(make: MakePool) -> None:
    """Killed in the middle of filling, its receiver leaves a free slot, not half a delivery."""
    pool = make(slots=1, slot_size=3 * 4096)
    pool.queue("a").put(pool.acquire())
    context = mp.get_context("spawn")
    ready, made = context.Pipe(duplex=False)
    child = context.Process(target=_die_filling, args=(pool, made))
    child.start()
    ready.recv()
    child.join()
    assert child.exitcode == -signal.SIGSEGV
    with pool.acquire() as lease:  # when the reaper has freed it
        assert bytes(memoryview(lease)[:1]) == bytes([FILL])
    pool.close()  # it has counted by then
    statistics = pool.statistics()
    assert (statistics.reaped_leases, statistics.requeued) == (1, 0)
