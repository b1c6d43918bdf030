"""Doorbells: one semaphore for each member, on which it sleeps. They never count anything.

A ring that is lost costs the sleeper one slice of its wait; one too many costs a retry.
"""

from __future__ import annotations

import _thread
import threading
import time
from contextlib import suppress

import posix_ipc

from shmpool import _core, _exits
from shmpool.errors import SegmentError

_NOT_YET = 0.002  # seconds to doze while the coordinator has not hung up our bell yet


def bell_name(pool: str, member: int) -> str:
    """Name of a member's semaphore; under Linux the file is /dev/shm/sem.POOL.MEMBER."""
    return f"/{pool}.{member}"


def hang_bell(pool: str, member: int) -> None:
    """Create a member's semaphore, to be unlinked by the tracker if this process is killed."""
    name = bell_name(pool, member)
    remove_bell(pool, member)  # of a pool of this name that was killed: nobody hears it
    # Before it is there: a kill in between must not leave it behind.
    _exits.track(name, "semaphore")
    try:
        posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600, initial_value=0).close()
    except BaseException as error:
        _exits.untrack(name, "semaphore")
        if isinstance(error, posix_ipc.Error):
            raise SegmentError(f"the doorbell {name!r} cannot be made: {error}") from error
        raise


def take_down_bell(pool: str, member: int) -> None:
    """Unlink a member's semaphore that this process hung up."""
    remove_bell(pool, member)
    _exits.untrack(bell_name(pool, member), "semaphore")


def remove_bell(pool: str, member: int) -> bool:
    """Unlink a member's semaphore, whoever hung it up: whether there was one."""
    try:
        posix_ipc.unlink_semaphore(bell_name(pool, member))
    except posix_ipc.ExistentialError:
        return False
    except posix_ipc.Error as error:
        message = f"the doorbell {bell_name(pool, member)!r} cannot be removed: {error}"
        raise SegmentError(message) from error
    return True


def find_bell(pool: str, member: int) -> _core.Bell | None:
    """A member's doorbell, None where there is none."""
    try:
        return _core.Bell(bell_name(pool, member))
    except OSError:
        return None


class Doorbell:
    """The bell of this process, shared by its threads.

    One sleeping thread listens to it; when that one wakes, for whatever reason, it wakes
    the others of this process, who look again and of whom one listens next.
    """

    def __init__(self, pool: str, member: int) -> None:
        self._pool = pool
        self._member = member
        self._bell: _core.Bell | None = None
        self._lock = threading.Lock()
        self._listener: int | None = None  # a thread
        self._sleepers: list[_thread.LockType] = []  # of the other threads, to be released
        self._waiting: dict[tuple[int, int], set[int]] = {}  # threads

    def begin(self, things: tuple[tuple[int, int], ...]) -> None:
        """One more thread of this process waits for things: our waiting bits may be set."""
        me = threading.get_ident()
        with self._lock:
            for thing in things:
                self._waiting.setdefault(thing, set()).add(me)

    def end(self, things: tuple[tuple[int, int], ...], mapping: _core.Mapping) -> None:
        """One thread less; with the last one of a thing its waiting bit goes. Idempotent."""
        me = threading.get_ident()
        with self._lock:
            for thing in things:
                threads = self._waiting.get(thing, set())
                threads.discard(me)
                if not threads:
                    mapping.wait_end(*thing)
        # Rung for several of them, we took one: the others are for whoever waits next.
        for thing in things if len(things) > 1 else ():
            mapping.pass_on(*thing)

    def sleep(self, seconds: float) -> None:
        """Sleep until rung, at most so long. May wake for nothing; signal handlers may raise."""
        me = threading.get_ident()
        # Ctrl-C may come between any two lines: what it leaves undone the next sleep makes good.
        try:
            with self._lock:
                if self._listener is None:
                    self._listener = me
            if self._listener == me:
                self._listen(seconds)
            else:
                self._doze(seconds)
        finally:
            if self._listener == me:
                self._listener = None
                self._wake_others()

    def _doze(self, seconds: float) -> None:
        """Sleep until the listening thread wakes us. A Condition cannot stand Ctrl-C."""
        sleeper = _thread.allocate_lock()
        sleeper.acquire()
        try:
            self._sleepers.append(sleeper)
            if self._listener is not None:  # or it may have looked before we were there
                sleeper.acquire(timeout=seconds)
        finally:
            with suppress(ValueError):
                self._sleepers.remove(sleeper)

    def _wake_others(self) -> None:
        while self._sleepers:
            with suppress(IndexError):
                self._sleepers.pop().release()

    def _listen(self, seconds: float) -> None:
        if self._bell is None:
            self._bell = find_bell(self._pool, self._member)
        if self._bell is None:
            time.sleep(min(seconds, _NOT_YET))
        else:
            self._bell.wait(seconds)
