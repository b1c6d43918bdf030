"""A /dev/shm that is too small: growing is an error in time, no SIGBUS, and memory comes back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a /dev/shm of one's own takes root")

PRELUDE = """
import faulthandler, os, pathlib, threading
faulthandler.dump_traceback_later(100, exit=True)  # no orphan of a test that hangs
import numpy as np
import shmpool
from shmpool import Pool

MIB = 1 << 20
shm = pathlib.Path("/dev/shm")

def free():
    space = os.statvfs(shm)
    return space.f_bavail * space.f_frsize

def blocks(pool, number=0):
    return (shm / f"{pool.name}.slab{number}").stat().st_blocks * 512

def fill(leave=0):
    with open(shm / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free() - leave)

def unfill():
    (shm / "filler").unlink()

def raised(kind, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")

def states(pool):
    return {state: count for state, count in pool.audit().items() if count}

def all_there_are(pool, nbytes=None):
    leases = []
    while True:
        try:
            leases.append(pool.acquire(nbytes, timeout=0))
        except shmpool.PoolExhaustedError as error:
            return leases, error
"""


def in_small_shm(size: str, program: str) -> None:
    """Run a program with a /dev/shm of so many bytes; it must succeed, in silence, and tidy up."""
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    script = f'{mount}; $PY -c "$PROGRAM"; rm -f /dev/shm/filler; ls /dev/shm'
    environment = os.environ | {"PY": sys.executable, "PROGRAM": PRELUDE + program}
    command = ["unshare", "-m", "sh", "-ec", script]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_growing_ends_with_an_error_and_not_with_a_signal() -> None:
    """acquire(timeout=0) names the want of memory; every byte of every lease can be written."""
    in_small_shm(
        "8m",
        """
with Pool.create(slots=1, slot_size=MIB, max_slots=64, members=4) as pool:
    leases, error = all_there_are(pool)
    assert 5 <= len(leases) <= 7
    assert "1.0 MiB for one more are not free in /dev/shm" in str(error), error
    assert str(os.getpid()) in str(error)
    assert free() < MIB
    for number, lease in enumerate(leases):
        lease.array(MIB, "u1")[:] = number
    for number, lease in enumerate(leases):
        assert (lease.array() == number).all()
    assert states(pool) == {"leased": len(leases), "uncommitted": 64 - len(leases)}
    assert blocks(pool) == len(leases) * MIB  # what a failed attempt had fetched went back
    assert pool.statistics().members[0].exhausted == 1
    leases.pop().release()
    again = pool.acquire_nowait()
    assert "not free" in str(raised(shmpool.PoolExhaustedError, pool.acquire, timeout=0.001))
    again.release()
    for lease in leases:
        lease.release()
    del lease
""",
    )


def test_a_full_pool_with_memory_to_spare_does_not_speak_of_memory() -> None:
    """The words are for those who want it: not after growing has worked again."""
    in_small_shm(
        "8m",
        """
with Pool.create(slots=1, slot_size=MIB, max_slots=3, members=4) as pool:
    fill(MIB // 2)
    lease = pool.acquire()
    assert "not free in /dev/shm" in str(raised(shmpool.PoolExhaustedError, pool.acquire_nowait))
    unfill()
    leases, error = all_there_are(pool)
    assert len(leases) == 2
    assert "/dev/shm" not in str(error), error
    for held in (lease, *leases):
        held.release()
""",
    )


def test_a_pool_with_nothing_to_wait_for_raises_at_once() -> None:
    """No slot has memory and none can have it: OutOfSharedMemoryError, not an endless wait."""
    in_small_shm(
        "4m",
        """
with Pool.create(slots=0, slot_size=16 * MIB, max_slots=4, members=4) as pool:
    for call in (pool.acquire, pool.acquire_nowait, lambda: pool.acquire(timeout=0),
                 lambda: pool.acquire(5, timeout=3600)):
        error = raised(shmpool.OutOfSharedMemoryError, call)
        assert error.needed == 16 * MIB
        assert error.free == free()
        assert error.total == 4 * MIB
        for part in ("16.0 MiB", "4.0 MiB in /dev/shm are free", "one more slot", "--shm-size"):
            assert part in str(error), error
    assert states(pool) == {"uncommitted": 4}
    assert blocks(pool) == 0
""",
    )


def test_the_smaller_slots_are_nothing_to_wait_for() -> None:
    """A class that has memory is no hope for who wants a larger one; a free larger one is taken."""
    in_small_shm(
        "8m",
        """
with Pool.create(classes=[(4096, 4), (16 * MIB, 0, 2)], members=4) as pool:
    raised(shmpool.OutOfSharedMemoryError, pool.acquire, 4097)
    pool.acquire().release()
with Pool.create(classes=[(MIB, 1, 64), (2 * MIB, 1)], members=4) as pool:
    leases, error = all_there_are(pool)
    sizes = [lease.nbytes for lease in leases]
    assert sizes == [MIB] * (len(sizes) - 1) + [2 * MIB], sizes
    assert len(sizes) >= 4
    for number, lease in enumerate(leases):
        lease.array(lease.nbytes, "u1")[:] = number
    leases.clear()
    del lease
""",
    )


def test_grow_says_how_far_it_came() -> None:
    """OutOfSharedMemoryError with `grown`: those slots are there, and free."""
    in_small_shm(
        "8m",
        """
with Pool.create(slots=1, slot_size=MIB, max_slots=64, members=4) as pool:
    error = raised(shmpool.OutOfSharedMemoryError, pool.grow, 63)
    assert error.grown >= 4
    assert states(pool) == {"free": error.grown + 1, "uncommitted": 63 - error.grown}
    assert blocks(pool) == (error.grown + 1) * MIB
    assert raised(shmpool.OutOfSharedMemoryError, pool.grow).grown == 0
    leases, _ = all_there_are(pool)
    assert len(leases) == error.grown + 1
    for lease in leases:
        lease.array(MIB, "u1")[:] = 1
        lease.release()
""",
    )


def test_trim_makes_room_for_another_pool() -> None:
    """And the other way round: each has what the other gives back."""
    in_small_shm(
        "8m",
        """
with Pool.create(slots=5, slot_size=MIB, members=4) as pool:
    make = dict(slots=5, slot_size=MIB, members=4)
    raised(shmpool.OutOfSharedMemoryError, lambda: Pool.create(**make))
    before = free()
    assert pool.trim() == 5 * MIB
    assert free() == before + 5 * MIB
    assert blocks(pool) == 0
    with Pool.create(**make) as other:
        kept = [other.acquire() for _ in range(5)]
        for lease in kept:
            lease.array(MIB, "u1")[:] = 1
        leases = []
        while True:
            try:
                leases.append(pool.acquire(timeout=0))
            except (shmpool.OutOfSharedMemoryError, shmpool.PoolExhaustedError):
                break
        assert len(leases) <= 2
        assert all((lease.array() == 1).all() for lease in kept)
        for lease in (*kept, *leases):
            lease.release()
    del kept, lease, other  # a lease keeps its pool's memory mapped, even when it is over
    leases = [pool.acquire() for _ in range(5)]
    for lease in leases:
        lease.array(MIB, "u1")[:] = 2
        lease.release()
""",
    )


def test_a_trimmed_pool_in_a_full_dev_shm_raises() -> None:
    """What was given back can be gone: acquire says so, and works again when there is room."""
    in_small_shm(
        "8m",
        """
with Pool.create(slots=3, slot_size=MIB, members=4) as pool:
    kept = pool.acquire()
    kept.array(MIB, "u1")[:] = 7
    assert pool.trim() == 2 * MIB
    fill()
    assert "not free" in str(raised(shmpool.PoolExhaustedError, pool.acquire_nowait))
    assert (kept.array() == 7).all()
    kept.release()
    pool.acquire().release()
    pool.trim()
    unfill()
    fill()
    for _ in range(3):
        assert raised(shmpool.OutOfSharedMemoryError, pool.acquire).needed == MIB
    assert states(pool) == {"uncommitted": 3}
    unfill()
    with pool.acquire() as lease:
        lease.array(MIB, "u1")[:] = 1
    assert pool.grow(3) == 2
""",
    )


def test_who_waits_gets_what_is_released_or_what_memory_comes() -> None:
    """While somebody holds a slot an acquire waits: for it, or for memory from outside."""
    in_small_shm(
        "8m",
        """
with Pool.create(slots=1, slot_size=MIB, max_slots=8, members=4) as pool:
    for way in ("release", "memory"):
        fill(MIB // 2)
        held = pool.acquire()
        came = []
        def wait():
            with pool.acquire() as lease:
                lease.array(MIB, "u1")[:] = 1
                came.append(lease.slot)
        thread = threading.Thread(target=wait)
        thread.start()
        while not pool._mapping.view().class_states["waiting"].any():
            pass
        assert not came
        if way == "release":
            held.release()
        else:
            unfill()
        thread.join()
        assert came == [0 if way == "release" else 1]
        if way == "release":
            unfill()
        else:
            held.release()
""",
    )


def test_a_waiter_is_told_when_there_is_nothing_left_to_wait_for() -> None:
    """The last slot with memory is trimmed under it, and /dev/shm is full: no endless wait."""
    in_small_shm(
        "8m",
        """
with Pool.create(slots=1, slot_size=MIB, max_slots=2, members=4) as pool:
    fill(MIB // 2)
    held = pool.acquire()
    told = []
    thread = threading.Thread(
        target=lambda: told.append(raised(shmpool.OutOfSharedMemoryError, pool.acquire)))
    thread.start()
    while not pool._mapping.view().class_states["waiting"].any():
        pass
    # Trimmed and the memory gone in one go, as far as the waiter can see.
    view = pool._mapping.view()
    word = int(view.slots["word"][held.slot])
    view.class_states["uncommitted"][0] += 1
    view.slots["word"][held.slot] = (word >> 16) + 1 << 16 | 5
    thread.join()
    assert told[0].needed == MIB
    view.slots["word"][held.slot] = word
    view.class_states["uncommitted"][0] -= 1
    held.release()
""",
    )


def test_a_writer_without_memory_to_move_to_overflows() -> None:
    """SlotOverflowError tells of the memory, and the lease is as before."""
    in_small_shm(
        "4m",
        """
with Pool.create(classes=[(64, 1), (16 * MIB, 0, 2)], members=4) as pool:
    lease = pool.acquire()
    for timeout in (0, None):
        with lease.writer(timeout=timeout) as file:
            file.write(b"abc")
            error = raised(shmpool.SlotOverflowError, file.write, bytes(100))
            assert "16.0 MiB of shared memory" in str(error), error
            assert (error.needed, error.slot_size) == (103, 64)
            assert isinstance(error.__cause__, shmpool.OutOfSharedMemoryError)
            assert file.tell() == 3
        assert bytes(lease.array()) == b"abc"
        assert lease.nbytes == 64
    lease.release()
    assert states(pool) == {"free": 1, "uncommitted": 2}
""",
    )


def test_a_peek_at_memory_that_is_gone_is_no_signal() -> None:
    """Released, trimmed and /dev/shm filled in the middle of the copy: StaleTicketError."""
    in_small_shm(
        "8m",
        """
import multiprocessing as mp
SIZE = 5 * MIB

def recycle(pool, offered, begun):
    while True:
        lease = pool.acquire()
        ticket = shmpool.Ticket.of(lease.slot, lease.generation + 1)
        lease.array(SIZE, "u1")[:] = 7
        lease.detach()
        offered[0] = int(ticket)
        while begun[0] != int(ticket):
            pass
        pool.claim(ticket).release()
        pool.trim()
        fill()
        unfill()

with Pool.create(slots=1, slot_size=SIZE, members=4) as pool:
    context = mp.get_context("fork")
    offered, begun = (context.Array("Q", 1, lock=False) for _ in range(2))
    child = context.Process(target=recycle, args=(pool, offered, begun))
    child.start()
    into = np.zeros(SIZE, "u1")
    overtaken = rounds = 0
    while overtaken < 5 or rounds < 20:
        ticket = offered[0]
        if ticket == begun[0]:
            continue
        state, _ = pool._mapping.peek_description(ticket)
        into[:] = 1
        begun[0] = ticket
        rounds += 1
        try:
            pool._mapping.peek(ticket, state, into.data)
        except shmpool.StaleTicketError:
            overtaken += int(into[0] != 1)
        else:
            assert (into == 7).all()
    child.kill()
    child.join()
""",
    )


def test_a_peek_fetches_no_memory() -> None:
    """Not even when the slot is trimmed between its two looks."""
    in_small_shm(
        "8m",
        """
from shmpool import _peek
with Pool.create(slots=1, slot_size=MIB, members=4) as pool:
    lease = pool.acquire()
    lease.array(MIB, "u1")[:] = 7
    ticket = lease.detach()
    empty = np.empty
    def meanwhile(*arguments):
        pool.claim(ticket).release()
        assert pool.trim() == MIB
        fill()
        return empty(*arguments)
    _peek.np.empty = meanwhile
    raised(shmpool.StaleTicketError, pool.peek, ticket)
    _peek.np.empty = empty
    assert blocks(pool) == 0
""",
    )


def test_small_slots_grow_as_long_as_there_are_pages() -> None:
    """Slots that share pages: the error comes at a page's end, and all before can be written."""
    in_small_shm(
        "1m",
        """
with Pool.create(slots=1, slot_size=1000, max_slots=100, members=4, views="raise") as pool:
    fill(2 * 4096)
    leases, error = all_there_are(pool)
    assert len(leases) == 12, len(leases)
    assert "not free in /dev/shm" in str(error)
    for number, lease in enumerate(leases):
        memoryview(lease)[:] = bytes([number]) * 1000
    for number, lease in enumerate(leases):
        assert bytes(lease) == bytes([number]) * 1000
    leases.clear()
    del lease
""",
    )


def test_members_that_grow_at_once_share_what_there_is() -> None:
    """Three processes take all they can get: each byte is whose it is, and none too many."""
    in_small_shm(
        "16m",
        """
import multiprocessing as mp
context = mp.get_context("fork")

def take(pool, number, answer, gate):
    leases = []
    gate.wait()
    while True:
        try:
            leases.append(pool.acquire(timeout=0))
        except (shmpool.PoolExhaustedError, shmpool.OutOfSharedMemoryError):
            break
        leases[-1].array(MIB, "u1")[:] = number
    answer.send(len(leases))
    gate.wait()
    answer.send(all((lease.array() == number).all() for lease in leases))
    for lease in leases:
        lease.release()

with Pool.create(slots=0, slot_size=MIB, max_slots=64, members=8) as pool:
    gate = context.Barrier(3)
    pipes = [context.Pipe(duplex=False) for _ in range(3)]
    children = [
        context.Process(target=take, args=(pool, number, pipes[number][1], gate))
        for number in range(3)
    ]
    for child in children:
        child.start()
    counts = [mine.recv() for mine, _ in pipes]
    assert all(mine.recv() for mine, _ in pipes)
    for child in children:
        child.join()
    total = sum(counts)
    # Attempts that fail at one moment may each have had a part of what one of them needed.
    assert 10 <= total <= 15, counts
    assert states(pool) == {"free": total, "uncommitted": 64 - total}
    assert blocks(pool) == total * MIB
    assert pool.trim() == total * MIB
    assert blocks(pool) == 0
""",
    )
