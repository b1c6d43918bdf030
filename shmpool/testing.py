"""A plugin for pytest: a test that leaves a slot, a pool or a process behind fails, with the line.

Loaded by itself where shmpool is installed, it concerns only tests that use shmpool. It looks
when the fixtures of a test are torn down, and blames it for what came during the test and is
still there: leases and borrows that nobody ended, pools of this process that nobody closed,
child processes that nobody waited for. What a fixture of a wider scope takes is that fixture's.

`@pytest.mark.shmpool_leaks(reason="…")` excuses a test, `shmpool_leaks = off` in the ini file all.
"""

from __future__ import annotations

import gc
import os
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from multiprocessing import active_children, forkserver
from multiprocessing.resource_tracker import _resource_tracker
from pathlib import Path
from typing import Any

import pytest

from shmpool import _attachment, _core, _leaks

__all__ = ["abandon"]

_MARK = "shmpool_leaks"


def abandon(right: _core.RightBase) -> None:
    """Drop a lease or borrow as a process that is killed would: it is over, and never ends.

    Its slot stays held until the reaper takes it: when this process has left the pool or died.

    >>> import shmpool
    >>> with shmpool.Pool.create(slots=2, slot_size=64) as pool:
    ...     abandon(pool.acquire())
    ...     pool.audit()["leased"]
    1
    """
    _core.forget(right)


@dataclass
class _Counts:
    """How many things this process has made so far, and the children that it has."""

    rights: int
    pools: int
    attachments: int
    children: dict[int, str]

    @classmethod
    def now(cls) -> _Counts:
        numbers = _core.tracked_so_far(), _leaks.foundings, _attachment.attached
        return cls(*numbers, _children())


@dataclass
class _Excused:
    """What fixtures of a wider scope took, and no test has to give back."""

    rights: list[tuple[int, int]] = field(default_factory=list)  # after one, up to the other
    pools: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)

    def add(self, before: _Counts, after: _Counts) -> None:
        """Everything that came between."""
        self.rights.append((before.rights, after.rights))
        self.pools.update(range(before.pools + 1, after.pools + 1))
        self.children |= after.children.keys() - before.children.keys()


_BEFORE = pytest.StashKey[_Counts]()
_FAILED = pytest.StashKey[bool]()


class LeakCheck:
    """The plugin, while it is on."""

    def __init__(self) -> None:
        self._excused = _Excused()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        """Excuse what a fixture of a wider scope than one test takes."""
        if fixturedef.scope == "function":
            return (yield)
        before = _Counts.now()
        try:
            return (yield)
        finally:
            self._excused.add(before, _Counts.now())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Track every right while a test runs that is not excused."""
        if item.get_closest_marker(_MARK) is not None:
            return (yield)
        item.stash[_BEFORE] = _Counts.now()
        _leaks.forced = "all"
        try:
            return (yield)
        finally:
            _leaks.forced = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, Any]:
        """Note who has failed already: the traceback holds what the test held."""
        if call.excinfo is not None:
            item.stash[_FAILED] = True
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Look when all the fixtures of a test are torn down."""
        result = yield
        before = item.stash.get(_BEFORE, None)
        if before is not None and item.stash.get(_FAILED, False):
            _core.untrack(before.rights)  # they are collected in another test, which has no part
        elif before is not None and _uses_shmpool(before):
            left = self._left(before)
            if left:
                pytest.fail(f"{item.nodeid} left {'; '.join(left)}", pytrace=False)
        return result

    def _left(self, before: _Counts) -> list[str]:
        found = [
            (self._rights(before, "lease"), "lease", "leases"),
            (self._rights(before, "borrow"), "borrow", "borrows"),
            (self._pools(before), "pool", "pools"),
            (self._processes(before), "process", "processes"),
        ]
        return [
            f"{len(things)} {one if len(things) == 1 else many} behind: {', '.join(things)}"
            for things, one, many in found
            if things
        ]

    def _rights(self, before: _Counts, kind: str) -> list[str]:
        """Those taken since, but for the excused: the list is in the order of their numbers."""
        rights = _core.tracked(before.rights)
        for first, last in self._excused.rights:
            if last > before.rights:
                begin = len(rights) - len(_core.tracked(max(first, before.rights)))
                end = len(rights) - len(_core.tracked(last))
                rights[begin:end] = [None] * (end - begin)  # type: ignore[list-item]
        return [
            f"slot {slot} of pool {pool!r}, acquired at "
            f"{_leaks.place(file, line)} {seconds:.2f} s ago"
            for which, pool, slot, _, file, line, seconds in filter(None, rights)
            if which == kind
        ]

    def _pools(self, before: _Counts) -> list[str]:
        if not self._open_pools(before):
            return []
        gc.collect()  # one that only a cycle holds is closed by that
        now = time.monotonic()
        return [
            f"{p.name!r}, made at {_leaks.place(p.file, p.line)} {now - p.when:.2f} s ago"
            for p in self._open_pools(before)
        ]

    def _open_pools(self, before: _Counts) -> list[_leaks.Founding]:
        made = list(_leaks.founded.values())
        return [p for p in made if p.number > before.pools and p.number not in self._excused.pools]

    def _processes(self, before: _Counts) -> list[str]:
        children = _children()
        new = children.keys() - before.children.keys() - self._excused.children
        return [f"{children[pid]} (pid {pid})" for pid in sorted(new)]


def _uses_shmpool(before: _Counts) -> bool:
    """Whether a pool was made or attached since, or is open."""
    if _attachment.attached > before.attachments:
        return True
    return any(mapping.joined and not mapping.closed for mapping in list(_attachment._all))


def _children() -> dict[int, str]:
    """Children of this process and their names, but for the helpers of multiprocessing."""
    named = {child.pid: child.name for child in active_children()}  # waits for those that ended
    subprocess._cleanup()  # type: ignore[attr-defined]
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = {int(pid) for task in tasks for pid in _words(task)}
    pids |= {pid for pid in named if pid is not None}  # a forkserver's children are not ours
    helpers = {_resource_tracker._pid, forkserver._forkserver._forkserver_pid}  # type: ignore[attr-defined]
    return {pid: named.get(pid) or _command(pid) for pid in pids - helpers}


def _words(file: Path) -> list[str]:
    """None of a thread that has ended meanwhile."""
    try:
        return file.read_text().split()
    except OSError:
        return []


def _command(pid: int) -> str:
    """Its command; of one that has ended, or is just beginning another program, what is known."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return "a process that is gone"
    if rest.split()[0] in "ZX":
        return "a process that has ended"
    return b" ".join(words).decode(errors="replace").strip() or name.partition("(")[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option that switches the check off."""
    parser.addini(
        _MARK, "on: a test that leaves slots, pools or processes behind fails; or off", default="on"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker, and the check unless it is off."""
    text = f"{_MARK}(reason): this test may leave slots, pools and processes of shmpool behind"
    config.addinivalue_line("markers", text)
    if config.getini(_MARK) not in ("on", "off"):
        raise pytest.UsageError(f"{_MARK} is {config.getini(_MARK)!r}: on or off")
    if config.getini(_MARK) == "on":
        config.pluginmanager.register(LeakCheck(), "shmpool-leak-check")
