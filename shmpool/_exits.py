"""The end of a process, foreseen: what it does at its exit, and what is removed if it is killed.

multiprocessing has both, and brings some twenty modules along. They come with the first pool that
is made; a program that only attaches does not wait for them, unless it has them already.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def prepare() -> None:
    """Import what `track` needs: where that fails, there is nothing yet to be left behind."""
    from multiprocessing import resource_tracker, util  # noqa: F401, PLC0415


def process_name() -> str:
    """Name of this process, as multiprocessing knows it."""
    if "multiprocessing.process" not in sys.modules:
        return "MainProcess"  # any other has been started by it
    from multiprocessing import current_process  # noqa: PLC0415

    return current_process().name


def when_main_thread_ends(finish: Callable[[], None]) -> None:
    """Call something when the main thread is through, before it waits for others.

    atexit comes later. What does not come at all, in a Python without the list that
    concurrent.futures uses, or because the exit has begun, is done by atexit.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(finish)
    except RuntimeError:  # it has begun
        atexit.register(finish)


def when_gone(thing: object, finish: Callable[..., object], *args: object) -> Callable[[], Any]:
    """Call `finish` when a thing is collected, or at the exit of this process (no forked child's).

    What this returns does it now; it is done once. At the exit it comes after the functions that
    were registered with atexit since.
    """
    if "multiprocessing.util" not in sys.modules:
        return _End(thing, finish, args)
    from multiprocessing import util  # noqa: PLC0415

    # A child of multiprocessing runs nothing else at its exit; and who made a pool closes it
    # before it waits for its children, who may be waiting for a slot.
    return util.Finalize(thing, finish, args=args, exitpriority=10)


class _End:
    """As weakref.finalize, but it may be called even when the process has begun to exit."""

    def __init__(
        self, thing: object, finish: Callable[..., object], args: tuple[object, ...]
    ) -> None:
        self._pid, self._finish, self._args = os.getpid(), finish, args
        self._watch: weakref.ref[object] | None = weakref.ref(thing, self)
        atexit.register(self)

    def __call__(self, _gone: object = None) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            atexit.unregister(self)
            if os.getpid() == self._pid:
                self._finish(*self._args)


@contextmanager
def blocked(*signals: signal.Signals) -> Iterator[None]:
    """A process or thread that is begun in the block begins with these signals blocked."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def begin_tracking() -> None:
    """Start the resource tracker, which may fail: before there is anything to track.

    It ignores what comes from a terminal, but for its end: that it would die of, with those
    whose names it is there to remove.
    """
    from multiprocessing import resource_tracker  # noqa: PLC0415

    with blocked(signal.SIGHUP):
        resource_tracker.ensure_running()


def track(name: str, kind: str) -> None:
    """Have a name unlinked if this process is killed. `kind`: shared_memory or semaphore."""
    from multiprocessing import resource_tracker  # noqa: PLC0415

    resource_tracker.register(name, kind)


def untrack(name: str, kind: str) -> None:
    """Undo `track`: the name is gone."""
    from multiprocessing import resource_tracker  # noqa: PLC0415

    resource_tracker.unregister(name, kind)
