"""What `shmpool doctor` looks at. A check says what is so, and what to do about it.

Each is in two parts: what looks at the system, and what judges the numbers.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shmpool._process import Identity, start_time, usable_cpus
from shmpool._segment import SHM
from shmpool._sizes import show_size
from shmpool._sweep import sweep
from shmpool.errors import UnsupportedPlatformError

_MEMORY = str(SHM)
_DOCKERS = 64 << 20  # bytes of /dev/shm in a container that nobody asked about
_FULL = 0.9
_FEW_DESCRIPTORS = 512  # a coordinator has one for each of up to 255 members, and some for slabs
_FEW_MAPPINGS = 65530  # the default
_DONTUNMAP = 1 | 4  # MREMAP_MAYMOVE | MREMAP_DONTUNMAP


class Grade(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"  # good to know; nothing has to be done
    TODO = "todo"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: str
    grade: Grade
    fact: str
    remedy: str | None = None


def every() -> list[Finding]:
    """All of them, one after the other."""
    checks: list[Callable[[], Finding]] = [
        shared_memory, descriptors, locked_memory, pidfd, identity, fences, mappings, cpus,
        orphans, strays,
    ]  # fmt: skip
    return [check() for check in checks]


def shared_memory() -> Finding:
    """Size and use of /dev/shm."""
    if not os.access(SHM, os.W_OK | os.X_OK):
        remedy = f"mount -t tmpfs -o mode=1777 tmpfs {SHM}"
        return Finding(_MEMORY, Grade.TODO, f"{SHM} is not there, or not writable", remedy)
    space = os.statvfs(SHM)
    return judge_space(space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize)


def judge_space(total: int, free: int) -> Finding:
    """Bytes in all, 0 where there is no limit, and bytes free."""
    fact = f"{show_size(free)} of {show_size(total)} free" if total else "no limit"
    larger = f"docker run --shm-size=1g, or mount -o remount,size=1g {SHM}"
    if total and total <= _DOCKERS:
        remedy = f"{larger}: this is the size that containers have unless one asks"
        return Finding(_MEMORY, Grade.TODO, fact, remedy)
    if total and free < (1 - _FULL) * total:
        remedy = f"shmpool gc, remove what lies in {SHM}, or make it larger ({larger})"
        return Finding(_MEMORY, Grade.TODO, fact, remedy)
    return Finding(_MEMORY, Grade.OK, fact)


def descriptors() -> Finding:
    """Open files that a process may have."""
    return judge_descriptors(*resource.getrlimit(resource.RLIMIT_NOFILE))


def judge_descriptors(soft: int, hard: int) -> Finding:
    """By the limit that holds, and the one up to which it may be raised."""
    fact = f"{_limit(soft)} open files (at most {_limit(hard)})"
    if soft == resource.RLIM_INFINITY or soft >= _FEW_DESCRIPTORS:
        return Finding("ulimit -n", Grade.OK, fact)
    remedy = "ulimit -n 4096 (or LimitNOFILE= in systemd): a coordinator keeps one for every member"
    return Finding("ulimit -n", Grade.TODO, fact, remedy)


def _limit(number: int) -> str:
    return "unlimited" if number == resource.RLIM_INFINITY else str(number)


def locked_memory() -> Finding:
    """Bytes that a process may lock. shmpool locks none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    size = _limit(soft) if soft == resource.RLIM_INFINITY else show_size(soft)
    fact = f"{size} may be locked; shmpool locks none, who pins slots for a device does"
    return Finding("ulimit -l", Grade.OK, fact)


def pidfd() -> Finding:
    """Whether it can be known when a process dies."""
    try:
        Identity.mine()
    except (OSError, UnsupportedPlatformError) as error:
        remedy = "Linux 5.3 or later; in a container, a seccomp profile that lets pidfd_open pass"
        return Finding("pidfd_open", Grade.TODO, str(error), remedy)
    return Finding("pidfd_open", Grade.OK, "deaths of processes are seen")


def identity() -> Finding:
    """Whether a process can be told from a later one with its number."""
    try:
        inode = Identity.mine().pidfd_inode
    except (OSError, UnsupportedPlatformError):
        inode = 0
    return judge_identity(inode, start_time(os.getpid()))


def judge_identity(inode: int, started: int) -> Finding:
    """By the inode of a pidfd, and by the start time of a process: 0 where there is none."""
    if inode:
        fact = "a pidfd has an inode of its own: no number is taken for another process"
        return Finding("identity", Grade.OK, fact)
    if started:
        fact = "processes are told apart by start time: pidfds have no inode before Linux 6.9"
        return Finding("identity", Grade.NOTE, fact)
    fact = "a process cannot be told from a later one with its number"
    return Finding("identity", Grade.TODO, fact, "mount /proc, or Linux 6.9 or later")


def fences() -> Finding:
    """Whether a slot's page tables can be moved away from under views."""
    return judge_fences(moves_page_tables())


def judge_fences(moves: bool) -> Finding:  # noqa: FBT001 - there is one thing to say
    """By whether they can."""
    if moves:
        fact = "page tables move (MREMAP_DONTUNMAP)"
        return Finding("fences", Grade.OK, fact)
    fact = "fences hold, but the pages of a fenced slot are faulted in again: it costs time"
    return Finding("fences", Grade.NOTE, fact, "Linux 5.13 or later")


def moves_page_tables() -> bool:
    """Try it, with a page of shared memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
    size, failed = ctypes.c_size_t(mmap.PAGESIZE), ctypes.c_void_p(-1).value
    how = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
    page = libc.mmap(None, size, *how, -1, ctypes.c_long(0))
    if page == failed:
        return False
    moved = libc.mremap(ctypes.c_void_p(page), size, size, _DONTUNMAP, None)
    for memory in (page, moved):
        if memory != failed:
            libc.munmap(ctypes.c_void_p(memory), size)
    return bool(moved != failed)


def mappings() -> Finding:
    """Mappings that a process may have: each fence that stands is one or two."""
    try:
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return Finding("mappings", Grade.NOTE, "vm.max_map_count cannot be read")
    return judge_mappings(most)


def judge_mappings(most: int) -> Finding:
    """By the limit."""
    fact = f"vm.max_map_count is {most}; a fence that stands is one or two"
    if most >= _FEW_MAPPINGS:
        return Finding("mappings", Grade.OK, fact)
    return Finding("mappings", Grade.TODO, fact, "sysctl -w vm.max_map_count=262144")


def cpus() -> Finding:
    """CPUs that this process may use, and the share of them that its container has."""
    quota = None
    with suppress(OSError, ValueError):
        most, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        quota = None if most == "max" else int(most) / int(period)
    return judge_cpus(usable_cpus(), quota)


def judge_cpus(usable: int, quota: float | None) -> Finding:
    """By their number, and by how many of them may be used at a time, None for all."""
    if quota is not None and quota < usable:
        fact = f"{usable} usable, but the cgroup has time for {quota:.1f}"
        remedy = "a Farm starts one worker a CPU: pass workers="
        return Finding("CPUs", Grade.NOTE, fact, remedy)
    if usable == 1:
        fact = "1 usable: processes take turns, and nobody waits by spinning"
        return Finding("CPUs", Grade.NOTE, fact)
    return Finding("CPUs", Grade.OK, f"{usable} usable")


def orphans() -> Finding:
    """Pools whose coordinator is provably dead."""
    try:
        found = [verdict for verdict in sweep(dry_run=True) if verdict.orphaned]
    except (OSError, UnsupportedPlatformError) as error:
        return Finding("orphans", Grade.NOTE, f"cannot be looked for: {error}")
    if not found:
        return Finding("orphans", Grade.OK, "none")
    size = show_size(sum(verdict.bytes for verdict in found))
    fact = f"{', '.join(verdict.name for verdict in found)}: {size}"
    return Finding("orphans", Grade.TODO, fact, "shmpool gc")


def strays() -> Finding:
    """Slabs without a control block: whose they are cannot be told."""
    there = {entry.name for entry in os.scandir(SHM)} if SHM.is_dir() else set()
    slabs = {name: re.fullmatch(r"(.+)\.slab\d+", name) for name in there}
    found = sorted(name for name, match in slabs.items() if match and match[1] not in there)
    if not found:
        return Finding("strays", Grade.OK, "none")
    fact = f"slabs without their pool: {', '.join(found)}"
    remedy = f"remove them from {SHM} if no process has them mapped (fuser)"
    return Finding("strays", Grade.NOTE, fact, remedy)
