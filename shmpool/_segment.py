"""Shared-memory segments: made with memory behind every byte, opened only after checks.

Who creates one registers it with Python's resource tracker, which unlinks it if this process is
killed. `multiprocessing.shared_memory` would do that, too, but leaves the name behind when the
tracker cannot be started, and, before Python 3.13, registers it in whoever attaches, to be
unlinked under everybody at his exit (CPython issue 82300).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import posix_ipc

from shmpool import _exits
from shmpool._sizes import show_size
from shmpool.errors import (
    ForeignSegmentError,
    NotAPoolError,
    OutOfSharedMemoryError,
    PoolNotFoundError,
    SegmentError,
    TruncatedSegmentError,
)

SHM = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory, shm_overview(7)


class Segment:
    """A segment that this process made and will unlink; memory is behind its first bytes only.

    Raises FileExistsError if the name is taken, OutOfSharedMemoryError if there is no
    memory for it: then nothing of it is left behind.
    """

    def __init__(self, name: str, size: int, committed: int) -> None:
        self.name = name
        _exits.begin_tracking()
        try:
            memory = posix_ipc.SharedMemory(f"/{name}", posix_ipc.O_CREX, mode=0o600)
        except posix_ipc.ExistentialError as error:
            raise FileExistsError(errno.EEXIST, str(error), name) from None
        try:
            _exits.track(f"/{name}", "shared_memory")
            os.ftruncate(memory.fd, size)
            if committed:
                commit(memory.fd, committed)
        except BaseException:
            self.unlink()
            raise
        finally:
            memory.close_fd()

    def unlink(self) -> None:
        """Remove the name, if nobody has; memory lives on until the last mapping goes."""
        remove(self.name)
        _exits.untrack(f"/{self.name}", "shared_memory")


def commit(fd: int, size: int) -> None:
    """Put memory behind every byte, so that touching it later cannot be SIGBUS."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM):
            raise out_of_memory(size) from error
        raise


def check_room(size: int, what: str) -> None:
    """Raise OutOfSharedMemoryError before anything is made if `size` bytes are not free."""
    space = os.statvfs(SHM)
    unlimited = space.f_blocks == 0
    if not unlimited and size > space.f_bavail * space.f_frsize:
        raise out_of_memory(size, what)


def out_of_memory(size: int, what: str = "", **facts: int) -> OutOfSharedMemoryError:
    """The error for a /dev/shm that is too small, with the numbers and the remedy."""
    space = os.statvfs(SHM)
    free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    message = (
        f"the pool needs {show_size(size)} of shared memory{f' ({what})' if what else ''}, "
        f"{show_size(free)} of the {show_size(total)} in {SHM} are free: ask for fewer or smaller "
        f"slots, remove what lies in {SHM}, or make it larger (docker run --shm-size=1g, "
        f"mount -o remount,size=1g {SHM})"
    )
    return OutOfSharedMemoryError(message, needed=size, free=free, total=total, **facts)


@contextmanager
def opened(name: str) -> Iterator[int]:
    """A descriptor of an existing segment, for the length of the block.

    Raises PoolNotFoundError or ForeignSegmentError.
    """
    try:
        memory = posix_ipc.SharedMemory(f"/{name}")
    except posix_ipc.ExistentialError:
        raise _not_found(name) from None
    except (posix_ipc.PermissionsError, PermissionError):
        raise _not_ours(name) from None
    except (posix_ipc.Error, ValueError, OSError) as error:
        raise NotAPoolError(f"{name!r} is no shared memory: {error}", name=name) from error
    try:
        yield memory.fd
    finally:
        memory.close_fd()


@contextmanager
def opened_to_read(name: str) -> Iterator[int]:
    """A descriptor by which nothing can be written, for the length of the block.

    Follows no link and waits for no pipe. Raises PoolNotFoundError, ForeignSegmentError
    or NotAPoolError.
    """
    try:
        fd = os.open(SHM / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _not_found(name) from None
    except PermissionError:
        raise _not_ours(name) from None
    except OSError as error:
        raise NotAPoolError(f"{name!r} is no shared memory: {error}", name=name) from error
    try:
        yield fd
    finally:
        os.close(fd)


def read_at(name: str, fd: int, into: memoryview, offset: int) -> None:
    """Fill a buffer from a segment. Raises TruncatedSegmentError: by a file's end, never SIGBUS."""
    done = 0
    while done < len(into):
        count = os.preadv(fd, [into[done:]], offset + done)
        if not count:
            message = (
                f"{name!r} ends at {show_size(offset + done)} ({offset + done} bytes), and "
                f"{offset + len(into)} are to be read: it was cut while it was looked at"
            )
            raise TruncatedSegmentError(
                message, name=name, size=offset + done, needed=offset + len(into)
            )
        done += count


def _not_ours(name: str) -> ForeignSegmentError:
    message = f"{name!r} may not be opened by uid {os.geteuid()}: it belongs to another user"
    return ForeignSegmentError(message, name=name)


def _not_found(name: str) -> PoolNotFoundError:
    message = f"there is no pool {name!r} in {SHM}: was it closed, or is the name misspelt?"
    return PoolNotFoundError(message, name=name)


def check_file(name: str, fd: int, size: int = 0) -> os.stat_result:
    """Check whose a segment is and that it has `size` bytes, before anything is believed.

    Raises NotAPoolError, ForeignSegmentError or TruncatedSegmentError.
    """
    file = os.fstat(fd)
    if not stat.S_ISREG(file.st_mode):
        raise NotAPoolError(f"{name!r} is not a shared-memory segment", name=name)
    if file.st_uid != os.geteuid() or file.st_mode & 0o022:
        message = (
            f"{name!r} belongs to uid {file.st_uid} with mode {file.st_mode & 0o777:o}; "
            f"uid {os.geteuid()} attaches only to its own, which nobody else may write to"
        )
        raise ForeignSegmentError(message, name=name, uid=file.st_uid)
    if file.st_size < size:
        message = (
            f"{name!r} has {show_size(file.st_size)} ({file.st_size} bytes), its pool needs "
            f"{show_size(size)} ({size} bytes): something has truncated it"
        )
        raise TruncatedSegmentError(message, name=name, size=file.st_size, needed=size)
    return file


def remove(name: str) -> bool:
    """Unlink a segment by name, whoever made it: whether there was one."""
    try:
        posix_ipc.unlink_shared_memory(f"/{name}")
    except posix_ipc.ExistentialError:
        return False
    except posix_ipc.Error as error:
        raise SegmentError(f"{name!r} cannot be removed: {error}") from error
    return True


def stands_for(name: str, fd: int) -> bool:
    """Whether a name is still that of the segment that is open."""
    try:
        return os.path.samestat((SHM / name).lstat(), os.fstat(fd))
    except FileNotFoundError:
        return False
