"""Pools from outside: what commands print, what is left behind or cut, what others do to them."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shmpool import Pool, _core
from shmpool.cli import main

SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
DEBRIS = """
import os, signal, sys
import numpy as np
from multiprocessing import resource_tracker
from shmpool import Pool, _create
name, how = sys.argv[1:]
if how == "forming":
    _create.open_up = lambda mapping: die()
def die():
    os.kill(resource_tracker._resource_tracker._pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
record = np.dtype([("x", "<f4")])
pool = Pool.create(
    slots=2, slot_size=64, name=name, queues=("a",), members=3, header=record, debug=True
)
pool.queue("a").put(pool.acquire())
die()
"""


@contextmanager
def changed(path: Path, at: int = 0, data: bytes = b"", size: int | None = None) -> Iterator[None]:
    """A file with other bytes, or another size, for the length of the block."""
    content = path.read_bytes()
    try:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data)
        if size is not None:
            os.truncate(path, size)
        yield
    finally:
        # Of a pool that lives no more than was changed: its reaper writes, too.
        end = at + len(data) if size is None else len(content)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(content[at:end])


def counted(pool: Pool, what: str) -> int:
    """One of the reaper's numbers, which it writes a moment after what they count."""
    while not (number := int(getattr(pool.statistics(), what))):
        pass
    return number


def wait_for_bells(pool: Pool) -> None:
    """Until the coordinator has met this member, and hung up the next bells.

    Killed on the way, it may have told its tracker of one that is not yet there.
    """
    while pool._mapping.view().status["doorbells"] <= pool._mapping.me + 8:
        pass


def bytes_of(name: str) -> dict[str, bytes]:
    """Everything that lies in shared memory of a pool."""
    paths = [*SHM.glob(f"{name}*"), *SHM.glob(f"sem.{name}.*")]
    return {path.name: path.read_bytes() for path in paths}


HEADER = {name: offset for name, (offset, _) in _core.RECORDS["header"].items()}
UNREADABLE = {
    "corrupted": (HEADER["slots"], b"\7", None, "checksum"),
    "another version": (HEADER["version"], struct.pack("<I", 99), None, "version 99"),
    "being made": (HEADER["magic"], bytes(8), None, "still being made"),
    "cut": (0, b"", 4096, "truncated"),
    "cut to nothing": (0, b"", 0, "0 bytes"),
}


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command prints; on stderr, if it ends with another code than 0."""
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    return out + err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """The JSON that a command prints."""
    return json.loads(told(capsys, *arguments, "--json", code=code))
