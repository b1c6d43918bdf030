"""Who a process is, and whether it is dead: by pidfd, never by its number alone."""

from __future__ import annotations

import errno
import os
import select
import threading
from pathlib import Path
from typing import NamedTuple

from shmpool.errors import UnsupportedPlatformError


class Identity(NamedTuple):
    """A process that cannot be mistaken for a later one with the same number.

    `pidfd_inode` is unique per process on Linux 6.9 and later (pidfs), 0 before;
    `start_time` is in clock ticks since boot, 0 where unknown.
    """

    pid: int
    start_time: int = 0
    pidfd_inode: int = 0

    @classmethod
    def mine(cls) -> Identity:
        """Name the calling process."""
        pidfd = _pidfd_open(os.getpid())
        try:
            return cls(os.getpid(), start_time(os.getpid()), _inode(pidfd))
        finally:
            os.close(pidfd)


def open_pidfd(process: Identity) -> int | None:
    """A descriptor that becomes readable when `process` dies; None if it is dead already."""
    try:
        pidfd = _pidfd_open(process.pid)
    except OSError as error:
        # Gone, or by now the number of a thread, which is no process of its own.
        if error.errno in (errno.ESRCH, errno.ENOENT, errno.EINVAL):
            return None
        raise
    same = False
    try:
        same = _is_same(process, pidfd)
    finally:
        if not same:
            os.close(pidfd)
    return pidfd if same else None


def is_over(pidfd: int) -> bool:
    """Whether the process behind a pidfd has died, with all its threads. Does not block."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def is_alive(process: Identity) -> bool:
    """Whether that very process, not a later one with its number, still runs."""
    pidfd = open_pidfd(process)
    if pidfd is None:
        return False
    try:
        return not is_over(pidfd)
    finally:
        os.close(pidfd)


def is_dead(process: Identity) -> bool:
    """Whether that very process is gone for certain: False, too, where it cannot be told.

    `is_alive` takes a number without a start time that can be read (no /proc) for another
    process; that is too little to remove what is somebody's.
    """
    try:
        pidfd = _pidfd_open(process.pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.ENOENT, errno.EINVAL):
            return True
        raise
    try:
        if is_over(pidfd):
            return True
        now = start_time(process.pid), _inode(pidfd)
    finally:
        os.close(pidfd)
    then = process.start_time, process.pidfd_inode
    return any(a != b for a, b in zip(then, now, strict=True) if a and b)


def start_time(pid: int) -> int:
    """Clock ticks since boot at which a process began, 0 if it cannot be told (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        # The second field is the name, in brackets, and may hold anything.
        return int(stat.rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def pid_namespace() -> int:
    """Inode of this process's pid namespace, 0 where there is none."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def start_thread(thread: threading.Thread) -> None:
    """Start a thread. Raises OSError where the system has no more of them."""
    try:
        thread.start()
    except RuntimeError as error:
        message = (
            f"thread {thread.name!r} cannot be started: as many run as may (ulimit -u, pids.max), "
            f"or memory is short"
        )
        raise OSError(errno.EAGAIN, message) from error


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _pidfd_open(pid: int) -> int:
    if not hasattr(os, "pidfd_open"):
        message = "shmpool needs pidfd_open (Linux 5.3 or later) to know when a process dies"
        raise UnsupportedPlatformError(message)
    return os.pidfd_open(pid)


def _inode(pidfd: int) -> int:
    """The pidfd's own inode under pidfs; before it, all pidfds share that of anonymous files."""
    other = os.eventfd(0)
    try:
        status = os.fstat(pidfd)
        return 0 if status.st_dev == os.fstat(other).st_dev else status.st_ino
    finally:
        os.close(other)


def _is_same(process: Identity, pidfd: int) -> bool:
    if process.pidfd_inode:
        return _inode(pidfd) == process.pidfd_inode
    return process.start_time in (0, start_time(process.pid))
