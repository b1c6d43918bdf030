"""Doorbells: one semaphore for each member, on which it sleeps. They never count anything.

A ring that is lost costs the sleeper one slice of its wait; one too many costs a retry.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker

import posix_ipc

from shmpool import _core

_NOT_YET = 0.002  # seconds to doze while the coordinator has not hung up our bell yet


def bell_name(pool: str, member: int) -> str:
    """Name of a member's semaphore; under Linux the file is /dev/shm/sem.POOL.MEMBER."""
    return f"/{pool}.{member}"


def hang_bell(pool: str, member: int) -> None:
    """Create a member's semaphore, to be unlinked by the tracker if this process is killed."""
    name = bell_name(pool, member)
    remove_bell(pool, member)  # of a pool of this name that was killed: nobody hears it
    posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600, initial_value=0).close()
    resource_tracker.register(name, "semaphore")


def take_down_bell(pool: str, member: int) -> None:
    """Unlink a member's semaphore that this process hung up."""
    remove_bell(pool, member)
    resource_tracker.unregister(bell_name(pool, member), "semaphore")


def remove_bell(pool: str, member: int) -> bool:
    """Unlink a member's semaphore, whoever hung it up: whether there was one."""
    try:
        posix_ipc.unlink_semaphore(bell_name(pool, member))
    except posix_ipc.ExistentialError:
        return False
    return True


def find_bell(pool: str, member: int) -> posix_ipc.Semaphore | None:
    """A member's semaphore, None where there is none."""
    try:
        return posix_ipc.Semaphore(bell_name(pool, member))
    except (posix_ipc.ExistentialError, OSError):
        return None


class Doorbell:
    """The bell of this process, shared by its threads.

    One sleeping thread listens to the semaphore; when it wakes, for whatever reason, it
    wakes the others of this process, who look again and of whom one listens next.
    """

    def __init__(self, pool: str, member: int) -> None:
        self._pool = pool
        self._member = member
        self._semaphore: posix_ipc.Semaphore | None = None
        self._changed = threading.Condition()
        self._listening = False
        self._waiting: Counter[tuple[int, int]] = Counter()

    @contextmanager
    def waiting(self, mapping: _core.Mapping, kind: int, index: int) -> Iterator[None]:
        """While threads of this process wait for a thing, its waiting bit may be set."""
        with self._changed:
            self._waiting[kind, index] += 1
        try:
            yield
        finally:
            with self._changed:
                self._waiting[kind, index] -= 1
                if not self._waiting[kind, index]:
                    mapping.wait_end(kind, index)

    def sleep(self, seconds: float) -> None:
        """Sleep until rung, at most so long. May wake for nothing."""
        with self._changed:
            if self._listening:
                self._changed.wait(seconds)
                return
            self._listening = True
        try:
            self._listen(seconds)
        finally:
            with self._changed:
                self._listening = False
                self._changed.notify_all()

    def _listen(self, seconds: float) -> None:
        if self._semaphore is None:
            self._semaphore = find_bell(self._pool, self._member)
        if self._semaphore is None:
            time.sleep(min(seconds, _NOT_YET))
            return
        # Time is up, or a signal came: its handler runs at the next bytecode.
        with suppress(posix_ipc.BusyError, posix_ipc.SignalError):
            self._semaphore.acquire(seconds)
