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


def test_nothing_is_left_where_what_a_pool_needs_cannot_be_imported() -> None:
    """It is asked for first: neither a segment nor a membership waits for somebody to end it."""
    with shmpool.Pool.create(slots=1, slot_size=1) as pool:
        program = f"""
import os, sys
from shmpool import Pool
sys.modules["multiprocessing"] = None
for make in (lambda: Pool.create(slots=1, slot_size=1, name="{pool.name}-2"),
             lambda: Pool.attach("{pool.name}")):
    try:
        make()
    except ImportError as error:
        print(error.name, *(name for name in os.listdir("/dev/shm") if "{pool.name}-2" in name))
input()
del sys.modules["multiprocessing"]
with Pool.create(slots=1, slot_size=1, name="{pool.name}-2"), Pool.attach("{pool.name}"):
    print("both")
"""
        command = [sys.executable, "-c", program]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout
            assert child.stdout.readline() == child.stdout.readline() == "multiprocessing\n"
            assert len(pool.statistics().members) == 1
            assert child.communicate("\n")[0] == "both\n"
        assert child.returncode == 0


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
