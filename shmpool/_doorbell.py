"""Doorbells: one semaphore for each member, on which it sleeps. They never count anything.

A ring that is lost costs the sleeper one slice of its wait; one too many costs a retry.
"""

from __future__ import annotations

import errno
import os

import posix_ipc

from shmpool import _core, _exits
from shmpool._segment import SHM
from shmpool.errors import SegmentError

# There is no O_TMPFILE, or no /proc.
_UNSUPPORTED = errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT


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
        _make(name)
    except BaseException as error:
        _exits.untrack(name, "semaphore")
        if isinstance(error, (posix_ipc.Error, FileExistsError)):
            raise SegmentError(f"the doorbell {name!r} cannot be made: {error}") from error
        raise


def _make(name: str) -> None:
    try:
        _make_at_once(f"{SHM}/sem.{name[1:]}")
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600, initial_value=0).close()


def _make_at_once(path: str) -> None:
    """With its name, or not at all.

    sem_open() makes a file of another name first, which a kill just then would leave for ever.
    """
    fd = os.open(SHM, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, _core.SEMAPHORE)
        # As open(2) has it. Without a src_dir_fd, Python would link the symbolic link itself.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    finally:
        os.close(fd)


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
