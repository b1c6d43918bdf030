"""Fixtures, and the check that nothing is left behind: no process, no name, no descriptor."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import active_children, forkserver
from multiprocessing.resource_tracker import _resource_tracker  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import shmpool

SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is

# Random inputs are the same in every run; with SHMPOOL_PROVE=1 others each time.
settings.register_profile(
    "shmpool",
    derandomize=os.environ.get("SHMPOOL_PROVE") != "1",
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # it says something of the machine
)
settings.load_profile("shmpool")


def names() -> set[str]:
    """What lies in /dev/shm, but for what multiprocessing itself keeps there."""
    return {
        name
        for name in (entry.name for entry in SHM.iterdir())
        if not name.startswith(("sem.mp-", "sem.loky"))
    }


def children() -> set[int]:
    """Children of this process, but for the helpers that multiprocessing keeps."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = set()
    for task in tasks:
        with suppress(OSError):  # a thread that has ended meanwhile
            pids |= {int(pid) for pid in task.read_text().split()}
    kept = {_resource_tracker._pid, forkserver._forkserver._forkserver_pid}
    return pids - kept


@pytest.fixture(autouse=True)
def nothing_is_left_behind(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Every test gives back what it took, names in /dev/shm and processes; no reaper complains."""
    before = names()
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    errors = [record.getMessage() for record in records if record.levelno >= logging.ERROR]
    assert not errors, f"logged: {errors}"
    for child in active_children():
        if request.session.testsfailed:
            child.kill()  # left by one that failed: nobody will tell it to end
        child.join()
    assert names() <= before, f"left in /dev/shm: {names() - before}"


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    """At the end of the session no child is alive and no name of ours is left."""
    before = names()
    yield
    assert not children(), f"processes left: {children()}"
    assert names() <= before


@pytest.fixture
def make_pool() -> Iterator[Callable[..., shmpool.Pool]]:
    """Make pools with defaults that are small, and close them after the test."""
    made: list[shmpool.Pool] = []

    def make(**options: Any) -> shmpool.Pool:
        defaults = {"slots": 4, "slot_size": 4096, "queues": ("a", "b")}
        pool = shmpool.Pool.create(**(defaults | options))
        made.append(pool)
        return pool

    yield make
    for pool in made:
        with suppress(shmpool.LeasesAliveError):  # the test holds some on purpose
            pool.close()


@pytest.fixture
def pool(make_pool: Callable[..., shmpool.Pool]) -> shmpool.Pool:
    """Four slots of a page, two queues."""
    return make_pool()
