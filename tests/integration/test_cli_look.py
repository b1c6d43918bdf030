"""`shmpool ls`, `inspect`, `gc` and `doctor`: pools in every state, looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shmpool import Pool, _core, _look
from shmpool.cli import main
from shmpool.errors import ShmpoolError, TruncatedSegmentError

SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
ROOT = Path(__file__).parents[2]
root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and other users take root")
MakePool = Callable[..., Pool]
DEBRIS = """
import os, signal, sys
from multiprocessing import resource_tracker
from shmpool import Pool, _create
name, how = sys.argv[1:]
if how == "forming":
    _create.open_up = lambda mapping: die()
def die():
    os.kill(resource_tracker._resource_tracker._pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
pool = Pool.create(slots=2, slot_size=64, name=name, queues=("a",), members=3)
pool.queue("a").put(pool.acquire())
die()
"""


@pytest.fixture
def left_behind() -> Iterator[Callable[..., str]]:
    """Pools whose coordinator was killed, and its resource tracker with it."""
    names = []

    def leave(name: str, how: str = "open") -> str:
        names.append(name)
        command = [sys.executable, "-c", DEBRIS, name, how]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert (SHM / name).exists()
        return name

    yield leave
    for name in names:
        for path in [*SHM.glob(f"{name}*"), *SHM.glob(f"sem.{name}.*")]:
            path.unlink()


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
        with path.open("r+b") as file:
            file.write(content)


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command prints; on stderr, if it ends with another code than 0."""
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    return out + err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """The JSON that a command prints."""
    return json.loads(told(capsys, *arguments, "--json", code=code))


def row(capsys: pytest.CaptureFixture[str], name: str) -> dict[str, Any]:
    """The line of a pool in `shmpool ls --json`."""
    (found,) = [row for row in as_json(capsys, "ls") if row["name"] == name]
    return dict(found)


def bytes_of(name: str) -> dict[str, bytes]:
    """Everything that lies in shared memory of a pool."""
    paths = [*SHM.glob(f"{name}*"), *SHM.glob(f"sem.{name}.*")]
    return {path.name: path.read_bytes() for path in paths}


def in_another_namespace(arguments: str) -> str:
    """What a command prints that runs in a pid namespace of its own."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "shmpool"]
    command += arguments.split()
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


# Looking.


def test_a_look_changes_no_byte_and_takes_no_index(pool: Pool) -> None:
    """The segments are the same afterwards, and nobody has joined."""
    before = bytes_of(pool.name)
    seen = _look.look(pool.name, slot=1)
    _look.read_slot(pool.name, 1)
    assert bytes_of(pool.name) == before
    assert seen.statistics() == pool.statistics()
    assert len(seen.statistics().members) == 1


def test_a_look_cannot_write(pool: Pool) -> None:
    """The tables are a copy: who changes them changes nothing."""
    before = bytes_of(pool.name)
    _look.look(pool.name).view.status["status"] = 77
    assert bytes_of(pool.name) == before


def test_a_pool_that_is_cut_while_it_is_looked_at_is_told(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file ends between the check of its size and the reading: an error, no SIGBUS."""
    path, read = SHM / pool.name, _look.read

    def read_and_cut(name: str, control: int) -> Any:
        spec = read(name, control)
        os.truncate(path, 4096)
        return spec

    monkeypatch.setattr(_look, "read", read_and_cut)
    with changed(path), pytest.raises(TruncatedSegmentError, match="while it was looked at"):
        _look.look(pool.name)


def test_every_byte_of_the_tables_may_be_anything(pool: Pool) -> None:
    """Tables full of ones: a look shows something or raises an error of ours."""
    at = _core.layout(pool._mapping.spec.counts)
    with changed(SHM / pool.name, at["status"], b"\xff" * (at["total_size"] - at["status"])):
        main(["ls"])
        with pytest.raises(ShmpoolError):
            _look.look(pool.name, slot=0).statistics()


# ls.


def test_a_healthy_pool_is_listed(capsys: pytest.CaptureFixture[str], pool: Pool) -> None:
    """With its coordinator, members, slots by state and bytes."""
    held = pool.acquire()
    pool.queue("a").put(pool.acquire())
    found = row(capsys, pool.name)
    assert (found["state"], found["coordinator"], found["pid"]) == ("open", "alive", os.getpid())
    assert (found["members"], found["slots"]) == (1, 4)
    assert {state: n for state, n in found["by_state"].items() if n} == {
        "free": 2, "leased": 1, "queued": 1,
    }  # fmt: skip
    assert found["bytes"] >= 4 * 4096
    assert found["age"] >= 0
    assert pool.name in told(capsys, "ls")
    held.release()
    pool.queue("a").get().release()


def test_a_pool_of_a_dead_coordinator_is_orphaned(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """By its identity, whatever its status says."""
    found = row(capsys, left_behind("look-orphan"))
    assert (found["state"], found["coordinator"]) == ("orphaned", "dead")
    assert found["by_state"]["queued"] == 1


def test_a_pool_whose_coordinator_closes_it_is_listed_as_closed(
    capsys: pytest.CaptureFixture[str], pool: Pool
) -> None:
    """Its names are there until the coordinator takes them down."""
    at = _core.layout(pool._mapping.spec.counts)["status"]
    with changed(SHM / pool.name, at, struct.pack("<Q", 2)):
        assert row(capsys, pool.name)["state"] == "closed"


@root
def test_from_another_pid_namespace_a_coordinator_is_neither_dead_nor_alive(pool: Pool) -> None:
    """Its number means another process here, or none."""
    rows = json.loads(in_another_namespace("ls --json"))
    assert [(row["name"], row["coordinator"]) for row in rows] == [(pool.name, "unknown")]
    pool.acquire().release()


HEADER = {name: offset for name, (offset, _) in _core.RECORDS["header"].items()}
UNREADABLE = {
    "corrupted": (HEADER["slots"], b"\7", None, "checksum"),
    "another version": (HEADER["version"], struct.pack("<I", 99), None, "version 99"),
    "being made": (HEADER["magic"], bytes(8), None, "still being made"),
    "cut": (0, b"", 4096, "truncated"),
    "cut to nothing": (0, b"", 0, "0 bytes"),
}


@pytest.mark.parametrize(("at", "data", "size", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_listed_with_the_reason(
    capsys: pytest.CaptureFixture[str],
    pool: Pool,
    at: int,
    data: bytes,
    size: int | None,
    words: str,
) -> None:
    """Among those that can."""
    with changed(SHM / pool.name, at, data, size):
        found = row(capsys, pool.name)
        assert found["state"] == "unreadable"
        assert words in found["reason"]
        assert words in told(capsys, "ls")


@root
def test_a_pool_of_another_user_is_listed_with_the_reason(
    capsys: pytest.CaptureFixture[str], pool: Pool
) -> None:
    """Even to root, who could read it."""
    os.chown(SHM / pool.name, 65534, 65534)
    try:
        assert "belongs to uid 65534" in row(capsys, pool.name)["reason"]
    finally:
        os.chown(SHM / pool.name, os.geteuid(), os.getegid())


def test_what_is_no_pool_is_not_listed(
    capsys: pytest.CaptureFixture[str], pool: Pool, tmp_path: Path
) -> None:
    """Neither files, pipes, links nor directories, nor a slot that holds a copy of a header."""
    with pool.acquire() as lease:
        lease.array((4096,), "u1").data[:256] = (SHM / pool.name).read_bytes()[:256]
    (SHM / "look-file").write_bytes(b"anything at all, as long as a magic")
    os.mkfifo(SHM / "look-pipe")
    (SHM / "look-link").symlink_to(tmp_path)
    (SHM / "look-directory").mkdir()
    try:
        assert [row["name"] for row in as_json(capsys, "ls")] == [pool.name]
    finally:
        (SHM / "look-directory").rmdir()
        for name in ("look-file", "look-pipe", "look-link"):
            (SHM / name).unlink()


def test_no_pools_are_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 0."""
    assert told(capsys, "ls") == "no pools\n"
    assert as_json(capsys, "ls") == []
