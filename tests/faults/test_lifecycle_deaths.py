"""Owners, borrowers and holders are killed: the slot is freed when the last of them is gone."""

from __future__ import annotations

import gc
import multiprocessing as mp
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outside import counted, wait_for_bells

import shmpool
from shmpool import Pool, QueueOptions, Ticket
from workers import crasher

MakePool = Callable[..., Pool]
Start = Callable[..., BaseProcess]


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    """Each way to start a process."""
    return mp.get_context(request.param)


@pytest.fixture
def fork() -> BaseContext:
    """The fast way to start a process."""
    return mp.get_context("fork")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process of a context; killed after the test."""
    started: list[BaseProcess] = []

    def start(context: Any, target: Callable[..., None], *arguments: Any) -> BaseProcess:
        process: BaseProcess = context.Process(target=target, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def pipe() -> Iterator[tuple[Connection, Connection]]:
    """The end to receive from, and the end to send to."""
    mine, theirs = mp.Pipe(duplex=False)
    yield mine, theirs
    mine.close()
    theirs.close()


def kill(pool: Pool, *processes: BaseProcess) -> None:
    """Kill members of a pool, and wait until its reaper has seen to them."""
    before = pool.statistics().reaped_members
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    reaped(pool, before + len(processes))


def reaped(pool: Pool, members: int) -> None:
    """Wait until so many members are gone."""
    while pool.statistics().reaped_members < members:
        pass


def states(pool: Pool) -> dict[str, int]:
    """Slots by state, without those that are none."""
    return {state: count for state, count in pool.audit().items() if count}


def shared(pool: Pool) -> shmpool.Lease:
    """A lease of three described bytes, shared."""
    lease = pool.acquire()
    lease.array((3,), "u1")[:] = 7
    lease.share()
    return lease


def share_and_hold(pool: Pool, answer: Connection) -> None:
    lease = shared(pool)
    answer.send(lease.ticket)
    signal.pause()
    lease.release()


def borrow_and_hold(pool: Pool, ticket: Ticket, answer: Connection, many: int = 1) -> None:
    borrows = [pool.borrow(ticket) for _ in range(many)]
    arrays = [borrow.array() for borrow in borrows]
    del borrows[many // 2 :]
    answer.send(int(arrays[-1].sum()))
    signal.pause()


# --- owners and borrowers -----------------------------------------------------------------


def test_the_owner_of_a_shared_slot_is_killed(
    context: BaseContext, make_pool: MakePool, start: Start, pipe: tuple[Connection, Connection]
) -> None:
    """Nobody borrows it any more; who has is left in peace; then it is free."""
    pool = make_pool(slots=1)
    owner = start(context, share_and_hold, pool, pipe[1])
    ticket = pipe[0].recv()
    borrow, array = pool.borrow(ticket), pool.borrow(ticket).array()
    kill(pool, owner)
    assert states(pool) == {"draining": 1}
    assert pool.statistics().reaped_leases == 1
    assert borrow.array().tolist() == array.tolist() == [7] * 3
    for refused in (pool.borrow, pool.peek, pool.claim):
        with pytest.raises(shmpool.StaleTicketError):
            refused(ticket)
    with pytest.raises(shmpool.PoolExhaustedError, match="is not free"):
        pool.acquire_nowait()
    borrow.release()
    assert states(pool) == {"draining": 1}
    del array
    assert states(pool) == {"free": 1}
    with pool.acquire() as lease:
        assert lease.generation == ticket.generation + 1


def test_the_owner_of_a_shared_slot_that_nobody_reads_is_killed(
    fork: BaseContext, make_pool: MakePool, start: Start, pipe: tuple[Connection, Connection]
) -> None:
    """It is free, for whoever waits."""
    pool = make_pool(slots=1)
    owner = start(fork, share_and_hold, pool, pipe[1])
    ticket = pipe[0].recv()
    pool.borrow(ticket).release()
    owner.kill()
    with pool.acquire() as lease:
        assert lease.generation == ticket.generation + 1
    assert states(pool) == {"free": 1}


@pytest.mark.parametrize("many", [1, 5])
def test_a_borrower_is_killed(
    context: BaseContext, make_pool: MakePool, start: Start, pipe: tuple[Connection, Connection],
    many: int,
) -> None:  # fmt: skip
    """Its bit is cleared, however many borrows and views it had; the owner goes on."""
    pool = make_pool(slots=1)
    lease = shared(pool)
    borrower = start(context, borrow_and_hold, pool, lease.ticket, pipe[1], many)
    assert pipe[0].recv() == 21
    kill(pool, borrower)
    assert states(pool) == {"shared": 1}
    assert pool._mapping.view().readers_of(lease.slot) == []
    with pool.borrow(lease.ticket) as borrow:
        assert borrow.array().tolist() == [7] * 3
    lease.release()
    assert states(pool) == {"free": 1}


def test_the_last_borrower_is_killed(
    fork: BaseContext, make_pool: MakePool, start: Start, pipe: tuple[Connection, Connection]
) -> None:
    """What it held of a released slot is free, and whoever waits gets it."""
    pool = make_pool(slots=1)
    lease = shared(pool)
    ticket = lease.ticket
    borrower = start(fork, borrow_and_hold, pool, ticket, pipe[1])
    pipe[0].recv()
    lease.release()
    assert states(pool) == {"draining": 1}
    with pytest.raises(shmpool.PoolExhaustedError, match=str(borrower.pid)):
        pool.acquire_nowait()
    borrower.kill()
    with pool.acquire() as lease:
        assert lease.generation == ticket.generation + 1
    borrower.join()
    assert states(pool) == {"free": 1}


@pytest.mark.parametrize("order", ["owner first", "borrower first", "at once"])
def test_owner_and_borrower_are_killed(
    fork: BaseContext, make_pool: MakePool, start: Start, pipe: tuple[Connection, Connection],
    order: str,
) -> None:  # fmt: skip
    """In any order: the slot is free when the reaper has seen to both."""
    pool = make_pool(slots=1)
    owner = start(fork, share_and_hold, pool, pipe[1])
    ticket = pipe[0].recv()
    borrower = start(fork, borrow_and_hold, pool, ticket, pipe[1])
    pipe[0].recv()
    if order == "at once":
        kill(pool, owner, borrower)
    else:
        first, second = (owner, borrower)[:: 1 if order == "owner first" else -1]
        kill(pool, first)
        assert states(pool) == {"draining" if first is owner else "shared": 1}
        kill(pool, second)
    assert states(pool) == {"free": 1}


def test_a_killed_borrower_takes_nobody_elses_bit(
    fork: BaseContext, make_pool: MakePool, start: Start
) -> None:
    """Of four borrowers three die one by one: the slot drains until the last is gone."""
    pool = make_pool(slots=1)
    lease = shared(pool)
    pipes = [mp.Pipe(duplex=False) for _ in range(4)]
    borrowers = [start(fork, borrow_and_hold, pool, lease.ticket, theirs) for _, theirs in pipes]
    for mine, theirs in pipes:
        assert mine.recv() == 21
        mine.close(), theirs.close()
    lease.release()
    view = pool._mapping.view()
    for left in (3, 2, 1, 0):
        kill(pool, borrowers.pop(left // 2))
        assert len(view.readers_of(0)) == left
        assert states(pool) == ({"draining": 1} if left else {"free": 1})


def test_a_stopped_borrower_keeps_what_it_reads(
    fork: BaseContext, make_pool: MakePool, start: Start, pipe: tuple[Connection, Connection]
) -> None:
    """SIGSTOP is no death: the slot drains for as long as it takes, the others go on."""
    pool = make_pool(slots=2)
    lease = shared(pool)
    borrower = start(fork, borrow_and_hold, pool, lease.ticket, pipe[1])
    pipe[0].recv()
    os.kill(borrower.pid or 0, signal.SIGSTOP)
    lease.release()
    for _ in range(100):
        pool.acquire().release()
    assert states(pool) == {"free": 1, "draining": 1}
    kill(pool, borrower)
    assert states(pool) == {"free": 2}


def test_reader_ids_are_used_again(make_pool: MakePool) -> None:
    """More members borrow than there are reader ids, in turn, half of them by dying of close."""
    pool = make_pool(slots=1, members=120)
    lease = shared(pool)
    for batch in range(1, 4):
        members = [Pool.attach(pool.name) for _ in range(100)]
        for member in members:
            borrow = member.borrow(lease.ticket)
            with pytest.raises(shmpool.LeasesAliveError):
                member.close()
            borrow.release()
        reaped(pool, 100 * batch)
        assert pool._mapping.view().readers_of(lease.slot) == []
    lease.release()
    assert states(pool) == {"free": 1}


def borrow_for_ever(pool: Pool, tickets: Any, gate: Any) -> None:
    with suppress(shmpool.StaleTicketError):
        pool.borrow(0)  # a member from now on
    gate.set()
    while True:
        ticket = Ticket(tickets[0])
        with suppress(shmpool.StaleTicketError), pool.borrow(ticket) as borrow:
            if (borrow.array() != ticket.generation % 251).any():
                os._exit(17)


def test_a_storm_of_killed_borrowers_loses_no_slot(
    fork: BaseContext, make_pool: MakePool, start: Start
) -> None:
    """40 killed in the middle of borrowing while the owner recycles: all slots come back."""
    pool = make_pool(slots=3)
    tickets = fork.Array("Q", 1, lock=False)

    def publish() -> shmpool.Lease:
        lease = pool.acquire()
        lease.array((64,), "u1")[:] = lease.generation % 251
        tickets[0] = int(lease.share())
        return lease

    lease = publish()
    borrowers: list[BaseProcess] = []
    for number in range(40):
        gate = fork.Event()
        borrowers.append(start(fork, borrow_for_ever, pool, tickets, gate))
        gate.wait()
        for _ in range(30):
            following = publish()
            lease.release()
            lease = following
        if number:
            borrowers[number - 1].kill()
    lease.release()
    for borrower in borrowers:
        borrower.kill()
        borrower.join()
    reaped(pool, 40)
    assert states(pool) == {"free": 3}
    assert {borrower.exitcode for borrower in borrowers} == {-signal.SIGKILL}


COORDINATOR = """
import shmpool, sys
pool = shmpool.Pool.create(slots=2, slot_size=64)
print(pool.name, flush=True)
sys.stdin.read()
"""


def test_borrows_outlive_the_coordinator() -> None:
    """Nothing new can be borrowed or peeked at; what is borrowed stays readable, and ends."""
    stream = subprocess.PIPE
    command = [sys.executable, "-c", COORDINATOR]
    coordinator = subprocess.Popen(command, stdin=stream, stdout=stream, stderr=stream, text=True)
    assert coordinator.stdout is not None
    pool = Pool.attach(coordinator.stdout.readline().strip())
    wait_for_bells(pool)
    lease = shared(pool)
    ticket, borrow = lease.ticket, pool.borrow(lease.ticket)
    coordinator.kill()
    coordinator.communicate()  # with the tracker, which holds stderr: the names are gone
    with pytest.raises(shmpool.CoordinatorDiedError):  # noqa: PT012 - it may succeed at first
        while True:
            pool.borrow(ticket).release()
    for use in (pool.peek, pool.borrow, lambda _: pool.grow(), lambda _: pool.trim()):
        with pytest.raises(shmpool.CoordinatorDiedError):
            use(ticket)
    assert borrow.array().tolist() == [7] * 3
    lease.release()
    assert borrow.array().tolist() == [7] * 3
    assert states(pool) == {"free": 1, "draining": 1}
    borrow.release()
    assert states(pool) == {"free": 2}
    pool.close()


# --- quarantine and dead letters ----------------------------------------------------------


@pytest.fixture
def sick(make_pool: MakePool) -> Pool:
    """Two slots, and a queue whose takers' deaths put a slot into quarantine."""
    options = {"a": QueueOptions(on_death="quarantine"), "b": QueueOptions()}
    return make_pool(slots=2, queues=options, header=[("number", "<i4")])


def die_of(pool: Pool, queue: str = "a", context: Any = None) -> int:
    """Take a ticket from a queue in a process that is killed then: its pid."""
    context = context or mp.get_context("fork")
    gate = context.Event()
    process = context.Process(target=crasher.take, args=(pool.queue(queue), gate))
    process.start()
    gate.wait()
    kill(pool, process)
    return process.pid or 0


def put(pool: Pool, queue: str = "a") -> Ticket:
    """Put three bytes and a number into a queue."""
    lease = pool.acquire()
    lease.array((3,), "u1")[:] = 7
    if pool._spec.record is not None:
        lease.header.number = 42
    ticket = lease.ticket
    pool.queue(queue).put(lease)
    return ticket


def test_a_slot_is_held_in_quarantine(context: BaseContext, sick: Pool) -> None:
    """With its bytes, who died of it, and out of everybody's way."""
    ticket = put(sick)
    pid = die_of(sick, context=context)
    (held,) = sick.quarantined()
    assert held.ticket == Ticket.of(ticket.slot, ticket.generation + 2)
    assert (held.queue, held.attempts, held.pid, held.nbytes) == ("a", 1, pid, 4096)
    assert sick.peek(held.ticket).tolist() == [7] * 3
    assert states(sick) == {"free": 1, "quarantined": 1}
    snapshot = sick.statistics()
    assert (snapshot.quarantined, snapshot.sent_to_quarantine) == (1, 1)
    assert (snapshot.requeued, snapshot.reaped_leases) == (0, 0)
    assert sick.queue("a").empty()
    assert sick.trim() == 4096
    with sick.acquire(), pytest.raises(shmpool.PoolExhaustedError):
        sick.acquire_nowait()
    for use in (sick.borrow, lambda _: sick.queue("a").get_nowait()):
        with pytest.raises((shmpool.StaleTicketError, shmpool.QueueEmpty)):
            use(held.ticket)


def test_a_slot_in_quarantine_is_claimed_once(sick: Pool) -> None:
    """The lease has bytes, header, attempts and the reason in words; releasing frees the slot."""
    put(sick)
    pid = die_of(sick)
    (held,) = sick.quarantined()
    with sick.claim(held.ticket) as lease:
        assert sick.quarantined() == ()
        assert lease.array().tolist() == [7] * 3
        assert lease.header.number == 42
        assert lease.attempts == 1
        assert lease.reason == (
            f"taken from queue 'a' once, and its holder died of it (the last: pid {pid})"
        )
        with pytest.raises(shmpool.AlreadyClaimedError):
            sick.claim(held.ticket)
    assert states(sick) == {"free": 2}
    with sick.acquire() as fresh:
        assert (fresh.reason, fresh.attempts) == (None, 0)


def claim_and_hold(pool: Pool, ticket: Ticket, answer: Connection) -> None:
    lease = pool.claim(ticket)
    answer.send(lease.reason)
    signal.pause()


def test_a_claimer_of_a_quarantined_slot_is_killed(
    fork: BaseContext, sick: Pool, start: Start, pipe: tuple[Connection, Connection]
) -> None:
    """Another process may claim it; what it then does not release is freed, as any lease."""
    put(sick)
    pid = die_of(sick)
    (held,) = sick.quarantined()
    claimer = start(fork, claim_and_hold, sick, held.ticket, pipe[1])
    assert f"pid {pid}" in pipe[0].recv()
    kill(sick, claimer)
    assert states(sick) == {"free": 2}
    with pytest.raises(shmpool.AlreadyClaimedError):
        sick.claim(held.ticket)


def test_what_was_in_quarantine_is_sent_on_or_shared(sick: Pool) -> None:
    """A new delivery, of which nobody has died; a second death puts it there again."""
    put(sick)
    die_of(sick)
    sick.queue("a").put(sick.claim(sick.quarantined()[0].ticket))
    with sick.queue("a").get() as lease:
        assert (lease.attempts, lease.reason) == (0, None)
        sick.queue("a").put(lease)
    pid = die_of(sick)
    (held,) = sick.quarantined()
    assert (held.attempts, held.pid) == (1, pid)
    lease = sick.claim(held.ticket)
    with sick.borrow(lease.share()) as borrow:
        assert borrow.array().tolist() == [7] * 3
        assert f"pid {pid}" in (lease.reason or "")
        lease.release()
    assert states(sick) == {"free": 2}


def test_the_quarantine_lists_every_slot(make_pool: MakePool) -> None:
    """Of any class, with its queue; none of other queues."""
    options = {
        "a": QueueOptions(on_death="quarantine"), "b": QueueOptions(on_death="quarantine"),
        "c": QueueOptions(on_death="free"), "d": QueueOptions(),
    }  # fmt: skip
    pool = make_pool(slots=None, slot_size=None, classes=[(64, 3), (4096, 3)], queues=options)
    pids = {}
    for queue, nbytes in (("a", 64), ("b", 4096), ("c", 64), ("d", 4096)):
        pool.queue(queue).put(pool.acquire(nbytes))
        pids[queue] = die_of(pool, queue)
    listed = {(q.queue, q.nbytes, q.pid) for q in pool.quarantined()}
    assert listed == {("a", 64, pids["a"]), ("b", 4096, pids["b"])}
    assert states(pool) == {"free": 3, "queued": 1, "quarantined": 2}
    for held in pool.quarantined():
        pool.claim(held.ticket).release()
    pool.queue("d").get().release()
    assert states(pool) == {"free": 6}


def test_a_lease_that_came_from_no_queue_is_not_quarantined(sick: Pool, start: Start) -> None:
    """What was acquired or claimed is freed when its holder dies."""
    fork = mp.get_context("fork")
    gate = fork.Event()
    holder = start(fork, crasher.hold, sick, gate)
    gate.wait()
    kill(sick, holder)
    assert sick.quarantined() == ()
    assert states(sick) == {"free": 2}


def test_the_holder_shares_what_came_from_a_queue_and_is_killed(
    fork: BaseContext, sick: Pool, start: Start, pipe: tuple[Connection, Connection]
) -> None:
    """Shared is out of the queue's hands: neither quarantine nor delivered again, but drained."""
    put(sick)
    holder = start(fork, get_and_share, sick, pipe[1])
    borrow = sick.borrow(pipe[0].recv())
    kill(sick, holder)
    assert sick.quarantined() == ()
    assert states(sick) == {"free": 1, "draining": 1}
    borrow.release()
    assert states(sick) == {"free": 2}


def get_and_share(pool: Pool, answer: Connection) -> None:
    lease = pool.queue("a").get()
    answer.send(lease.share())
    signal.pause()


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_dead_letter_says_why_it_is_one(make_pool: MakePool, deaths: int) -> None:
    """Which queue gave it up, after how many deaths, and the pid of the last."""
    options = {"a": QueueOptions(max_attempts=deaths, dead_letter="b"), "b": QueueOptions()}
    pool = make_pool(queues=options)
    put(pool)
    for left in reversed(range(deaths)):
        pid = die_of(pool)
        if left:
            assert pool.queue("b").empty()
    with pool.queue("b").get() as letter:
        assert letter.attempts == deaths
        times = "once, and its" if deaths == 1 else f"{deaths} times, and each time its"
        expected = f"taken from queue 'a' {times} holder died of it (the last: pid {pid})"
        assert letter.reason == expected
        assert letter.array().tolist() == [7] * 3
    assert pool.statistics().dead_lettered == 1


def test_a_dead_letter_goes_on_saying_which_queue_gave_it_up(make_pool: MakePool) -> None:
    """Also when somebody dies of the letter, too: then the last pid is his."""
    options = {"a": QueueOptions(max_attempts=1, dead_letter="b"), "b": QueueOptions()}
    pool = make_pool(queues=options)
    put(pool)
    die_of(pool)
    pid = die_of(pool, "b")
    with pool.queue("b").get() as letter:
        assert "queue 'a'" in (letter.reason or "")
        assert f"pid {pid}" in (letter.reason or "")
        assert letter.attempts == 2


def test_work_delivered_again_says_so(make_pool: MakePool) -> None:
    """The next taker sees who died; after a release nobody does."""
    pool = make_pool(slots=1)
    put(pool)
    pid = die_of(pool)
    with pool.queue("a").get() as lease:
        assert lease.reason == (
            f"taken from queue 'a' once, and its holder died of it (the last: pid {pid})"
        )
    with pytest.raises(shmpool.AlreadyEndedError):
        _ = lease.reason
    with pool.acquire() as lease:
        assert lease.reason is None
        ticket = lease.detach()
    with pool.claim(ticket) as lease:
        assert lease.reason is None


# --- detached tickets of the dead ---------------------------------------------------------


def send_by_pipe(pool: Pool, channel: Connection) -> None:
    channel.send(tickets_of(pool))
    signal.pause()


def send_by_queue(pool: Pool, channel: Any) -> None:
    channel.put(tickets_of(pool))
    signal.pause()


def send_by_socket(pool: Pool, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(path)
        channel.sendall(b"".join(ticket.to_bytes(8, "big") for ticket in tickets_of(pool)))
        signal.pause()


def send_by_file(pool: Pool, path: str) -> None:
    tickets = "\n".join(str(int(ticket)) for ticket in tickets_of(pool))
    Path(path + ".new").write_text(tickets)
    Path(path + ".new").rename(path)
    signal.pause()


def tickets_of(pool: Pool) -> list[Ticket]:
    """Two detached tickets, with bytes behind them."""
    tickets = []
    for number in range(2):
        lease = pool.acquire()
        lease.array((3,), "u1")[:] = number + 1
        tickets.append(lease.detach())
    return tickets


def receive(
    channel: str, context: Any, pool: Pool, start: Start, folder: Path
) -> tuple[BaseProcess, list[Ticket]]:
    """Start a sender and receive what it sends by one channel or another."""
    path = str(folder / "channel")
    if channel == "pipe":
        mine, theirs = context.Pipe(duplex=False)
        sender = start(context, send_by_pipe, pool, theirs)
        tickets = mine.recv()
        mine.close(), theirs.close()
    elif channel == "queue":
        queue = context.Queue()
        sender = start(context, send_by_queue, pool, queue)
        tickets = queue.get()
        queue.close()
        queue.join_thread()
    elif channel == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            sender = start(context, send_by_socket, pool, path)
            with server.accept()[0] as connection, connection.makefile("rb") as stream:
                raw = stream.read(16)
        tickets = [Ticket(int.from_bytes(raw[at : at + 8], "big")) for at in (0, 8)]
    else:
        sender = start(context, send_by_file, pool, path)
        while not Path(path).exists():
            pass
        tickets = [Ticket(int(line)) for line in Path(path).read_text().splitlines()]
    return sender, tickets


@pytest.mark.parametrize("channel", ["pipe", "queue", "socket", "file"])
def test_tickets_of_a_killed_sender_are_claimed_within_the_grace(
    context: BaseContext, make_pool: MakePool, start: Start, tmp_path: Path, channel: str
) -> None:
    """However they came, with all bytes; once; and then nothing of theirs expires."""
    pool = make_pool(slots=2, orphan_grace=3600)
    sender, tickets = receive(channel, context, pool, start, tmp_path)
    kill(pool, sender)
    assert states(pool) == {"queued": 2}
    for number, ticket in enumerate(tickets):
        assert pool.peek(ticket).tolist() == [number + 1] * 3
        with pool.claim(ticket) as lease:
            assert lease.array().tolist() == [number + 1] * 3
            assert lease.reason is None
        with pytest.raises(shmpool.AlreadyClaimedError):
            pool.claim(ticket)
    assert states(pool) == {"free": 2}
    assert pool.statistics().expired_tickets == 0


@pytest.mark.parametrize("channel", ["pipe", "queue", "socket", "file"])
def test_tickets_of_a_killed_sender_are_freed_after_the_grace(
    fork: BaseContext, make_pool: MakePool, start: Start, tmp_path: Path, channel: str
) -> None:
    """Those that nobody claimed; a claim of one that is freed is told so."""
    pool = make_pool(slots=2, orphan_grace=0.05)
    sender, tickets = receive(channel, fork, pool, start, tmp_path)
    sender.kill()
    leases = [pool.acquire() for _ in range(2)]  # both, sooner or later
    for ticket in tickets:
        for use in (pool.claim, pool.peek):
            with pytest.raises(shmpool.StaleTicketError):
                use(ticket)
    assert [lease.generation for lease in leases] == [3, 3]
    while pool.statistics().expired_tickets < 2:
        pass
    for lease in leases:
        lease.release()
    assert states(pool) == {"free": 2}


def test_a_living_sender_has_no_grace_to_run_out(
    fork: BaseContext, make_pool: MakePool, start: Start, tmp_path: Path
) -> None:
    """With a grace of none its tickets are good for as long as it lives, and freed at its death."""
    pool = make_pool(slots=3, orphan_grace=0)
    sender, tickets = receive("pipe", fork, pool, start, tmp_path)
    other, _ = receive_one(fork, pool, start)
    kill(pool, other)  # several rounds of the reaper
    pool.claim(tickets[0]).release()
    assert states(pool)["queued"] == 1
    kill(pool, sender)
    assert counted(pool, "expired_tickets") == 1
    assert states(pool) == {"free": 3}


def receive_one(context: Any, pool: Pool, start: Start) -> tuple[BaseProcess, Ticket]:
    mine, theirs = context.Pipe(duplex=False)
    process = start(context, share_and_hold, pool, theirs)
    ticket = mine.recv()
    mine.close(), theirs.close()
    return process, ticket


def test_a_claimed_ticket_does_not_expire(
    fork: BaseContext, make_pool: MakePool, start: Start, tmp_path: Path
) -> None:
    """Claimed in time, it is a lease like any other, grace or no grace."""
    pool = make_pool(slots=2, orphan_grace=0.05)
    sender, tickets = receive("pipe", fork, pool, start, tmp_path)
    lease = pool.claim(tickets[0])
    kill(pool, sender)
    while pool.statistics().expired_tickets < 1:
        pass
    assert lease.array().tolist() == [1] * 3
    assert states(pool) == {"free": 1, "leased": 1}
    lease.release()


# --- forks --------------------------------------------------------------------------------


def let_go_of_all(pool: Pool, rights: list[Any], answer: Connection) -> None:
    """In a forked child: what can be done with its parent's borrows, and with its own."""
    told = []
    for right in rights:
        if isinstance(right, shmpool.Borrow):
            for use in (right.release, right.array, right.reader, lambda r=right: memoryview(r)):
                with suppress(shmpool.NotOwnerError):
                    use()
                    told.append(f"{use} worked")
            told.append(right.live)
    ticket = rights[0].ticket
    del right, use
    rights.clear()
    gc.collect()
    with pool.borrow(ticket) as own:
        told.append(own.array().tolist())
        told.append(len(pool._mapping.view().readers_of(own.slot)))
    answer.send(told)


@pytest.mark.parametrize("ending", ["exit", "_exit", "SIGKILL"])
def test_a_forked_child_inherits_no_borrow(
    fork: BaseContext, make_pool: MakePool, pipe: tuple[Connection, Connection], ending: str
) -> None:
    """It may not use them, collecting them clears no bit of its parent's, and it borrows itself."""
    pool = make_pool(slots=1)
    lease = shared(pool)
    rights: list[Any] = [pool.borrow(lease.ticket) for _ in range(2)]
    rights.append(pool.borrow(lease.ticket).array())
    child = fork.Process(target=child_that, args=(ending, pool, rights, pipe[1]))
    child.start()
    told = pipe[0].recv()
    child.join()
    reaped(pool, 1)
    assert told == [False, False, [7] * 3, 2]
    assert pool._mapping.view().readers_of(0) == [pool._mapping.me]
    lease.release()
    while rights:
        assert states(pool) == {"draining": 1}
        assert rights[0].live
        right = rights.pop()
        assert np.asarray(right)[:3].tolist() == [7] * 3
        del right
    assert states(pool) == {"free": 1}


def child_that(ending: str, pool: Pool, rights: list[Any], answer: Connection) -> None:
    let_go_of_all(pool, rights, answer)
    if ending == "_exit":
        os._exit(0)
    if ending == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)


def release_in_child(pool: Pool, lease: Any, answer: Connection) -> None:
    told = []
    for use in (lease.release, lease.share, lease.array):
        try:
            use()
        except shmpool.NotOwnerError:
            told.append("not mine")
    del lease, use
    gc.collect()
    answer.send(told)


def test_a_forked_child_inherits_no_shared_lease(
    fork: BaseContext, pool: Pool, pipe: tuple[Connection, Connection]
) -> None:
    """Neither release nor collection in the child ends what the parent shares."""
    lease = shared(pool)
    child = fork.Process(target=release_in_child, args=(pool, lease, pipe[1]))
    child.start()
    assert pipe[0].recv() == ["not mine"] * 3
    child.join()
    pool.borrow(lease.ticket).release()
    lease.release()
    assert states(pool) == {"free": 4}


def borrow_then_die(pool: Pool, ticket: Ticket) -> None:
    pool.borrow(ticket)
    kept.append(pool.borrow(ticket))
    die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


kept: list[Any] = []


def test_a_child_of_a_borrower_that_never_borrowed_takes_nothing_with_it(
    fork: BaseContext, make_pool: MakePool
) -> None:
    """Killed without having joined, or after borrowing itself: its parent's bit stays."""
    pool = make_pool(slots=1)
    lease = shared(pool)
    borrow = pool.borrow(lease.ticket)
    for target, arguments in ((die, ()), (borrow_then_die, (pool, lease.ticket))):
        child = fork.Process(target=target, args=arguments)
        child.start()
        child.join()
    reaped(pool, 1)
    lease.release()
    assert states(pool) == {"draining": 1}
    assert borrow.array().tolist() == [7] * 3
    borrow.release()
    assert states(pool) == {"free": 1}


# --- exits --------------------------------------------------------------------------------

IN_HAND = {
    "a shared lease": "lease = shared()",
    "a shared lease and its view": "lease = shared(); array = lease.array()",
    "a view of a collected shared lease": "array = shared().array()",
    "a borrow": "lease = shared(); borrow = pool.borrow(lease.ticket)",
    "many borrows": "lease = shared(); borrows = [pool.borrow(lease.ticket) for _ in range(99)]",
    "a borrow and its view": (
        "lease = shared(); borrow = pool.borrow(lease.ticket); array = borrow.array()"
    ),
    "a view of a collected borrow": "lease = shared(); array = pool.borrow(lease.ticket).array()",
    "a memoryview of a borrow": "lease = shared(); v = memoryview(pool.borrow(lease.ticket))",
    "a borrow of a released slot": (
        "lease = shared(); borrow = pool.borrow(lease.ticket); lease.release()"
    ),
    "a view of a borrow of a released slot": (
        "lease = shared(); array = pool.borrow(lease.ticket).array(); lease.release()"
    ),
    "a reader open": "lease = shared(); file = pool.borrow(lease.ticket).reader()",
    "a borrow in a cycle": (
        "lease = shared(); cycle = [pool.borrow(lease.ticket)]; cycle.append(cycle)"
    ),
    "a writer that moved on": "file = pool.acquire(64).writer(); file.write(bytes(100))",
    "a peeked array": "lease = shared(); array = pool.peek(lease.ticket)",
    "slots grown and trimmed": "pool.grow(2); pool.trim(); lease = pool.acquire()",
    "a thread that waits for a large slot": (
        "import threading, contextlib\n"
        "taken = [pool.acquire(4096) for _ in range(3)]\n"
        "def wait():\n"
        "    with contextlib.suppress(shmpool.PoolClosedError): pool.acquire(4096)\n"
        "threading.Thread(target=wait, daemon=True).start()"
    ),
    "everything at once": (
        "lease = shared(); borrow = pool.borrow(lease.ticket); a = borrow.array(); b = a[1:]\n"
        "other = pool.acquire(4096); c = other.array((3,), 'u1'); del borrow, other"
    ),
    "a closed pool and a borrow": (
        "import contextlib\n"
        "lease = shared(); borrow = pool.borrow(lease.ticket)\n"
        "with contextlib.suppress(shmpool.LeasesAliveError): pool.close()"
    ),
    "a collected pool and a borrow": (
        "lease = shared(); borrow = pool.borrow(lease.ticket); del pool; lease.release()"
    ),
    "a borrow inherited by a child that is gone": (
        "import multiprocessing as mp\n"
        "lease = shared(); borrow = pool.borrow(lease.ticket)\n"
        "p = mp.get_context('fork').Process(target=lambda: pool.borrow(lease.ticket).array())\n"
        "p.start(); p.join()"
    ),
}

PREPARED = """
import sys, shmpool
pool = {pool}
def shared():
    lease = pool.acquire()
    lease.array((3,), 'u1')[:] = 7
    lease.share()
    return lease
{state}
"""
CREATE = "shmpool.Pool.create(classes=[(64, 2), (4096, 1, 3)], queues=('a',))"


def run(pool: str, state: str) -> tuple[int, str, str]:
    """The exit status of a program, and all that it printed."""
    program = PREPARED.format(pool=pool, state=IN_HAND[state])
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("state", IN_HAND)
def test_the_exit_of_a_coordinator_is_silent(state: str) -> None:
    """Whatever it has in hand, nothing is printed and nothing is left; the fixture looks."""
    assert run(CREATE, state) == (0, "", "")


@pytest.mark.parametrize("state", IN_HAND)
def test_the_exit_of_a_member_is_silent_and_gives_all_back(make_pool: MakePool, state: str) -> None:
    """The same for a process that attached: when the reaper has seen it go, no slot is held."""
    pool = make_pool(slots=None, slot_size=None, classes=[(64, 2), (4096, 1, 3)])
    assert run(f"shmpool.Pool.attach({pool.name!r})", state) == (0, "", "")
    while len(pool.statistics().members) > 1:
        pass
    reaped(pool, 1)
    counts = pool.audit()
    assert counts["free"] + counts["uncommitted"] == pool.slots
    view = pool._mapping.view()
    assert not any(view.readers_of(slot) for slot in range(pool.slots))
