"""Processes are killed, stopped and left as zombies: no slot is lost and nobody waits for ever."""

from __future__ import annotations

import multiprocessing as mp
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from outside import counted, wait_for_bells

import shmpool
from shmpool import Pool, QueueOptions
from workers import crasher

MakePool = Callable[..., Pool]


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    """Each way to start a process."""
    return mp.get_context(request.param)


@pytest.fixture
def start(context: BaseContext) -> Iterator[Callable[..., BaseProcess]]:
    """Start a process at a gate and wait until it has passed it; killed after the test."""
    started: list[BaseProcess] = []

    def start(target: Callable[..., None], thing: Any) -> BaseProcess:
        gate = context.Event()
        process = context.Process(target=target, args=(thing, gate))
        process.start()
        started.append(process)
        gate.wait()
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def dead(pid: int) -> None:
    """Wait until the kernel says that a process has died."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:  # a forkserver has collected its child already
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.close(pidfd)


Start = Callable[..., BaseProcess]


def test_the_slot_of_a_killed_process_comes_back(make_pool: MakePool, start: Start) -> None:
    """Under the next generation, and to whoever waits for it."""
    pool = make_pool(slots=1)
    holder = start(crasher.hold, pool)
    holder.kill()
    with pool.acquire() as lease:
        assert lease.generation == 2
    assert counted(pool, "reaped_leases") == 1
    assert pool.audit()["free"] == 1


def test_an_unreaped_zombie_is_dead(make_pool: MakePool) -> None:
    """Nobody has waited for the child, we are its parent, and yet its slot comes back."""
    pool = make_pool(slots=1)
    gate = mp.get_context("fork").Event()
    child = mp.get_context("fork").Process(target=crasher.hold, args=(pool, gate))
    child.start()
    gate.wait()
    os.kill(child.pid or 0, signal.SIGKILL)
    pool.acquire().release()
    state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
    child.join()
    assert state == "Z"


def test_work_taken_from_a_queue_is_delivered_again(pool: Pool, start: Start) -> None:
    """At least once: bytes and description are still there, and the attempt is counted."""
    queue = pool.queue("a")
    lease = pool.acquire()
    lease.array((3,), "u1")[:] = 7
    queue.put(lease)
    taker = start(crasher.take, queue)
    taker.kill()
    with queue.get() as again:
        assert (again.array() == 7).all()
        assert again.attempts == 1
    assert counted(pool, "requeued") == 1
    pool.audit()


def test_on_death_free_gives_the_work_up(make_pool: MakePool, start: Start) -> None:
    """on_death="free": the slot is free, the queue stays empty."""
    pool = make_pool(slots=1, queues={"a": QueueOptions(on_death="free")})
    pool.queue("a").put(pool.acquire())
    start(crasher.take, pool.queue("a")).kill()
    pool.acquire().release()
    assert pool.queue("a").empty()


def test_a_poison_job_goes_to_the_dead_letter_queue(make_pool: MakePool, start: Start) -> None:
    """After max_attempts deaths it is delivered elsewhere, with the count."""
    options = {"a": QueueOptions(max_attempts=2, dead_letter="b"), "b": QueueOptions()}
    pool = make_pool(queues=options)
    pool.queue("a").put(pool.acquire())
    for _ in range(2):
        start(crasher.take, pool.queue("a")).kill()
    with pool.queue("b").get() as letter:
        assert letter.attempts == 2
    assert counted(pool, "dead_lettered") == 1
    assert pool.queue("a").empty()


def test_a_new_delivery_starts_to_count_anew(make_pool: MakePool, start: Start) -> None:
    """Attempts belong to a delivery: the next put forgets them."""
    pool = make_pool()
    pool.queue("a").put(pool.acquire())
    start(crasher.take, pool.queue("a")).kill()
    pool.queue("b").put(pool.queue("a").get())
    with pool.queue("b").get() as lease:
        assert lease.attempts == 0


def test_a_killed_waiter_takes_nothing_with_it(pool: Pool, start: Start) -> None:
    """A process killed in get() holds no lock and no token: the next one gets the ticket."""
    waiter = start(crasher.wait, pool.queue("a"))
    waiter.kill()
    dead(waiter.pid or 0) if waiter.is_alive() else None
    start(crasher.wait, pool.queue("a"))
    pool.queue("a").put(pool.acquire())
    slots = [pool.acquire() for _ in range(pool.slots)]
    assert len(slots) == pool.slots


def test_what_a_dead_process_had_sent_is_still_delivered(pool: Pool, start: Start) -> None:
    """A ticket in a queue outlives its sender."""
    sender = start(crasher.send, pool.queue("a"))
    sender.kill()
    sender.join()
    with pool.queue("a").get() as lease:
        assert lease.array().tolist() == [7, 7, 7]


def send_all(pool: Pool, count: int) -> None:
    for _ in range(count):
        pool.queue("a").put(pool.acquire())
    pool.close()


def test_no_ticket_of_a_sender_that_left_has_a_second_cell(make_pool: MakePool) -> None:
    """Two senders leave, a ticket waits at head all the while: qsize() counts each once."""
    pool = make_pool(slots=15, members=3)
    context, queue = mp.get_context("spawn"), pool.queue("a")
    for count in (15, 14):
        child = context.Process(target=send_all, args=(pool, count))
        child.start()
        child.join()
        while pool.statistics().reaped_members < (1 if count == 15 else 2):
            pass
        assert queue.qsize() == 15
        if count == 15:
            for _ in range(14):
                queue.get().release()
    for _ in range(15):
        queue.get().release()
    assert pool.audit()["free"] == 15


def detach_and_die(pool: Pool, answer: Any) -> None:
    answer.send([int(pool.acquire().detach()) for _ in range(pool.slots)])
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("grace", [0.0, 3600.0])
def test_detached_tickets_outlive_their_sender_for_a_while(
    grace: float, make_pool: MakePool, context: BaseContext
) -> None:
    """Claimed within orphan_grace they are good; later their slots are free."""
    pool = make_pool(slots=2, orphan_grace=grace)
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=detach_and_die, args=(pool, theirs))
    child.start()
    tickets = mine.recv()
    child.join()
    mine.close(), theirs.close()
    if grace:
        for ticket in tickets:
            pool.claim(ticket).release()
    pool.acquire().release()
    with pytest.raises(shmpool.StaleTicketError):
        pool.claim(tickets[0])


def test_a_stopped_member_stops_nobody(pool: Pool, start: Start) -> None:
    """SIGSTOP with a slot in hand: the others go on with the rest, and it keeps its own."""
    holder = start(crasher.hold, pool)
    os.kill(holder.pid or 0, signal.SIGSTOP)
    for _ in range(100):
        pool.queue("a").put(pool.acquire())
        pool.queue("a").get().release()
    assert pool.audit()["leased"] == 1
    os.kill(holder.pid or 0, signal.SIGCONT)


def test_a_member_index_is_used_again(make_pool: MakePool, start: Start) -> None:
    """With room for one member beside the coordinator, ten come and die in turn."""
    pool = make_pool(members=2, slots=1)
    for _ in range(10):
        start(crasher.hold, pool).kill()
        pool.acquire().release()
        while len(pool.statistics().members) > 1:  # its index is vacant a moment later
            pass
    assert pool.statistics().reaped_members == 10


def echo_for_ever(pool: Pool, gate: Any) -> None:
    gate.set()
    for lease in pool.queue("a"):
        pool.queue("b").put(lease)


def test_a_storm_of_kills_loses_no_ticket(make_pool: MakePool) -> None:
    """40 workers killed in the middle of traffic: every ticket arrives, all slots return."""
    context = mp.get_context("fork")
    pool = make_pool(slots=8)
    a, b = pool.queue("a"), pool.queue("b")
    for number in range(pool.slots):
        lease = pool.acquire()
        lease.array((1,), "i4")[:] = number
        a.put(lease)
    for _ in range(40):
        gate = context.Event()
        worker = context.Process(target=echo_for_ever, args=(pool, gate))
        worker.start()
        gate.wait()
        for _ in range(50):
            a.put(b.get())
        worker.kill()
        worker.join()
    echo = context.Process(target=echo_for_ever, args=(pool, context.Event()))
    echo.start()
    seen: list[int] = []
    while len(seen) < pool.slots:
        with b.get() as lease:
            seen.append(int(lease.array()[0]))
    a.close()
    echo.join()
    assert sorted(seen) == list(range(pool.slots))
    assert pool.audit()["free"] == pool.slots


COORDINATOR = """
import shmpool, sys
pool = shmpool.Pool.create(slots=2, slot_size=64, queues=("a",))
print(pool.name, flush=True)
sys.stdin.read()
pool.close()
"""


@dataclass
class Coordinator:
    """A coordinator with a process, and a resource tracker, of its own."""

    process: subprocess.Popen[str]
    name: str  # of its pool
    trackers: list[int]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    """One that has made its pool; it closes after the test, if it lives, and its tracker ends."""
    command = [sys.executable, "-c", COORDINATOR]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        name = process.stdout.readline().strip()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        trackers = [int(pid) for pid in children.split()]
        pidfds = [os.pidfd_open(pid) for pid in trackers]
        yield Coordinator(process, name, trackers)
        process.stdin.close()
    for pidfd in pidfds:
        select.select([pidfd], [], [])
        os.close(pidfd)


def attach(coordinator: Coordinator) -> Pool:
    """Join its pool, and wait until its reaper has met us and hung up the next bells."""
    pool = Pool.attach(coordinator.name)
    wait_for_bells(pool)
    return pool


def left_of(name: str) -> list[str]:
    """What lies in shared memory under a pool's name."""
    shm = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
    return [entry.name for entry in shm.iterdir() if name in entry.name]


def test_members_are_told_that_the_coordinator_died(coordinator: Coordinator) -> None:
    """A wait ends with CoordinatorDiedError, leases stay readable, and the tracker unlinks all."""
    name = coordinator.name
    pool = attach(coordinator)
    trackers = [os.pidfd_open(pid) for pid in coordinator.trackers]
    lease = pool.acquire()
    coordinator.process.kill()
    with pytest.raises(shmpool.CoordinatorDiedError, match=str(coordinator.pid)):
        pool.queue("a").get()
    with pytest.raises(shmpool.CoordinatorDiedError):
        pool.acquire()
    lease.array((3,), "u1")[:] = 5
    assert bytes(lease)[:3] == b"\5\5\5"
    lease.release()
    pool.close()
    for tracker in trackers:
        select.select([tracker], [], [])
        os.close(tracker)
    assert not left_of(name)


def test_a_member_that_never_waits_is_told_too(coordinator: Coordinator) -> None:
    """Acquire and get look at the coordinator now and then, even when they succeed."""
    pool = attach(coordinator)
    coordinator.process.kill()
    with pytest.raises(shmpool.CoordinatorDiedError):  # noqa: PT012 - it may succeed at first
        while True:
            pool.acquire().release()
    pool.close()
    coordinator.process.wait()


def test_what_a_killed_group_leaves_is_named_and_removed(
    coordinator: Coordinator,
) -> None:
    """Tracker and coordinator killed: create and attach say orphan, remove_orphan removes it."""
    name = coordinator.name
    with pytest.raises(shmpool.PoolExistsError, match="alive"):
        shmpool.remove_orphan(name)
    for pid in [*coordinator.trackers, coordinator.pid]:
        os.kill(pid, signal.SIGKILL)
    coordinator.process.wait()
    with pytest.raises(shmpool.OrphanedPoolError, match="remove_orphan"):
        Pool.create(slots=1, slot_size=1, name=name)
    with pytest.raises(shmpool.CoordinatorDiedError, match="remove_orphan"):
        Pool.attach(name)
    removed = shmpool.remove_orphan(name)
    assert name in removed
    assert not left_of(name)


def test_a_stopped_coordinator_is_not_dead(coordinator: Coordinator) -> None:
    """SIGSTOP is no death: members lease and hand on as before."""
    pool = attach(coordinator)
    coordinator.process.send_signal(signal.SIGSTOP)
    for _ in range(100):
        pool.queue("a").put(pool.acquire())
        pool.queue("a").get().release()
    with pytest.raises(shmpool.QueueEmpty):
        pool.queue("a").get(timeout=0.3)
    coordinator.process.send_signal(signal.SIGCONT)
    pool.close()
