"""Real processes, by every start method: slots go from one to another without a copy."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Pool, Queue
from workers import crasher

MakePool = Callable[..., Pool]


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    """Each way to start a process."""
    return mp.get_context(request.param)


def double(source: Queue, target: Queue) -> None:
    for lease in source:
        array = lease.array()
        array *= 2
        lease.header.who = os.getpid()
        del array
        target.put(lease)


def test_a_slot_comes_back_changed_in_place(context: BaseContext, make_pool: MakePool) -> None:
    """The same slot, described by its sender, with its header; no bytes are copied."""
    pool = make_pool(header=[("who", "i8")])
    a, b = pool.queue("a"), pool.queue("b")
    child = context.Process(target=double, args=(a, b))
    child.start()
    lease = pool.acquire()
    slot = lease.slot
    lease.array((3, 4), "f4")[:] = 21
    a.put(lease)
    with b.get() as lease:
        assert lease.slot == slot
        assert lease.array().shape == (3, 4)
        assert (lease.array() == 42).all()
        assert lease.header.who == child.pid
    a.close()
    child.join()
    assert child.exitcode == 0
    assert pool.audit()["free"] == pool.slots


def claim(pool: Pool, ticket: shmpool.Ticket, answer: Connection) -> None:
    try:
        with pool.claim(ticket) as lease:
            answer.send(int(lease.array()[0]))
    except shmpool.StaleTicketError as error:
        answer.send(error)


def test_a_ticket_travels_by_any_channel_and_is_claimed_once(
    context: BaseContext, pool: Pool
) -> None:
    """A second claim, in another process, is told so; the error travels too."""
    lease = pool.acquire()
    lease.array((1,), "i4")[:] = 42
    ticket = lease.detach()
    mine, theirs = context.Pipe()
    answers: list[Any] = []
    for _ in range(2):
        child = context.Process(target=claim, args=(pool, ticket, theirs))
        child.start()
        answers.append(mine.recv())
        child.join()
    mine.close(), theirs.close()
    assert answers[0] == 42
    assert isinstance(answers[1], shmpool.AlreadyClaimedError)
    assert (answers[1].slot, answers[1].generation) == (ticket.slot, ticket.generation)


def test_a_stale_right_is_told_who_holds_the_slot_now(
    context: BaseContext, make_pool: MakePool
) -> None:
    """The message names slot, both generations, state, and the holder's name and pid."""
    pool = make_pool(slots=1)
    lease = pool.acquire()
    ticket = lease.detach()
    pool.claim(ticket).release()
    gate = context.Event()
    child = context.Process(target=crasher.hold, args=(pool, gate), name="thief")
    child.start()
    gate.wait()
    with pytest.raises(shmpool.StaleTicketError) as caught:
        pool.claim(ticket)
    child.kill()
    child.join()
    error = caught.value
    assert (error.slot, error.generation, error.current_generation) == (0, 2, 3)
    assert (error.state, error.pid) == ("LEASED", child.pid)
    for part in ("0@2", "leased by", f"pid {child.pid}", "generation 3"):
        assert part in str(error)


def produce(queue: Queue, producer: int, count: int) -> None:
    for number in range(count):
        lease = queue.pool.acquire()
        lease.array((2,), "i8")[:] = producer, number
        queue.put(lease)


def consume(queue: Queue, answer: Connection) -> None:
    got = []
    for lease in queue:
        with lease:
            got.append(tuple(lease.array().tolist()))
    answer.send(got)


def test_everything_is_delivered_once_and_in_order(context: BaseContext, pool: Pool) -> None:
    """3 producers, 2 consumers: no ticket twice, none lost, each producer's in its order."""
    queue, count = pool.queue("a"), 200
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    consumers = [context.Process(target=consume, args=(queue, end)) for _, end in pipes]
    producers = [context.Process(target=produce, args=(queue, i, count)) for i in range(3)]
    for process in consumers + producers:
        process.start()
    for process in producers:
        process.join()
    queue.close()
    received = [mine.recv() for mine, _ in pipes]
    for process in consumers:
        process.join()
    for mine, theirs in pipes:
        mine.close(), theirs.close()
    assert sorted(itertools.chain(*received)) == [(p, n) for p in range(3) for n in range(count)]
    for got in received:
        for producer in range(3):
            numbers = [n for p, n in got if p == producer]
            assert numbers == sorted(numbers)
    assert pool.audit()["free"] == pool.slots


def use_inherited(pool: Pool, lease: shmpool.Lease, answer: Connection) -> None:
    try:
        lease.release()
    except shmpool.NotOwnerError as error:
        answer.send(str(error))
    del lease
    with pool.acquire() as own:
        answer.send((own.slot, pool.statistics().members[-1].pid == os.getpid()))
    os._exit(0)


def test_a_forked_child_inherits_no_lease(pool: Pool) -> None:
    """It may not release it, collecting it gives nothing back, and it joins as itself."""
    context = mp.get_context("fork")
    lease = pool.acquire()
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=use_inherited, args=(pool, lease, theirs))
    child.start()
    told, (slot, joined) = mine.recv(), mine.recv()
    child.join()
    mine.close(), theirs.close()
    assert "inherits no rights" in told
    assert slot != lease.slot
    assert joined
    lease.array((1,), "u1")[:] = 1
    lease.release()


def close_inherited(pool: Pool) -> None:
    pool.acquire().release()
    pool.close()
    pool.close()
    try:
        pool.acquire()
    except shmpool.PoolClosedError as error:
        os._exit(0 if "in this process" in str(error) else 2)


def test_a_forked_child_closes_only_its_own_membership(pool: Pool) -> None:
    """The parent's pool, and its names, stay."""
    child = mp.get_context("fork").Process(target=close_inherited, args=(pool,))
    child.start()
    child.join()
    assert child.exitcode == 0
    Pool.attach(pool.name).close()
    pool.acquire().release()


def wait_for_close(pool: Pool, gate: Any, answer: Connection) -> None:
    gate.set()
    try:
        pool.queue("a").get()
    except shmpool.PoolClosedError as error:
        answer.send(type(error))


def test_closing_wakes_those_who_wait(context: BaseContext, make_pool: MakePool) -> None:
    """A wait in another process ends with PoolClosedError."""
    pool = make_pool()
    mine, theirs = context.Pipe(duplex=False)
    gate = context.Event()
    child = context.Process(target=wait_for_close, args=(pool, gate, theirs))
    child.start()
    gate.wait()
    pool.close()
    assert mine.recv() is shmpool.PoolClosedError
    child.join()
    mine.close(), theirs.close()


UNRELATED = """
import sys, shmpool
with shmpool.Pool.attach(sys.argv[1], member_name="stranger") as pool:
    with pool.queue("a").get() as lease:
        print(lease.array().sum())
"""


def test_an_unrelated_program_attaches_by_name_and_unlinks_nothing(pool: Pool) -> None:
    """Its exit, with a resource tracker of its own, leaves the pool alone; it is silent."""
    for number in range(2):
        lease = pool.acquire()
        lease.array((4,), "u1")[:] = number
        pool.queue("a").put(lease)
        run = subprocess.run(
            [sys.executable, "-c", UNRELATED, pool.name], capture_output=True, text=True, check=True
        )
        assert (run.stdout, run.stderr) == (f"{4 * number}\n", "")


INTERRUPTED = """
import os, signal, sys, threading, shmpool
with shmpool.Pool.create(slots=1, slot_size=64, queues=("a",)) as pool:
    interrupted = 0
    for _ in range(20):
        try:
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
            while True:
                with pool.acquire(timeout=0.001): pass
        except KeyboardInterrupt:
            interrupted += 1
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        pool.queue("a").get()
    except KeyboardInterrupt:
        interrupted += 1
    print(interrupted, pool.audit()["free"])
"""


def test_ctrl_c_ends_a_wait_and_loses_nothing() -> None:
    """KeyboardInterrupt comes out of acquire, lease and get alike; every slot is free after."""
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("21 1\n", "")


def test_two_pools_in_one_process_do_not_mix(make_pool: MakePool) -> None:
    """A lease of one is refused by the other, with both names, and stays good."""
    one, other = make_pool(name="shmpool-test-one"), make_pool(name="shmpool-test-other")
    with one.acquire() as lease:
        with pytest.raises(shmpool.ForeignLeaseError, match=r"test-one.*test-other"):
            other.queue("a").put(lease)
        assert lease.live


def test_a_queue_and_its_pool_pickle_together(pool: Pool, context: BaseContext) -> None:
    """A child that gets a queue attaches once, and passes slots on."""
    child = context.Process(target=crasher.echo, args=(pool.queue("a"), pool.queue("b")))
    child.start()
    lease = pool.acquire()
    lease.array((2,), np.uint8)[:] = 9
    pool.queue("a").put(lease)
    with pool.queue("b").get() as back:
        assert back.array().tolist() == [9, 9]
    pool.queue("a").close()
    child.join()


QUIET = {
    "a lease in hand": "lease = pool.acquire()",
    "an array in hand": "array = pool.acquire().array((3,), 'u1')",
    "a writer open": "file = pool.acquire().writer(); file.write(b'x')",
    "a detached ticket": "ticket = pool.acquire().detach()",
    "a thread that waits": (
        "import threading, contextlib\n"
        "def wait():\n"
        "    with contextlib.suppress(shmpool.PoolClosedError): pool.queue('a').get()\n"
        "threading.Thread(target=wait, daemon=True).start()"
    ),
    "a closed pool": "pool.close()",
    "a collected pool": "lease = pool.acquire(); del pool; lease.release()",
    "a child that is gone": (
        "import multiprocessing as mp; p = mp.get_context('fork').Process(target=pool.acquire); "
        "p.start(); p.join()"
    ),
}


@pytest.mark.parametrize("state", QUIET)
def test_exit_is_silent(state: str) -> None:
    """Whatever a process has in hand when it ends, nothing is printed and nothing is left."""
    program = (
        "import shmpool\npool = shmpool.Pool.create(slots=2, slot_size=64, queues=('a',))\n"
        f"{QUIET[state]}"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_sigterm_to_a_member_costs_nothing(pool: Pool) -> None:
    """A member that is terminated in a wait leaves no bit and no slot behind."""
    context = mp.get_context("spawn")
    gate = context.Event()
    child = context.Process(target=crasher.wait, args=(pool.queue("a"), gate))
    child.start()
    gate.wait()
    os.kill(child.pid or 0, signal.SIGTERM)
    child.join()
    lease = pool.acquire()
    pool.queue("a").put(lease)
    pool.queue("a").get(timeout=60).release()
    assert pool.audit()["free"] == pool.slots
