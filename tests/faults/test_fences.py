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
import atexit, contextlib, ctypes, errno, faulthandler, mmap, os, pathlib, signal, sys
import threading
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

@contextlib.contextmanager
def untold():
    "What other threads touch meanwhile is told at the end."
    shmpool._core.hold_touches(True)
    try:
        yield
    finally:
        with contextlib.suppress(UseAfterReleaseError):
            shmpool._core.hold_touches(False)
            nothing()

class Hammer:
    "A raw thread that writes to memory all the time."
    def __init__(self, where, length, byte):
        self.job = POINTER(c.hammer_begin(where, length, byte))
    def __enter__(self):
        return self
    def __exit__(self, *_):
        c.hammer_end(self.job)
    def strike(self, times=1):
        before = c.hammer_rounds(self.job)
        while c.hammer_rounds(self.job) < before + times:
            pass

def unharmed(pool, value=7):
    with pool.acquire() as lease:
        assert (lease.array(lease.nbytes, "u1") == value).all()

def in_child(body):
    "Run it in a fork: how it ended, as subprocess says it."
    child = os.fork()
    if not child:
        signal.alarm(20)  # nor of a child of one
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


def run(
    library: str, program: str, *arguments: str, prefix: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    """Run a program: exit code, stdout, stderr. A core is nobody's business."""
    command = [*prefix, sys.executable, "-c", PRELUDE + program, library, *arguments]
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
    if fenced and which == "faulthandler and a Python handler":
        another = fence(pool)  # when it reports, it puts that one in place of everybody
    if fenced and (way != "after" or from_python):
        told(c.touch, at(view))  # who lives on is told as before
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


SCENARIOS = {
    "our handlers come when they are needed": r"""
def caught(number):
    status = pathlib.Path("/proc/self/status").read_text()
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> number - 1 & 1)
assert not caught(signal.SIGSEGV) and not caught(signal.SIGBUS)
pool = make()
assert not caught(signal.SIGSEGV) and caught(signal.SIGBUS)
view = fence(pool)
assert caught(signal.SIGSEGV)
pool.close()
""",
    "a touch is told in each of its ways": r"""
with make(slots=2, slot_size=4 * PAGE) as pool:
    view = fence(pool)
    for number in range(3):  # it is closed again each time
        error = told(view.__getitem__, 5)
        assert (error.offset, error.write, error.slot) == (5, False, 0), vars(error)
        error = told(view.__setitem__, 2 * PAGE + number, 1)
        assert (error.offset, error.write) == (2 * PAGE + number, True)
    told(view.sum)  # numpy lets go of the GIL
    told(np.add, view, 1, view)
    told(memoryview(view).tobytes)
    told(c.memset, at(view), 1, 4 * PAGE)  # and so does ctypes
    told(c.touch_in_threads, at(view), 4 * PAGE, 9, 1)  # never seen by Python
    for _ in range(50):
        told(c.touch_in_threads, at(view), 4 * PAGE, 9, 8) if view[0] == 0 else None
    unharmed(pool)
""",
    "handlers that jump out, and those that repair": r"""
for way in ("before", "after"):
    if way == "before":
        c.install(b"jump", signal.SIGSEGV)
    with make() as pool:
        view = fence(pool)
        if way == "after":
            c.install(b"jump", signal.SIGSEGV)
            other = fence(pool)
        assert [c.touch_or_jump(POINTER(16)) for _ in range(5)] == [1] * 5
        assert c.jump_in_threads(POINTER(16), 200) == 200
        assert c.touch_or_jump(POINTER(16)) == 1
        assert told(c.touch_or_jump, at(view))
        c.install(b"repair", signal.SIGSEGV)
        other = fence(pool)
        for _ in range(3):
            c.touch(POINTER(c.memory_to_repair()))
            told(c.touch, at(view))
""",
    "who comes and goes is remembered once": r"""
with make() as pool:
    view = fence(pool)
    for _ in range(1000):
        signal.signal(signal.SIGSEGV, lambda *_: None)
        faulthandler.enable()
        faulthandler.disable()
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    told(c.touch, at(view))
    code = in_child(lambda: c.touch(POINTER(16)))
    assert code == -signal.SIGSEGV, code
""",
    "two at once, and while fences come and go": r"""
with make() as pool:
    for number in range(100):
        with untold():
            view = fence(pool, number)
            c.touch_in_threads(at(view), PAGE, 255, 8)
            unharmed(pool, number)
    for number in range(100):
        with untold(), Hammer(at(view), PAGE, 255) as hammer:
            other = fence(pool, number)
            hammer.strike()
            unharmed(pool, number)
            other = None
            hammer.strike()
            unharmed(pool, number)
        view = fence(pool, number)
""",
    "a writer that goes on while its lease ends": r"""
with make() as pool:
    for number in range(200):
        with untold():
            lease = pool.acquire()
            view = lease.array(PAGE, "u1")
            view[:] = number
            with Hammer(at(view), PAGE, number) as hammer:
                hammer.strike()
                lease.release()
                hammer.strike(2)
            unharmed(pool, number)
""",
    "a writer that goes on while the slot is shared and released": r"""
with make() as pool:
    for number in range(200):
        with untold():
            lease = pool.acquire()
            view = lease.array(PAGE, "u1")
            view[:] = 7
            with Hammer(at(view), PAGE, 7) as hammer:
                ticket = lease.share()
                hammer.strike()
                borrow = pool.borrow(ticket)
                lease.release()
                hammer.strike(2)  # not stuck in a fault
            assert (borrow.array(PAGE, "u1") == 7).all()
            borrow.release()
            lease = borrow = view = None
            unharmed(pool, 7)
""",
    "a wild pointer into places that slots move to": r"""
with make() as pool:
    view = fence(pool)
    other = fence(pool)  # the slot's home is behind one fence, its next place behind another
    hold = shmpool._core.hold_touches
    with untold(), Hammer(at(other, 1), 1, 255):
        del other  # nobody's address now, and it is touched all the time
        for number in range(300):
            with pool.acquire() as lease:  # comes there and goes away again
                kept = lease.array(PAGE, "u1")
                kept[2:] = number % 256
            with pool.acquire() as lease:
                assert (lease.array(PAGE, "u1")[2:] == number % 256).all()
        lease = kept = None
""",
    "forks: the parent's fence, the child's, and one that was just touched": r"""
import multiprocessing as mp
def touch_again():
    error = told(c.touch, at(view))
    assert error.thread == os.getpid(), vars(error)
    told(view.__getitem__, 1)
def own_fence():
    mine = fence(pool, 8)
    told(mine.__getitem__, 1)
    told(c.touch_in_threads, at(mine), PAGE, 9, 2)
    unharmed(pool, 8)
def both():
    touch_again()
    own_fence()
with make(slots=2, slot_size=PAGE) as pool:
    view = fence(pool)
    for body in (touch_again, own_fence, both):
        assert in_child(body) == 0
        child = mp.get_context("fork").Process(target=body)
        child.start()
        child.join()
        assert child.exitcode == 0
    unharmed(pool, 8)
    # What the parent touched is told there; in the child it is closed again.
    def not_told_but_closed():
        nothing()
        pool._mapping.check()
        told(c.touch, at(view))
    shmpool._core.hold_touches(True)
    c.touch_in_threads(at(view), 1, 9, 1)
    nothing()
    assert in_child(not_told_but_closed) == 0
    told(shmpool._core.hold_touches, False)
""",
    "forks in the middle of touches": r"""
with make(slots=2) as pool:
    for _ in range(50):
        with untold():
            view = fence(pool)
            with Hammer(at(view), PAGE, 9):
                assert in_child(lambda: told(c.touch, at(view))) == 0
    del view
    unharmed(pool)
""",
    "nothing is left half made or half closed": r"""
from shmpool import _create, _reaper
for handler in (signal.default_int_handler, signal.SIG_IGN, signal.SIG_DFL):
    signal.signal(signal.SIGINT, handler)
    with make() as pool:
        view = fence(pool)
        open_up, stop = _create.open_up, _reaper.Reaper.stop
        done = []
        def opened(mapping):
            open_up(mapping)
            c.touch(at(view))
            nothing()
            done.append("opened")
        def stopped(reaper):
            c.touch(at(view))
            nothing()
            stop(reaper)
            done.append("stopped")
        _create.open_up, _reaper.Reaper.stop = opened, stopped
        sys.unraisablehook = lambda what: done.append("told twice")
        with contextlib.suppress(UseAfterReleaseError):
            told(make)  # and it is closed, since nobody has it
        assert done == ["opened", "stopped", "told twice"], done
        _create.open_up = open_up
        other = make()
        done.clear()
        told(other.close)
        assert done == ["stopped"], done
        assert other.closed and signal.getsignal(signal.SIGINT) == handler
        other.close()
        _reaper.Reaper.stop = stop
        left = [name for name in os.listdir("/dev/shm") if pool.name not in name]
        assert not left, (pool.name, left)
        told(c.touch, at(view))
""",
    "where it is raised": r"""
with make() as pool:
    view = fence(pool)
    def generate():
        with contextlib.suppress(ZeroDivisionError):
            yield view[0]
            yield nothing()
    assert told(list, generate()).offset == 0
    def fail():
        try:
            1 / 0
        except ZeroDivisionError:
            view[1] = 1
            nothing()
    error = told(fail)
    assert isinstance(error.__context__, ZeroDivisionError)
    cleaned = []
    def clean():
        try:
            view[2]
            nothing()
        finally:
            cleaned.append(1)
    told(clean)
    assert cleaned == [1]
    class Thing:
        def __del__(self):
            view[3]
            nothing()
    seen = []
    sys.unraisablehook = lambda what: seen.append(type(what.exc_value))
    with contextlib.suppress(UseAfterReleaseError):
        del_me = Thing()
        del del_me
        nothing()
        assert seen == [UseAfterReleaseError], seen
    # Ctrl-C comes too, one after the other.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    def both():
        view[4]
        signal.raise_signal(signal.SIGINT)
        nothing()
    errors = []
    try:
        try:
            both()
        except (UseAfterReleaseError, KeyboardInterrupt) as error:
            errors += [error]
            nothing()
    except (UseAfterReleaseError, KeyboardInterrupt) as error:
        errors += [error]
    assert {type(error) for error in errors} == {UseAfterReleaseError, KeyboardInterrupt}, errors
    unharmed(pool)
""",
    "a main thread that waits": r"""
with make(slots=2, queues=("a",)) as pool:
    view = fence(pool)
    # A lock, whose acquire is one call: an error within an Event's wait may leave that locked.
    begun, go_on = threading.Event(), threading.Lock()
    go_on.acquire()
    def touch():
        begun.wait()
        c.touch(at(view))
        go_on.release()
    thread = threading.Thread(target=touch)
    thread.start()
    def wait():
        begun.set()
        go_on.acquire()
        thread.join()
    told(wait)
    thread.join()
    view = fence(pool)
    thread = threading.Thread(target=c.touch, args=(at(view),))
    def wait_for_ever():
        thread.start()
        pool.queue("a").get()
    error = told(wait_for_ever)
    thread.join()
    assert error.thread == thread.native_id
    # A thread that calls us again is told itself, if the main thread is not faster.
    view = fence(pool)
    here, others = [], []
    def touch_and_call():
        c.touch(at(view))
        try:
            pool.acquire().release()
        except UseAfterReleaseError as error:
            here.append(error)
    thread = threading.Thread(target=touch_and_call)
    try:
        thread.start()
        while not here:
            nothing()
    except UseAfterReleaseError as error:
        others.append(error)
    thread.join()
    assert len(here + others) == 1
""",
    "many threads of numpy": r"""
from concurrent.futures import ThreadPoolExecutor
with make(slots=1, slot_size=256 * PAGE) as pool, ThreadPoolExecutor(4) as executor:
    def add(part, done):
        part.sum()
        done.release()
    for _ in range(20):
        view = fence(pool)
        # Told while the main thread holds a lock of the executor, that would stay locked.
        ends = [threading.Lock() for _ in range(4)]
        shmpool._core.hold_touches(True)
        for end in ends:
            end.acquire()
        futures = [executor.submit(add, view[n::4], end) for n, end in enumerate(ends)]
        with contextlib.suppress(UseAfterReleaseError):
            shmpool._core.hold_touches(False)
            for end in ends:
                end.acquire()
            nothing()
            raise AssertionError("not told")
        with untold():
            for future in futures:
                future.result()
        unharmed(pool)
        view = futures = None
""",
    "a full list of pending calls": r"""
with make() as pool:
    view = fence(pool)
    add = ctypes.cast(ctypes.pythonapi.Py_AddPendingCall, POINTER)
    c.touch_with_a_full_list(add, at(view))
    nothing()
    told(pool.acquire)
    assert told(c.touch, at(view))
""",
    "a file whose name is cut in half a character": r"""
code = compile("lease.release()", "x" * 44 + "äöüß" * 8 + ".py", "exec")
with make() as pool:
    lease = pool.acquire()
    view = lease.array(PAGE, "u1")
    exec(code)
    error = told(view.__getitem__, 0)
    assert error.file.startswith("x" * 44), error.file
""",
    "a system call is not a touch": r"""
with make() as pool:
    view = fence(pool)
    reading, writing = os.pipe()
    os.write(writing, b"abc")
    for call in (os.writev, os.readv):
        error = raised(OSError, call, writing if call is os.writev else reading, [view])
        assert error.errno == errno.EFAULT, error
    nothing()
    pool._mapping.check()  # nothing was touched
    unharmed(pool)
    told(c.touch, at(view))
""",
    "storms of signals": r"""
counts = [0, 0]
def count(number, _):
    counts[number == signal.SIGPROF] += 1
signal.signal(signal.SIGALRM, count)
signal.signal(signal.SIGPROF, count)
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
signal.setitimer(signal.ITIMER_PROF, 1e-3, 1e-3)
with make(slots=2, slot_size=16 * PAGE) as pool:
    done = 0
    while done < 2000 or min(counts) < 20:
        view = fence(pool, done % 256)
        try:
            view[done % view.size] = 255
            while True:  # a signal that hits another thread can take Python's mark of pending calls
                nothing()
        except UseAfterReleaseError:
            pass
        unharmed(pool, done % 256)
        done += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.setitimer(signal.ITIMER_PROF, 0)
""",
    "a hundred thousand touches": r"""
def memory():
    maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return len(maps), pages * PAGE
with make(slots=2, slot_size=4 * PAGE) as pool:
    view = fence(pool)
    def touch(times):
        for number in range(times):
            try:
                view[number % view.size] = 255
                nothing()
            except UseAfterReleaseError as error:
                assert error.offset == number % view.size
            else:
                raise AssertionError(number)
    touch(1000)
    before = memory()
    touch(99_000)
    after = memory()
    assert after[0] <= before[0] + 2 and after[1] < before[1] + (4 << 20), (before, after)
    unharmed(pool)
    for _ in range(1000):
        view = fence(pool)
        told(view.__getitem__, 0)
    assert memory()[0] <= before[0] + 8
""",
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_touches(scenario: str, touching: str) -> None:
    """Every touch is told of, no slot is harmed, and nothing hangs or dies."""
    assert run(touching, SCENARIOS[scenario]) == QUIET


AT_EXIT = {
    "fences that stand": ("pool = make(); view = fence(pool)", ""),
    "touched in the last statement": (
        "pool = make(); view = fence(pool); view[0] = 1",
        "UseAfterReleaseError",
    ),
    "touched in atexit": (
        "pool = make(); view = fence(pool)\natexit.register(lambda: (view.sum(), nothing()))",
        "UseAfterReleaseError",
    ),
    "touched by a thread while others are waited for": (
        "begun, told, done, tell = threading.Event(), threading.Event(), [], sys.unraisablehook\n"
        "threading._register_atexit(begun.set)  # what comes first is called last\n"
        "pool = make(); view = fence(pool)\n"
        "sys.unraisablehook = lambda what: (tell(what), told.set())\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "def touch():\n"
        " begun.wait(); view.fill(1)\n"
        " # The main thread may be waiting for the other one first, and tells when it is woken.\n"
        " while not told.is_set():\n"
        "  signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)\n"
        "def work():\n"
        " told.wait()\n"
        " for _ in range(1000): pool.acquire().release()\n"
        " done.append(1)\n"
        "for what in (touch, work): threading.Thread(target=what).start()\n"
        "atexit.register(lambda: done or os._exit(1))",
        "UseAfterReleaseError",
    ),
    "touched when modules are taken down": (
        "pool = make(); view = fence(pool)\n"
        "class Late:\n"
        " def __init__(self): self.view = view\n"
        " def __del__(self): self.view[0] = 1; len(self.view)\n"
        "sys.kept = Late()",
        "",
    ),
    "touched when Python is over": (
        "pool = make(); view = fence(pool); c.touch_at_exit(at(view)); sys.kept = view\n"
        "ctypes.pythonapi.Py_IncRef(ctypes.py_object(view))",
        "",
    ),
    "touched by a raw thread all the time": (
        "pool = make(); view = fence(pool); shmpool._core.hold_touches(True)\n"
        "ctypes.pythonapi.Py_IncRef(ctypes.py_object(view)); hammer = Hammer(at(view), PAGE, 9)\n"
        "hammer.strike()",
        "",
    ),
    "touched by a daemon all the time": (
        "pool = make(); view = fence(pool); begun = threading.Event()\n"
        "shmpool._core.hold_touches(True)\n"
        "def go_on():\n"
        " while True: view.fill(1); begun.set()\n"
        "threading.Thread(target=go_on, daemon=True).start(); begun.wait()",
        "",
    ),
}


@pytest.mark.parametrize("case", AT_EXIT)
def test_the_interpreter_ends_with_fences_standing(case: str, touching: str) -> None:
    """Exit code 0: told where there is somebody to tell, else in silence."""
    program, words = AT_EXIT[case]
    code, out, err = run(touching, program)
    assert (code, out) == (0, ""), err
    assert words in err if words else not err, err


OVERFLOW = r"""
if sys.argv[2] == "before":
    faulthandler.enable()
pool = make()
if sys.argv[3] == "fenced":
    view = fence(pool)
if sys.argv[2] == "after":
    faulthandler.enable()
pool.close()
if sys.argv[3] == "fenced":
    told(c.touch, at(view))
    del view
c.overflow(1)
"""


@pytest.mark.parametrize("enabled", ["before", "after", "never"])
def test_an_overflow_of_the_stack_is_reported_as_before(enabled: str, touching: str) -> None:
    """On faulthandler's alternate stack: SIGSEGV, and the traceback once."""
    ends = [run(touching, OVERFLOW, enabled, fenced) for fenced in ("", "fenced")]
    words = [err.count("Fatal Python error: Segmentation fault") for _, _, err in ends]
    traces = [err.count('File "<string>", line') for _, _, err in ends]
    assert [code for code, _, _ in ends] == [-11, -11], ends
    assert words == [enabled != "never"] * 2, ends
    assert traces == [traces[0]] * 2, ends


# --- memory that is gone ------------------------------------------------------------------------

CUT = r"""
how, where = sys.argv[2:4]
pool = make(slots=3, slot_size=4 * PAGE, queues=("a",))
lease, other = pool.acquire(), pool.acquire()
view = lease.array(lease.nbytes, "u1")
view[:] = 7
path = f"/dev/shm/{pool.name}" + (".slab0" if where == "slab" else "")

def cut():
    if where == "page":
        os.truncate(path, PAGE)
    else:
        os.truncate(path, 0)

def use():
    if how == "view":
        cut()
        view[2 * PAGE + 5] = 1
    elif how == "reaper":
        cut()
        while True:
            nothing()
    elif how == "put":
        cut()
        pool.queue("a").put(other)
    elif how == "get":
        pool.queue("a").put(other)
        cut()
        pool.queue("a").get(timeout=1)
    elif how == "release":
        cut()
        other.release()
    elif how == "acquire":
        cut()
        pool.acquire()
    elif how == "thread":
        cut()
        thread = threading.Thread(target=c.touch, args=(at(view),))
        thread.start()
        thread.join()

error = raised(SegmentTruncatedError, use)
place = f"of slot {lease.slot}" if where == "slab" else "of the control block"
for part in (os.path.basename(path), "was cut from", place, "close the pool"):
    assert part in str(error), error
while True:  # the reaper may come upon it a second time
    try:
        nothing()
        queue = pool.queue("a")
        for call in (pool.acquire, pool.acquire_nowait, queue.get, pool.grow, pool.trim):
            raised(SegmentTruncatedError, call)
        for call in (pool.claim, pool.borrow, pool.peek):
            raised(SegmentTruncatedError, call, 1 << 20)
        break
    except SegmentTruncatedError:
        pass
while not pool._mapping.closed:
    with contextlib.suppress(SegmentTruncatedError, shmpool.LeasesAliveError):
        pool.close()
with contextlib.suppress(SegmentTruncatedError):
    nothing()
left = [name for name in os.listdir("/dev/shm") if pool.name in name]
assert not left, left
"""


@pytest.mark.parametrize(
    ("how", "where"),
    [
        *((how, "slab") for how in ("view", "thread")),
        *((how, "control") for how in ("acquire", "release", "put", "get", "reaper")),
        *((how, "page") for how in ("acquire", "release", "put", "get", "reaper")),
    ],
)
def test_a_segment_that_is_cut_is_an_error(how: str, where: str, touching: str) -> None:
    """SegmentTruncatedError, and no signal; so are further calls; close() leaves nothing behind."""
    assert run(touching, CUT, how, where) == QUIET


HOLE = r"""
pool = make(slots=2, slot_size=4 * PAGE)
lease = pool.acquire()
view = lease.array(lease.nbytes, "u1")
view[:] = 7
with open(f"/dev/shm/{pool.name}.slab0", "r+b") as slab:
    offset, length = (ctypes.c_long(n * PAGE) for n in (4 * lease.slot + 1, 1))
    assert ctypes.CDLL(None).fallocate(slab.fileno(), 3, offset, length) == 0
with open("/dev/shm/filler", "wb") as filler:
    space = os.statvfs("/dev/shm")
    os.posix_fallocate(filler.fileno(), 0, space.f_bavail * space.f_frsize)
error = raised(SegmentTruncatedError, view.sum)
assert "a hole in it when /dev/shm was full" in str(error) and "slot 0" in str(error), error
assert (view[:PAGE] == 7).all() and not view[PAGE:].any()
os.unlink("/dev/shm/filler")
del view
lease.release()
pool.close()
assert not os.listdir("/dev/shm")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a /dev/shm of one's own takes root")
def test_a_page_that_cannot_be_had_again_is_an_error(touching: str) -> None:
    """Somebody made a hole in a slab, and /dev/shm is full: no signal, and words for it."""
    mount = (
        "unshare",
        "-m",
        "sh",
        "-ec",
        'mount -t tmpfs -o size=2m none /dev/shm; exec "$@"',
        "-",
    )
    assert run(touching, HOLE, prefix=mount) == QUIET
