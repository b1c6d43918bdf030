"""Fences and signals: a touch of ours is told, and every other fault goes where it would have gone.

Each scenario is a program of its own, since it may die by what it does. touching.c does what
Python cannot: raw threads, and signal handlers of every kind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PRELUDE = r"""
import atexit, contextlib, ctypes, faulthandler, mmap, os, pathlib, queue, signal, sys, threading
faulthandler.dump_traceback_later(100, exit=True)  # no orphan of a test that hangs
import numpy as np
import shmpool
from shmpool import Pool, SegmentTruncatedError, UseAfterReleaseError

c = ctypes.CDLL(sys.argv[1])
c.hammer_begin.restype = c.memory_to_repair.restype = ctypes.c_void_p
c.hammer_rounds.restype = ctypes.c_ulong
POINTER = ctypes.c_void_p
PAGE = 4096

def make(slots=1, slot_size=PAGE, **options):
    return Pool.create(slots=slots, slot_size=slot_size, members=8, **options)

def fence(pool, value=7):
    lease = pool.acquire()
    view = lease.array(lease.nbytes, "u1")
    view[:] = value
    lease.release()
    return view

def at(view, offset=0):
    return POINTER(view.ctypes.data + offset)

def nothing():
    pass

def raised(kind, call, *arguments):
    try:
        call(*arguments)
        nothing()  # here at the latest
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")

def told(call, *arguments):
    return raised(UseAfterReleaseError, call, *arguments)

def unharmed(pool, value=7):
    with pool.acquire() as lease:
        assert (lease.array(lease.nbytes, "u1") == value).all()

def in_child(body):
    "Run it in a fork: how it ended, as subprocess says it."
    child = os.fork()
    if not child:
        signal.alarm(60)  # nor of a child of one
        status = 98
        try:
            body()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@pytest.fixture(scope="session")
def touching(tmp_path_factory: pytest.TempPathFactory) -> str:
    """touching.c, compiled."""
    path = tmp_path_factory.mktemp("touching") / "touching.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-D_GNU_SOURCE", "-pthread"]
    subprocess.run([*command, "-o", str(path), str(HERE / "touching.c")], check=True)
    return str(path)


def run(library: str, program: str, *arguments: str, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run a program: exit code, stdout, stderr. A core is nobody's business."""
    command = [sys.executable, *options, "-c", PRELUDE + program, library, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


QUIET = (0, "", "")

# --- whose fault it is ------------------------------------------------------------------------

COMPARED = r"""
from multiprocessing import resource_tracker
resource_tracker.ensure_running()  # its words are not part of anybody's
which = sys.argv[2]
from_python = "Python" in which or "faulthandler" in which
enable, disable, install = faulthandler.enable, faulthandler.disable, signal.signal

def before_us(number, way):
    "Install what the user has: with names that we have wrapped, or that were taken before."
    use = (enable, disable, install) if way == "behind our back" else (
        faulthandler.enable, faulthandler.disable, signal.signal)
    if which == "faulthandler":
        use[0]()
    elif which == "faulthandler and a Python handler":
        use[2](number, lambda *_: print("handled"))
        use[0]()
    elif which == "faulthandler, disabled":
        use[0]()
        use[1]()
    elif which == "faulthandler, disabled later":
        use[0]()
    elif which == "a Python handler":
        use[2](number, lambda *_: print("handled"))
    elif which == "Python's default":
        use[2](number, lambda *_: print("handled"))
        use[2](number, signal.SIG_DFL)
    elif which == "ignored by Python":
        use[2](number, signal.SIG_IGN)
    else:
        c.install(which.encode(), number)

def fault(number, kind):
    if kind == "sent":
        os.kill(os.getpid(), number)
    elif kind == "raised":
        signal.raise_signal(number)
    elif number == signal.SIGBUS:
        with open("/dev/shm/cut", "w+b") as file:
            os.unlink("/dev/shm/cut")
            file.truncate(PAGE)
            memory = np.frombuffer(mmap.mmap(file.fileno(), PAGE), "u1")
            file.truncate(0)
            (c.crash_in_thread if kind == "in a thread" else c.touch)(at(memory))
    else:
        (c.crash_in_thread if kind == "in a thread" else c.touch)(POINTER(16))

def scenario(number, way, kind, fenced):
    if way == "before":
        before_us(number, way)
    pool = make()
    if fenced:
        view = fence(pool)
    if way != "before":
        before_us(number, way)
    if way == "behind our back" and fenced:
        other = fence(pool)
    if which == "faulthandler, disabled later":
        faulthandler.disable()
    # A handler from C is in front of ours, and asked first, until the next fence.
    if fenced and (way != "after" or from_python or which == "nobody"):
        told(c.touch, at(view))
        told(c.touch, at(view))
    for _ in range(2 if which == "once" else 1):
        fault(number, kind)
        nothing()
    pool.close()

def outcome(*arguments):
    reading, writing = os.pipe()
    def body():
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        scenario(*arguments)
    code = in_child(body)
    os.close(writing)
    with open(reading) as file:
        said = file.read()
    ours = ("threading.py", "shmpool", "Thread 0x", "Extension modules", "in make")
    for name in os.listdir("/dev/shm"):
        os.unlink(f"/dev/shm/{name}")
    return code, [line for line in said.splitlines() if line and not any(o in line for o in ours)]

kinds = ("here", "in a thread", "sent", "raised")
ways = ("before", "after", "behind our back")
if "a Python handler" in which:
    kinds = kinds[2:]  # the instruction would fault for ever, as it does without us
if which == "faulthandler, disabled later":
    ways = ways[:2]  # nobody can tell that it was enabled
for number in (signal.SIGSEGV, signal.SIGBUS):
    for way in ways:
        for kind in kinds:
            without, with_fence = (outcome(number, way, kind, fenced) for fenced in (False, True))
            if without != with_fence:
                print(signal.Signals(number).name, way, kind, without, with_fence, sep="\n  ")
            if (kind, way) == (kinds[-1], "before"):
                print(*without, file=sys.stderr)
"""

BEFORE_US = (
    "nobody",
    "faulthandler",
    "faulthandler and a Python handler",
    "faulthandler, disabled",
    "faulthandler, disabled later",
    "a Python handler",
    "Python's default",
    "ignored by Python",
    "plain",
    "informed",
    "once",
    "chain",
    "chains",
    "masks",
    "ignored",
    "default",
)


@pytest.mark.parametrize("which", BEFORE_US)
def test_a_fault_that_is_not_ours_goes_where_it_would_have_gone(which: str, touching: str) -> None:
    """The same end and the same words as in a process that has no fence, whoever was there first.

    Installed before the first fence, after it, and behind our back with a fence after that;
    at an instruction, in another thread, sent by kill(2) and raised.
    """
    code, out, err = run(touching, COMPARED, which)
    assert (code, out) == (0, ""), err
