"""The pytest plugin: whoever leaves a slot, a pool or a process behind fails, with the line."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import os
import subprocess
import sys

import pytest

import shmpool
from shmpool import testing


@pytest.fixture
def pool():
    with shmpool.Pool.create(slots=4, slot_size=64, name="frames", queues=("a",)) as pool:
        yield pool


kept = []
"""
LEASE = """
def test_y(pool):
    kept.append(pool.acquire())  # here
"""
BORROW = """
def test_y(pool):
    with pool.acquire() as lease:
        kept.append(pool.borrow(lease.share()))  # here
"""
POOL = """
def test_y():
    kept.append(shmpool.Pool.create(slots=1, slot_size=64, name="forgotten"))  # here
"""
PROCESS = """
def test_y(pool):
    begun = "print(flush=True); input()"  # until then the system may have no command line of it
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    kept.append(subprocess.Popen([sys.executable, "-c", begun], **pipes))
    kept[0].stdout.readline()


def test_z():
    kept.pop().communicate()
"""
# A pool that is closed with leases in hand says so, too: these have a fixture that does not mind.
PATIENT = """
@pytest.fixture
def pool():
    pool = shmpool.Pool.create(slots=4, slot_size=64, name="frames", queues=("a",))
    yield pool
    try:
        pool.close()
    except shmpool.LeasesAliveError:
        pass
"""


def run(pytester: pytest.Pytester, program: str, *options: str) -> pytest.RunResult:
    """Run a module of tests in a process of its own."""
    pytester.makepyfile(test_x=HEAD + program)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)


def line_of(program: str) -> int:
    lines = (HEAD + program).strip().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith("# here"))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            LEASE,
            "left 1 lease behind: slot 0 of pool 'frames', acquired at test_x.py:{line} *.* s ago",
        ),
        (
            BORROW,
            "left 1 borrow behind: slot 0 of pool 'frames', acquired at test_x.py:{line} *.* s ago",
        ),
    ],
    ids=["lease", "borrow"],
)
def test_a_right_that_is_left_behind_fails_its_test(
    pytester: pytest.Pytester, program: str, said: str
) -> None:
    """What it was, of which pool, and the line that took it."""
    result = run(pytester, PATIENT + program)
    result.assert_outcomes(passed=1, errors=1)
    text = said.format(line=line_of(PATIENT + program))
    result.stdout.fnmatch_lines([f"*test_x.py::test_y {text}"])


def test_a_pool_that_is_left_behind_fails_its_test(pytester: pytest.Pytester) -> None:
    """With the line that made it; the next test is not blamed for it."""
    result = run(pytester, POOL + "def test_z():\n    pass\n")
    result.assert_outcomes(passed=2, errors=1)
    text = f"left 1 pool behind: 'forgotten', made at test_x.py:{line_of(POOL)} *.* s ago"
    result.stdout.fnmatch_lines([f"*test_x.py::test_y {text}"])


def test_a_process_that_is_left_behind_fails_its_test(pytester: pytest.Pytester) -> None:
    """With its command and pid."""
    result = run(pytester, PROCESS)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*test_x.py::test_y left 1 process behind: *; input() (pid *)"])


CLEAN = {
    "everything ends": """
def test_y(pool):
    with pool.acquire() as lease:
        pool.borrow(lease.share()).release()
    pool.queue("a").put(pool.acquire())
    pool.queue("a").get().leave_to_views()
    subprocess.run([sys.executable, "-c", ""], check=True)
""",
    "a wider fixture keeps it": """
@pytest.fixture(scope="module")
def shared():
    pool = shmpool.Pool.create(slots=2, slot_size=64, leaks="all")
    lease = pool.acquire()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield pool
    child.communicate()
    lease.release()
    pool.close()


def test_y(shared):
    shared.acquire().release()


def test_z(shared):
    shared.acquire().release()
""",
    "a fixture gives it back": """
@pytest.fixture
def lease(pool):
    lease = pool.acquire()
    yield lease
    lease.release()


def test_y(lease):
    assert lease.live
""",
    "it is abandoned": """
def test_y(pool):
    testing.abandon(pool.acquire())
""",
    "it does not use shmpool": """
def test_y():
    begun = "print(flush=True); input()"  # until then the system may have no command line of it
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    kept.append(subprocess.Popen([sys.executable, "-c", begun], **pipes))
    kept[0].stdout.readline()


def test_z():
    kept.pop().communicate()
""",
    "it is marked": PATIENT
    + """
@pytest.mark.shmpool_leaks(reason="to see what happens")
def test_y(pool):
    kept.append(pool.acquire())
""",
}


@pytest.mark.parametrize("program", CLEAN.values(), ids=CLEAN)
def test_a_clean_test_passes(pytester: pytest.Pytester, program: str) -> None:
    """What has ended, is a wider fixture's, or is excused."""
    result = run(pytester, program)
    assert result.ret == 0, result.stdout.str()


def test_what_a_test_takes_from_a_wider_fixture_is_its_own(pytester: pytest.Pytester) -> None:
    """The pool is the module's, the lease the test's; the other test is not blamed."""
    program = """
@pytest.fixture(scope="module")
def shared():
    pool = shmpool.Pool.create(slots=2, slot_size=64, name="shared")
    yield pool
    while kept:
        kept.pop().release()
    pool.close()


def test_w(shared):
    shared.acquire().release()


def test_y(shared):
    kept.append(shared.acquire())  # here


def test_z(shared):
    shared.acquire().release()
"""
    result = run(pytester, program)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*::test_y left 1 lease behind: slot 0 of pool 'shared'*"])


def test_the_ini_file_switches_it_off(pytester: pytest.Pytester) -> None:
    """`shmpool_leaks = off`, and nothing else than on."""
    pytester.makeini("[pytest]\nshmpool_leaks = off\n")
    run(pytester, PATIENT + LEASE).assert_outcomes(passed=1)
    pytester.makeini("[pytest]\nshmpool_leaks = loud\n")
    result = run(pytester, LEASE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*shmpool_leaks is 'loud': on or off"])


def test_a_test_that_fails_is_not_blamed_twice(pytester: pytest.Pytester) -> None:
    """Its traceback holds what it held."""
    result = run(pytester, PATIENT + LEASE + "    raise KeyError\n")
    result.assert_outcomes(failed=1)


@pytest.mark.parametrize("end", ["assert 1 == 2", "pytest.skip()"])
def test_no_later_test_is_told_of_what_a_failed_one_held(
    pytester: pytest.Pytester, end: str
) -> None:
    """Its traceback goes some day, and a LeakWarning may be an error of whoever runs then."""
    program = f"""
@pytest.fixture(scope="module")
def shared():
    with shmpool.Pool.create(slots=4, slot_size=64) as pool:
        yield pool

def test_y(shared):
    lease = shared.acquire()
    kept.append([lease])
    kept[0].append(kept[0])
    {end}

def test_z():
    import gc
    kept.clear()
    sys.last_value = sys.last_traceback = None
    gc.collect()
"""
    result = run(pytester, program, "-W", "error")
    result.assert_outcomes(passed=1, **{"failed" if "assert" in end else "skipped": 1})


@pytest.mark.parametrize("options", [("-p", "shmpool.testing"), ()])
def test_it_is_loaded_by_name_or_by_itself(
    pytester: pytest.Pytester, options: tuple[str, ...]
) -> None:
    """Once in either case."""
    run(pytester, PATIENT + LEASE, *options).assert_outcomes(passed=1, errors=1)


def test_the_library_needs_no_pytest(pytester: pytest.Pytester) -> None:
    """`import shmpool` does not import it."""
    path = pytester.makepyfile(x="import sys, shmpool\nassert 'pytest' not in sys.modules\n")
    assert pytester.runpython(path).ret == 0
