"""`import shmpool` brings the pool, and the farm when it is asked for."""

from __future__ import annotations

import pickle
import subprocess
import sys
from types import ModuleType

import pytest

import shmpool

FARM = {"shmpool.farm", "shmpool.executor", "concurrent.futures"}
# What only some programs ask a pool for, and types.
RARE = {"shmpool._survey", "shmpool._statistics", "numpy.typing"}
# What the first pool needs, and `import shmpool` does not.
FIRST = {"multiprocessing", "multiprocessing.util", "subprocess", "socket", "selectors", "runpy"}
FARMS = {"secrets", "shutil"}  # the farm needs them, and so may the first pool

_BEFORE = "import numpy, sys; before = set(sys.modules)\n"
_AFTER = "\nprint(*set(sys.modules) - before)"


def _run(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _brought(program: str) -> set[str]:
    """Modules that a program imports, without those that numpy brings."""
    return set(_run(_BEFORE + program + _AFTER).split())


def test_a_pool_does_not_pay_for_what_it_does_not_use() -> None:
    """Neither the farm nor what only that needs is imported, nor what only some pools do."""
    brought = _brought("import shmpool")
    assert "shmpool.pool" in brought
    assert not brought & (FARM | FARMS | RARE | FIRST)


def test_a_pool_lives_without_what_comes_late() -> None:
    """Made, used and closed."""
    brought = _brought(
        "import shmpool\n"
        "with shmpool.Pool.create(slots=1, slot_size=1, queues=['q']) as pool:\n"
        "    pool.queue('q').put(pool.acquire())\n"
        "    pool.queue('q').get().release()"
    )
    assert "multiprocessing.util" in brought
    assert not brought & (FARM | RARE)


def test_statistics_come_when_they_are_asked_for() -> None:
    """By the pool, by name, or by a pickle."""
    pool = "import shmpool\nwith shmpool.Pool.create(slots=1, slot_size=1) as pool:"
    assert "shmpool._statistics" in _brought(f"{pool} pool.statistics()")
    assert "shmpool._statistics" in _brought(f"{pool} pool.quarantined()")
    assert "shmpool._statistics" in _brought("from shmpool import PoolStatistics")
    pickled = pickle.dumps(shmpool.PoolStatistics)
    assert "shmpool._statistics" in _brought(f"import pickle; pickle.loads({pickled!r})")


def test_who_only_attaches_does_without_multiprocessing() -> None:
    """From the import to the exit."""
    with shmpool.Pool.create(slots=1, slot_size=1) as pool:
        brought = _brought(
            f"import shmpool\npool = shmpool.Pool.attach({pool.name!r})\npool.acquire().release()"
        )
    assert "shmpool.pool" in brought
    assert not brought & (FARM | RARE | FIRST)


@pytest.mark.parametrize("first", ["", "import multiprocessing.util"])
def test_who_attached_leaves_at_its_exit(first: str) -> None:
    """What was registered earlier runs later, and finds the pool closed."""
    with shmpool.Pool.create(slots=1, slot_size=1) as pool:
        said = _run(f"""
import atexit
atexit.register(lambda: print(pool.closed))
{first}
from shmpool import Pool
pool = Pool.attach({pool.name!r})
print(pool.closed)
""")
    assert said.split() == ["False", "True"]


@pytest.mark.parametrize("first", ["", "import multiprocessing.util"])
@pytest.mark.parametrize("how", ["attach({name!r})", "create(slots=1, slot_size=1)"])
def test_what_is_registered_later_may_use_the_pool_at_the_exit(how: str, first: str) -> None:
    """It is closed by what its making registered, and what came last comes first."""
    with shmpool.Pool.create(slots=1, slot_size=1) as pool:
        said = _run(f"""
import atexit
{first}
from shmpool import Pool
pool = Pool.{how.format(name=pool.name)}
atexit.register(lambda: (pool.acquire().release(), print("used")))
""")
    assert said.split() == ["used"]


def test_a_pool_attached_at_the_exit_can_be_closed() -> None:
    """Though what is registered then is not run any more."""
    with shmpool.Pool.create(slots=1, slot_size=1) as pool:
        said = _run(f"""
import atexit
from shmpool import Pool

@atexit.register
def use():
    with Pool.attach({pool.name!r}) as pool:
        pool.acquire().release()
    print(pool.closed, pool._mapping.closed)

Pool.attach({pool.name!r}).close()
""")
    assert said.split() == ["True", "True"]


@pytest.mark.parametrize("first", ["", "import multiprocessing.util"])
def test_the_exit_of_a_forked_child_ends_nothing_of_its_parent(first: str) -> None:
    """Nor its own view of it, while its other functions of the exit run."""
    with shmpool.Pool.create(slots=1, slot_size=1) as pool:
        said = _run(f"""
import atexit, os
atexit.register(lambda: print(pool.closed, flush=True))
{first}
from shmpool import Pool
pool = Pool.attach({pool.name!r})
lease = pool.acquire()
if child := os.fork():
    print(os.waitpid(child, 0)[1], lease.live, pool.closed, len(pool.statistics().members))
""")
    assert said.split() == ["False", "0", "True", "False", "2", "True"]


def test_nothing_is_left_where_what_a_pool_needs_cannot_be_imported() -> None:
    """It is asked for first: no segment waits for somebody to remove it."""
    said = _run("""
import os, sys
from shmpool import Pool
name = f"shmpool-test-{os.getpid()}"
sys.modules["multiprocessing"] = None
try:
    Pool.create(slots=1, slot_size=1, name=name)
except ImportError as error:
    print(error.name, *(left for left in os.listdir("/dev/shm") if name in left))
del sys.modules["multiprocessing"]
with Pool.create(slots=1, slot_size=1, name=name):
    print("made")
""")
    assert said.split() == ["multiprocessing", "made"]


@pytest.mark.parametrize("name", shmpool.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """And is listed."""
    assert name in dir(shmpool)
    assert getattr(shmpool, name) is getattr(shmpool, name)


@pytest.mark.parametrize("name", shmpool.__all__)
def test_every_public_name_travels(name: str) -> None:
    """A pickle of it brings itself, in a process that has not asked for it yet."""
    thing = getattr(shmpool, name)
    if isinstance(thing, ModuleType):
        assert thing is sys.modules[thing.__name__]
    else:
        assert pickle.loads(pickle.dumps(thing)) is thing  # noqa: S301


def test_a_name_that_is_none_is_told() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'shmpool' has no attribute 'Frm'"):
        shmpool.Frm  # noqa: B018 - it is looked for
