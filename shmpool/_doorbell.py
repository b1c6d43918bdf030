"""Doorbells: one semaphore for each member, on which it sleeps. They never count anything.

A ring that is lost costs the sleeper one slice of its wait; one too many costs a retry.
"""

from __future__ import annotations

import posix_ipc

from shmpool import _core, _exits
from shmpool.errors import SegmentError


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
