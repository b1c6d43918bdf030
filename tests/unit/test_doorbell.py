"""How doorbells come to be in shared memory."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import posix_ipc
import pytest

from shmpool import Pool, _doorbell

SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
IN_CREATE = 0x100
_EVENT = struct.Struct("iIII")  # and a name, see inotify(7)


def names_made(action: Callable[[], object]) -> set[str]:
    """Of all files that came into /dev/shm meanwhile, those too that are gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert libc.inotify_add_watch(watch, bytes(SHM), IN_CREATE) >= 0, os.strerror(
        ctypes.get_errno()
    )
    action()
    data = os.read(watch, 1 << 16)
    os.close(watch)
    names, at = set(), 0
    while at < len(data):
        length = _EVENT.unpack_from(data, at)[3]
        at += _EVENT.size
        names.add(data[at : at + length].rstrip(b"\0").decode())
        at += length
    return names


def test_no_file_is_there_under_another_name_first() -> None:
    """The tracker of a coordinator that is killed halfway would not know of it."""
    made = names_made(lambda: Pool.create(slots=1, slot_size=64, name="bells", members=3).close())
    assert made == {"bells", "bells.slab0", "sem.bells.1", "sem.bells.2", "sem.bells.3"}


@pytest.mark.parametrize("refused", [0, errno.EOPNOTSUPP, errno.EISDIR])
def test_a_bell_is_a_semaphore_however_it_was_made(
    refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no file can be without a name: then by sem_open(3), which gives it one first."""
    original = os.open

    def refusing(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if refused and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(refused, os.strerror(refused))
        return original(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refusing)
    with Pool.create(slots=1, slot_size=64, name="bells", members=2):
        assert {path.name for path in SHM.glob("sem.bells*")} == {"sem.bells.1", "sem.bells.2"}
        bell = _doorbell.find_bell("bells", 2)
        assert bell is not None
        bell.ring()
        semaphore = posix_ipc.Semaphore("/bells.2")
        assert semaphore.value == 1
        semaphore.acquire(0)
        semaphore.close()
