"""Every call to the system fails once, at each place where it is made: an error, and nothing else.

failing.c is preloaded into a child, which arms it: "the k-th mmap from now on fails with ENOMEM".
k goes up from 1 until an operation no longer gets so far. Whatever fails tells so by an
OSError or a ShmpoolError with words, leaves no name, descriptor, mapping, thread or child
behind, and works when it is tried again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shmpool import Pool

MakePool = Callable[..., Pool]
HERE = Path(__file__).parent

# What the child runs: operation, names of calls with errnos. Each line it prints is a complaint.
PROGRAM = r"""
import contextlib, ctypes, errno, faulthandler, os, sys, threading, traceback
from collections import Counter
from multiprocessing import active_children
from multiprocessing.resource_tracker import _resource_tracker as tracker
from pathlib import Path
import shmpool
from shmpool import ArraySpec, Farm, Pool, _reaper
from workers.crasher import render

faulthandler.dump_traceback_later(100, exit=True)  # a hang is told by where it is
failing = ctypes.CDLL(None)
NAME = f"shmpool-failing-{os.getpid()}"
SHM = Path("/dev/shm")


def state():
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {
        "names in /dev/shm": sorted(entry.name for entry in SHM.iterdir() if NAME in entry.name),
        "descriptors": sorted(set(os.listdir("/proc/self/fd")) - {str(tracker._fd)}, key=int)[:-1],
        "mappings": sorted(line.split()[-1] for line in maps if "/dev/shm" in line),
        "threads": [thread.name for thread in threading.enumerate()],
        "children": [child.name for child in active_children()],
    }


class Attempt:
    def __init__(self, call, k, error):
        self.call, self.k, self.error = call, k, error
        self.calls = 0

    def complain(self, what):
        print(f"{sys.argv[1]}, {self.call} number {self.k} fails with "
              f"{errno.errorcode[self.error]}: {what}", flush=True)

    def check(self, before):
        for what, is_now in state().items():
            if more := Counter(is_now) - Counter(before[what]):
                self.complain(f"{what} left: {sorted(more.elements())}")

    def judge(self, error):
        if not isinstance(error, (OSError, shmpool.ShmpoolError)) or not str(error):
            self.complain(f"raises {error!r}")

    def __call__(self, operation):
        # Once with the fault; if that raises, nothing has changed, and once more without.
        before = state()
        failing.failing_arm(self.call.encode(), self.k, self.error)
        try:
            return operation()
        except BaseException as error:
            self.calls += failing.failing_hits()
            self.judge(error)
        finally:
            self.calls += failing.failing_hits()
        self.check(before)
        return operation()


def make():
    return Pool.create(slots=2, slot_size=4096, max_slots=3, queues=("a",), name=NAME)

def create(attempt):
    attempt(make).close()

def attach(attempt):
    attempt(lambda: Pool.attach(sys.argv[2])).close()

def acquire(attempt):
    with make() as pool:
        leases = [pool.acquire(), pool.acquire()]
        leases.append(attempt(lambda: pool.acquire(timeout=0)))
        memoryview(leases[2])[:] = bytes(4096)  # there is memory: no SIGBUS
        leases.clear()

def grow(attempt):
    with make() as pool:
        if attempt(lambda: pool.grow(1)) != 1:
            attempt.complain("did not grow")
        pool.audit()

def trim(attempt):
    with make() as pool:
        with contextlib.suppress(OSError):
            attempt(pool.trim)
        pool.trim()
        pool.grow(3)
        if pool.audit()["free"] != 3:
            attempt.complain("a slot is lost")

def wait(attempt):
    with Pool.attach(sys.argv[2]) as pool:
        def get():
            with contextlib.suppress(shmpool.QueueEmpty):
                pool.queue("a").get(timeout=0.001)
        attempt(get)
        get()

def exchange(attempt):
    with make() as pool, Pool.attach(pool.name) as other:
        def exchange():
            pool.queue("a").put(pool.acquire())
            other.queue("a").get().release()
        # The reaper meets newcomers by calls of its own.
        [reaper] = _reaper._all
        while not reaper._watched:
            pass
        attempt(exchange)

def ring(attempt):
    # Somebody waits, whose bell is opened for the first time: unheard, it costs him a slice.
    with Pool.attach(sys.argv[2]) as pool:
        got = []
        thread = threading.Thread(target=lambda: got.append(pool.queue("a").get()))
        thread.start()
        with Pool.attach(sys.argv[2]) as other:
            while not pool._mapping.doorbell.asleep:
                pass
            attempt(lambda: other.queue("a").put(other.acquire()))
            thread.join()
            got.pop().release()

def in_child(attempt, operation):
    if (pid := os.fork()) == 0:
        try:
            operation()
            os._exit(attempt.calls >= attempt.k)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in (0, 1):
        attempt.complain(f"the child ends with {code}")
    attempt.calls = attempt.k * (code == 1)

def rejoin(attempt):
    with Pool.attach(sys.argv[2]) as pool:
        def use():
            attempt(pool.acquire).release()
            pool.close()
        in_child(attempt, use)

def first_create(attempt):
    # In a child, which has to start a resource tracker.
    in_child(attempt, lambda: create(attempt))

def close(attempt):
    pool = make()
    pool.acquire().release()
    attempt(pool.close)

def farm(attempt):
    def start():
        farm = Farm(render, ArraySpec((2,), "u1"), workers=2, name=NAME)
        farm.__enter__()
        return farm
    with attempt(start) as farm:
        if [int(result.array[0]) for result in farm.map(range(3))] != [0, 1, 2]:
            attempt.complain("wrong results")


def run(operation, call, error):
    k = 1
    while True:
        attempt = Attempt(call, k, error)
        before = state()
        try:
            operation(attempt)
        except BaseException as problem:
            attempt.complain(f"and again without it: {traceback.format_exc()}")
            return
        attempt.check(before)
        if attempt.calls < k:
            return
        k += 1


operation = globals()[sys.argv[1]]
if sys.argv[1] != "first_create":
    operation(Attempt("nothing", 0, 1))  # what is opened once for ever
for argument in sys.argv[3:]:
    call, error = argument.split(":")
    run(operation, call, getattr(errno, error))
print("done")
"""

CALLS = (
    "posix_fallocate:ENOSPC", "posix_fallocate:EIO", "posix_fallocate:EINTR", "fallocate:EPERM",
    "mmap:ENOMEM", "sem_open:EMFILE", "shm_open:EMFILE", "shm_open:ENFILE", "open:EMFILE",
    "ftruncate:EINTR", "ftruncate:EIO", "fork:EAGAIN", "pidfd_open:EMFILE", "pidfd_open:ENODEV",
    "eventfd:EMFILE", "fcntl:EMFILE", "pipe:EMFILE", "pthread_create:EAGAIN",
)  # fmt: skip
OPERATIONS = (
    "create", "attach", "acquire", "grow", "trim", "wait", "exchange", "ring",
    "rejoin", "close",
)  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """failing.c, compiled."""
    path = tmp_path_factory.mktemp("failing") / "failing.so"
    command = ["cc", "-shared", "-fPIC", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", str(path), str(HERE / "failing.c")], check=True)
    return path


def complaints(library: Path, pool: Pool, operation: str, calls: tuple[str, ...]) -> str:
    """What a child has to complain of that goes through an operation with failing calls."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM, operation, pool.name, *calls]
    environment = os.environ | {"LD_PRELOAD": str(library)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr + run.stdout
    return run.stdout.removesuffix("done\n") + run.stderr


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_that_fails_is_an_error_and_leaves_nothing(
    operation: str, library: Path, make_pool: MakePool
) -> None:
    """Wherever it is made: told in words, everything undone, and good when tried again."""
    assert complaints(library, make_pool(), operation, CALLS) == ""


def test_the_resource_tracker_that_cannot_begin_leaves_nothing(
    library: Path, make_pool: MakePool
) -> None:
    """The first pool of a process starts it: before there is a name to be left behind."""
    calls = ("fork:EAGAIN", "pipe:EMFILE", "shm_open:EMFILE", "ftruncate:EIO")
    assert complaints(library, make_pool(), "first_create", calls) == ""


def test_a_crew_that_cannot_begin_leaves_nothing(library: Path, make_pool: MakePool) -> None:
    """No process, no pipe, no thread: the farm is undone, with the workers that were there."""
    calls = (
        "fork:EAGAIN", "pipe:EMFILE", "pthread_create:EAGAIN", "socketpair:EMFILE",
        "sem_open:EMFILE",
    )  # fmt: skip
    assert complaints(library, make_pool(), "farm", calls) == ""
