"""Stopped, interrupted, half dead, or dead with its number in use again: nobody else notices."""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import os
import platform
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from shmpool import Pool
from workers import crasher

MakePool = Callable[..., Pool]
root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces take root")


def run(program: str, *arguments: str, prefix: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run a program: exit code, stdout, stderr."""
    command = [*prefix, sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


# --- Ctrl-C -----------------------------------------------------------------------------------

INTERRUPTED = r"""
import contextlib, random, signal, sys
import shmpool
from shmpool import Pool, QueueEmpty, Ticket
from shmpool._layout import State

wanted, chance = int(sys.argv[1]), random.Random(1)
delivered = 0

def interrupt(*_):
    global delivered
    delivered += 1
    raise KeyboardInterrupt

def use(pool, queue, empty):
    while True:
        lease = pool.acquire()
        lease.array((4,), "u1")[:] = 7
        queue.put(lease)
        queue.get().release()
        with pool.acquire() as lease:
            lease.array((4,), "u1")[:] = 7
        with pool.acquire() as lease:
            with pool.borrow(lease.share()) as borrow:
                borrow.array((4,), "u1").sum()
            pool.peek(lease.ticket)
        pool.claim(pool.acquire().detach()).release()
        with contextlib.suppress(QueueEmpty):
            empty.get(timeout=1e-5)

def drain(pool, queue):
    # What was sent when Ctrl-C came is nobody's any more.
    with contextlib.suppress(QueueEmpty):
        while True:
            queue.get_nowait().release()
    for slot, word in enumerate(pool._mapping.view().unpacked()):
        if word.state is State.QUEUED:
            pool.claim(Ticket.of(slot, word.generation)).release()

with Pool.create(slots=4, slot_size=4096, queues=("a", "b")) as pool:
    queue, empty = pool.queue("a"), pool.queue("b")
    signal.signal(signal.SIGALRM, interrupt)
    while delivered < wanted:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 60e-6))
            use(pool, queue, empty)
        except KeyboardInterrupt:
            pass
        assert pool._mapping.live == 0, delivered
        if delivered % 16 == 0:
            drain(pool, queue)
            assert pool.statistics().free == 4, pool.statistics()
    drain(pool, queue)
    with contextlib.suppress(QueueEmpty):
        empty.get(timeout=0.001)
    view = pool._mapping.view()
    waiting = [view.queue_states["waiting"].any(), view.class_states["waiting"].any()]
    print(pool.audit()["free"], pool._mapping.live, *waiting)
"""


def test_a_hundred_thousand_interrupts_lose_nothing() -> None:
    """KeyboardInterrupt between any two bytecodes, and in waits: it comes out as itself."""
    assert run(INTERRUPTED, "100000") == (0, "4 0 False False\n", "")


# --- threads ----------------------------------------------------------------------------------

THREADS = r"""
import contextlib, sys, threading
import shmpool
from shmpool import Pool

sys.setswitchinterval(1e-6)
complaints = []

def look_around(pool, times):
    try:
        for _ in range(times):
            with contextlib.suppress(shmpool.PoolExhaustedError):
                pool.acquire_nowait()  # all are held: each time it looks whether that is for ever
    except shmpool.PoolClosedError:
        pass
    except Exception as error:
        complaints.append(repr(error))

for _ in range(int(sys.argv[2])):
    pool = Pool.attach(sys.argv[1])
    arguments = pool, int(sys.argv[3])
    threads = [threading.Thread(target=look_around, args=arguments) for _ in range(3)]
    for thread in threads:
        thread.start()
    if sys.argv[4] == "close":
        pool.close()
    for thread in threads:
        thread.join()
    pool.close()
print(*complaints[:1])
"""


def test_threads_of_a_member_may_look_for_the_coordinator_at_once(make_pool: MakePool) -> None:
    """None of them fails because another does."""
    pool = make_pool(slots=1)
    with pool.acquire():
        assert run(THREADS, pool.name, "1", "2000", "go on") == (0, "\n", "")


def test_a_member_that_closes_under_its_threads_is_no_death_of_the_coordinator(
    make_pool: MakePool,
) -> None:
    """They are told that the pool is closed here, and the pool goes on for all others."""
    pool = make_pool(slots=1)
    with pool.acquire():
        assert run(THREADS, pool.name, "200", "1000000", "close") == (0, "\n", "")
    pool.acquire().release()


# --- SIGSTOP ----------------------------------------------------------------------------------


def keep_busy(pool: Pool, done: Any, end: Any) -> None:
    """Lease, send, receive, share, give back, and count; until told to end.

    `end` is a bare byte: an Event has a lock, with which a worker may be stopped.
    """
    queue, number = pool.queue("a"), os.getpid()
    while not end.value:
        lease = pool.acquire()
        lease.array((2,), "i8")[:] = number
        queue.put(lease)
        with queue.get() as lease:
            first, second = lease.array((2,), "i8").tolist()
            assert first == second
        with pool.acquire() as lease, pool.borrow(lease.share()):
            pass
        done.value += 1


def wait_for_progress(counters: list[Any], operations: int) -> None:
    """Return when each has counted so many more."""
    before = [counter.value for counter in counters]
    while any(now.value < then + operations for now, then in zip(counters, before, strict=True)):
        pass


@pytest.fixture
def busy(make_pool: MakePool) -> Iterator[tuple[Pool, list[BaseProcess], list[Any]]]:
    """A pool, and three processes that use it; each ends well, and all slots are free after."""
    pool, context = make_pool(slots=12), mp.get_context("fork")
    end = context.Value("b", 0, lock=False)
    counters = [context.Value("Q", 0, lock=False) for _ in range(3)]
    workers = [context.Process(target=keep_busy, args=(pool, done, end)) for done in counters]
    for worker in workers:
        worker.start()
    wait_for_progress(counters, 1)
    yield pool, workers, counters
    end.value = 1
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    while pool.queue("a").qsize():
        pool.queue("a").get().release()
    assert pool.audit()["free"] == pool.slots


def test_a_worker_stopped_anywhere_stops_nobody(
    busy: tuple[Pool, list[BaseProcess], list[Any]],
) -> None:
    """100 times SIGSTOP at a random moment; the others then do 30 operations each."""
    _, workers, counters = busy
    chance = random.Random(1)
    for _ in range(100):
        stopped = chance.randrange(3)
        wait_for_progress([counters[stopped]], chance.randrange(5))
        pid = workers[stopped].pid or 0
        os.kill(pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
            wait_for_progress(counters[:stopped] + counters[stopped + 1 :], 30)
        finally:
            os.kill(pid, signal.SIGCONT)


def coordinate(names: Any, end: Any) -> None:
    with Pool.create(slots=8, slot_size=4096, queues=("a", "b")) as pool:
        names.send(pool.name)
        end.wait()
        while pool.queue("a").qsize():
            pool.queue("a").get().release()
        names.send(pool.audit()["free"])


def attach_and_keep_busy(name: str, done: Any, end: Any) -> None:
    with Pool.attach(name) as pool:
        keep_busy(pool, done, end)


def wait_in_vain(name: str, gate: Any, told: Any) -> None:
    with Pool.attach(name) as pool:
        gate.set()
        pool.queue("b").get().release()
        told.set()


def test_a_stopped_coordinator_holds_up_nobody_and_is_not_declared_dead() -> None:
    """Members exchange slots, and one waits, while it is stopped; afterwards all is well."""
    context = mp.get_context("fork")
    names, theirs = context.Pipe()
    finish, gate, told = (context.Event() for _ in range(3))
    end = context.Value("b", 0, lock=False)
    coordinator = context.Process(target=coordinate, args=(theirs, finish))
    coordinator.start()
    name = names.recv()
    counters = [context.Value("Q", 0, lock=False) for _ in range(2)]
    workers = [
        context.Process(target=attach_and_keep_busy, args=(name, done, end)) for done in counters
    ]
    waiter = context.Process(target=wait_in_vain, args=(name, gate, told))
    for process in [*workers, waiter]:
        process.start()
    gate.wait()
    wait_for_progress(counters, 1)
    pid = coordinator.pid or 0
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    # Longer than members go without a look at the coordinator, which is what counts here.
    for _ in range(5):
        told.wait(0.1)
        wait_for_progress(counters, 200)
    assert waiter.is_alive()
    with Pool.attach(name) as late:  # its bell may hang or not
        late.queue("b").put(late.acquire())
        told.wait()
        os.kill(pid, signal.SIGCONT)
    end.value = 1
    for process in [*workers, waiter]:
        process.join()
    finish.set()
    assert names.recv() == 8
    coordinator.join()
    assert [p.exitcode for p in [*workers, waiter, coordinator]] == [0] * 4
    names.close(), theirs.close()


# --- half dead --------------------------------------------------------------------------------

EXIT = {"x86_64": 60, "aarch64": 93}  # the number of exit(2), which ends one thread


def leave_a_thread(pool: Pool, orders: Any, answers: Any) -> None:
    """End the main thread, and it alone: another holds a lease, and writes when told to."""

    def hold() -> None:
        lease = pool.acquire()
        array = lease.array((1,), "i8")
        array[0] = 0
        answers.send(lease.slot)
        while orders.recv():
            array += 1
            answers.send(int(array[0]))
        os._exit(0)

    threading.Thread(target=hold).start()
    ctypes.CDLL(None).syscall(EXIT[platform.machine()], 0)


@pytest.mark.skipif(platform.machine() not in EXIT, reason="exit(2) has another number here")
def test_a_process_whose_first_thread_is_gone_is_not_dead(make_pool: MakePool) -> None:
    """A zombie leader with a living thread keeps its lease; reaped with its last thread."""
    pool, context = make_pool(slots=2), mp.get_context("fork")
    (orders, told), (answers, asked) = context.Pipe(), context.Pipe()
    child = context.Process(target=leave_a_thread, args=(pool, told, asked))
    child.start()
    slot = answers.recv()
    stat = Path(f"/proc/{child.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "Z":
        pass
    # The reaper has time for somebody who dies after that, and buries nobody else.
    gate = context.Event()
    other = context.Process(target=crasher.hold, args=(pool, gate))
    other.start()
    gate.wait()
    other.kill()
    other.join()
    pool.acquire().release()
    for number in range(1, 100):
        orders.send(True)
        assert answers.recv() == number
    assert pool.statistics().leased == 1
    assert pool.statistics().reaped_members == 1
    orders.send(False)
    leases = [pool.acquire(), pool.acquire()]
    assert {lease.slot for lease in leases} == {slot, 1 - slot}
    child.join()
    for end in (orders, told, answers, asked):
        end.close()


# --- the number of a dead process in use again --------------------------------------------------

IN_A_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")
REUSED = r"""
import os, signal, sys
from pathlib import Path
import shmpool
from shmpool import Pool

LAST = Path("/proc/sys/kernel/ns_last_pid")

def fork(body, pid=None):
    # A child with that very number, which tells us that it is where it should be.
    mine, theirs = os.pipe()
    if pid is not None:
        LAST.write_text(str(pid - 1))
    child = os.fork()
    if child == 0:
        try:
            body(lambda told=b"!": os.write(theirs, told))
            signal.pause()
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(theirs)
    told = os.read(mine, 100)
    os.close(mine)
    assert told, "the child has failed"
    assert pid in (None, child), (pid, child)
    return child, told.decode()

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)

def coordinate(ready):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # in the reaper's thread as well
    with Pool.create(slots=2, slot_size=4096, queues=("a",)) as pool:
        ready(pool.name.encode())
        signal.sigwait({signal.SIGUSR1})
    os._exit(0)

def hold(ready):
    global pool, lease
    pool = Pool.attach(name)
    lease = pool.acquire()
    ready()

def all_bells_hang(pool):
    # Killed on the way, the coordinator may have told its tracker of one that is not yet there.
    while pool._mapping.view().status["doorbells"] <= pool._mapping.me + 8:
        pass

def reuse_a_members(after_it_was_met):
    if not after_it_was_met:
        stop(coordinator)
    member, _ = fork(hold)
    with Pool.attach(name) as pool:
        if after_it_was_met:
            all_bells_hang(pool)
            stop(coordinator)
        end(member)
        fork(hold, member)  # the new one joins, and holds a slot, before anybody is reaped
        os.kill(coordinator, signal.SIGCONT)
        pool.acquire().release()  # the slot of the old one
        held = {m.pid: m.held for m in pool.statistics().members}
        assert held[member] == 1, held
        while not pool.statistics().reaped_members:  # counted a moment after the slot is free
            pass
        assert pool.statistics().reaped_members == 1, pool.statistics()
        end(member)
        leases = [pool.acquire(), pool.acquire()]
        leases.clear()

def reuse_a_members_by_a_stranger():
    stop(coordinator)
    member, _ = fork(hold)
    end(member)
    fork(lambda ready: ready(), member)
    os.kill(coordinator, signal.SIGCONT)
    with Pool.attach(name) as pool:
        leases = [pool.acquire(), pool.acquire()]
        leases.clear()
    os.kill(member, 0)
    end(member)

def reuse_the_coordinators():
    with Pool.attach(name) as pool:
        pool.acquire().release()
        all_bells_hang(pool)
        children = Path(f"/proc/{coordinator}/task/{coordinator}/children").read_text().split()
        for tracker in map(int, children):
            os.kill(tracker, signal.SIGKILL)
        end(coordinator)
        fork(lambda ready: ready(), coordinator)
        for use in (pool.queue("a").get, lambda: Pool.attach(name)):
            try:
                use()
            except shmpool.CoordinatorDiedError as error:
                assert str(coordinator) in str(error)
            else:
                raise AssertionError("another process has been taken for the coordinator")
    assert name in shmpool.remove_orphan(name)
    end(coordinator)

coordinator, name = fork(coordinate)
eval(sys.argv[1])
if "coordinator" not in sys.argv[1]:
    os.kill(coordinator, signal.SIGUSR1)
    assert os.waitpid(coordinator, 0)[1] == 0
print(*[entry.name for entry in Path("/dev/shm").iterdir() if name in entry.name])
"""


@root
@pytest.mark.parametrize(
    "case",
    [
        "reuse_a_members(True)",
        "reuse_a_members(False)",
        "reuse_a_members_by_a_stranger()",
        "reuse_the_coordinators()",
    ],
)
def test_a_process_is_not_taken_for_a_dead_one_with_its_number(case: str) -> None:
    """The dead one is reaped, the living one is left alone, whoever looks first."""
    assert run(REUSED, case, prefix=IN_A_NAMESPACE) == (0, "\n", "")


# --- no descriptors, no memory ------------------------------------------------------------------

NO_DESCRIPTORS = r"""
import logging, os, resource, signal, threading
from pathlib import Path
import shmpool
from shmpool import Pool

tried = threading.Semaphore(0)

class Count(logging.Handler):
    def emit(self, record):
        if record.exc_info:  # else it tells of the death
            assert "Too many open files" in str(record.exc_info[1]), record
            tried.release()

logging.getLogger("shmpool").addHandler(Count())
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

def allow_no_more():
    number = os.dup(0)
    os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))

with Pool.create(slots=1, slot_size=64) as pool:
    go, began = os.pipe(), os.pipe()
    if not (child := os.fork()):
        os.read(go[0], 1)
        lease = pool.acquire()
        os.write(began[1], b"!")
        signal.pause()
    try:
        allow_no_more()
        os.write(go[1], b"!")
        os.read(began[0], 1)
        for _ in range(3):  # the reaper tries again and again
            tried.acquire()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with pool.acquire() as lease:
        while not pool.statistics().reaped_leases:  # counted a moment after the slot is free
            pass
        print(lease.generation, pool.statistics().reaped_leases)
"""


def test_a_newcomer_is_watched_as_soon_as_there_is_a_descriptor_for_it() -> None:
    """The reaper has none at first, says so, and goes on: the newcomer's death is noticed."""
    assert run(NO_DESCRIPTORS) == (0, "2 1\n", "")


NO_DESCRIPTORS_FOR_A_MEMBER = r"""
import os, resource, sys
import shmpool
from shmpool import Pool

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

def lowest():
    number = os.dup(0)
    os.close(number)
    return number

def limit(room):
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest() + room, hard))

Pool.attach(sys.argv[1]).close()
before = lowest()
for room in range(20):
    limit(room)
    try:
        pool = Pool.attach(sys.argv[1])
    except (OSError, shmpool.ShmpoolError) as error:
        assert str(error), room
    else:
        break
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert lowest() == before, room
assert room, "attaching takes no descriptor?"
with pool:
    # What has begun goes on without any: rights are words in memory.
    limit(0)
    with pool.acquire() as lease:
        ticket = lease.share()
        with pool.borrow(ticket) as borrow:
            assert borrow.array((2,), "u1").size == 2
        assert pool.peek(ticket).size
    pool.queue("a").put(pool.acquire())
    pool.queue("a").get().release()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(lowest() == before)
"""


def test_a_member_without_descriptors_is_refused_or_goes_on(pool: Pool) -> None:
    """EMFILE at any step of attach leaves nothing open; an attached pool needs no more of them."""
    assert run(NO_DESCRIPTORS_FOR_A_MEMBER, pool.name) == (0, "True\n", "")
    while len(pool.statistics().members) > 1:
        pass
    assert pool.audit()["free"] == pool.slots


FULL = r"""
import subprocess
subprocess.run("mount -t tmpfs -o size=1m tmpfs /dev/shm", shell=True, check=True)
import shmpool
with shmpool.Pool.create(slots=2, slot_size=65536, max_slots=100) as pool:
    try:
        pool.grow(98)
    except shmpool.OutOfSharedMemoryError as error:
        grown = error.grown
    assert 0 < grown < 98
    leases = [pool.acquire() for _ in range(2 + grown)]
    for lease in leases:
        memoryview(lease)[:] = bytes(65536)  # no SIGBUS
    try:
        pool.acquire(timeout=0)
    except shmpool.PoolExhaustedError as error:
        assert "/dev/shm" in str(error), error
    # What others give back to the system is ours.
    leases.pop().release()
    assert pool.trim() == 65536
    pool.acquire().release()
    leases.clear()
    del lease
    pool.audit()
print("good")
"""


@root
def test_growing_stops_where_the_memory_ends() -> None:
    """With the number of slots that there was memory for, each of which can be written to."""
    assert run(FULL, prefix=("unshare", "-m")) == (0, "good\n", "")


# --- the end of the interpreter -----------------------------------------------------------------

STATES = {
    "in the middle of an iteration": "queue.put(pool.acquire()); it = iter(queue); next(it)",
    "a lease in a loop's variable": "queue.put(pool.acquire())\nfor lease in queue: break",
    "a borrow in hand": "lease = pool.acquire(); borrow = pool.borrow(lease.share())",
    "a borrow whose owner has released": (
        "lease = pool.acquire(); borrow = pool.borrow(lease.share()); lease.release()"
    ),
    "a queue, and no pool": "del pool",
    "an iterator, and no pool": "queue.put(pool.acquire()); it = iter(queue); next(it); del pool",
    "a queue of a closed pool": "pool.close()",
    "a cycle": "lease = pool.acquire(); cycle = [lease, pool, queue]; cycle.append(cycle)",
    "a view in a cycle": "view = memoryview(pool.acquire()); cycle = [view]; cycle.append(cycle)",
    "an error with a lease in its frames": (
        "def fail():\n lease = pool.acquire(); raise LookupError\n"
        "try: fail()\nexcept LookupError as error: kept = error"
    ),
    "sys.exit in a with": (
        "import sys\n"
        "with pool, pool.acquire() as lease: array = lease.array((3,), 'u1'); sys.exit()"
    ),
    "a daemon that waits for a slot": (
        "leases = [pool.acquire(), pool.acquire()]\nbegin(lambda: pool.acquire())"
    ),
    "daemons that wait in turn": "for _ in range(3): begin(lambda: queue.get())",
    "a daemon in the middle of traffic": (
        "def traffic():\n"
        " while True:\n"
        "  queue.put(pool.acquire()); queue.get().release()\n"
        "begin(traffic)"
    ),
    "a fork with a lease in hand": (
        "import os\nlease = pool.acquire()\nif os.fork(): os.wait()\nelse: lease2 = pool.acquire()"
    ),
    "a fork with a borrow in hand": (
        "import os\nlease = pool.acquire(); borrow = pool.borrow(lease.share())\n"
        "if os.fork(): os.wait()\nelse: del borrow, lease"
    ),
    "another attachment of one's own": (
        "other = shmpool.Pool.attach(pool.name); lease = other.acquire()"
    ),
}
BEGIN = r"""
import contextlib, sys, threading
import shmpool

def begin(body):
    def run():
        begun.set()
        with contextlib.suppress(shmpool.PoolClosedError):
            body()
    begun = threading.Event()
    threading.Thread(target=run, daemon=True).start()
    begun.wait()

"""


@pytest.mark.parametrize("state", STATES)
def test_the_coordinator_ends_in_silence(state: str) -> None:
    """Whatever it has in hand: exit code 0, no word, and nothing in /dev/shm (conftest.py)."""
    made = "pool = shmpool.Pool.create(slots=2, slot_size=4096, queues=('a',))\n"
    program = f"{BEGIN}{made}queue = pool.queue('a')\n{STATES[state]}"
    assert run(program) == (0, "", "")


@pytest.mark.parametrize("state", STATES)
def test_a_member_ends_in_silence(state: str, make_pool: MakePool) -> None:
    """The same, and what it had in hand is free or as it has left it."""
    pool = make_pool(slots=2, orphan_grace=0)
    joined = "pool = shmpool.Pool.attach(sys.argv[1])\n"
    program = f"{BEGIN}{joined}queue = pool.queue('a')\n{STATES[state]}"
    assert run(program, pool.name) == (0, "", "")
    while len(pool.statistics().members) > 1:
        pass
    while pool.queue("a").qsize():
        pool.queue("a").get().release()
    assert pool.audit()["free"] == 2
