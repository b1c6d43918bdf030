"""`shmpool ls`, `inspect`, `gc` and `doctor`: pools in every state, looked at from outside."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outside import HEADER, SHM, UNREADABLE, as_json, bytes_of, changed, told
from PIL import Image

from shmpool import Pool, _core, _look, _sweep, remove_orphan
from shmpool._attachment import attach
from shmpool._process import Identity, is_dead
from shmpool._segment import opened
from shmpool.cli import checks, main
from shmpool.cli.checks import Finding, Grade
from shmpool.errors import ShmpoolError, TruncatedSegmentError

ROOT = Path(__file__).parents[2]
root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and other users take root")
MakePool = Callable[..., Pool]


def row(capsys: pytest.CaptureFixture[str], name: str) -> dict[str, Any]:
    """The line of a pool in `shmpool ls --json`."""
    (found,) = [row for row in as_json(capsys, "ls") if row["name"] == name]
    return dict(found)


def in_another_namespace(arguments: str) -> str:
    """What a command prints that runs in a pid namespace of its own."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "shmpool"]
    command += arguments.split()
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


# Looking.


def test_a_look_changes_no_byte_and_takes_no_index(left_behind: Callable[..., str]) -> None:
    """The segments are the same afterwards, and nobody has joined."""
    name = left_behind("look-orphan")  # in which nobody else writes meanwhile
    before = bytes_of(name)
    seen = _look.look(name, slot=1)
    _look.read_slot(name, 1)
    seen.view.status["status"] = 77  # a copy: who changes it changes nothing
    assert bytes_of(name) == before


def test_a_look_sees_what_the_pool_says_of_itself(pool: Pool) -> None:
    """The same statistics, by the same functions."""
    with pool.acquire():
        assert _look.look(pool.name).statistics() == pool.statistics()


def test_a_pool_that_is_cut_while_it_is_looked_at_is_told(
    left_behind: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file ends between the check of its size and the reading: an error, no SIGBUS."""
    name = left_behind("look-orphan")
    path, read = SHM / name, _look.read

    def read_and_cut(name: str, control: int) -> Any:
        spec = read(name, control)
        os.truncate(path, 4096)
        return spec

    monkeypatch.setattr(_look, "read", read_and_cut)
    with changed(path), pytest.raises(TruncatedSegmentError, match="while it was looked at"):
        _look.look(name)


def test_every_byte_of_the_tables_may_be_anything(left_behind: Callable[..., str]) -> None:
    """Tables full of ones: a look shows something or raises an error of ours."""
    name = left_behind("look-orphan")
    at = _core.layout(_look.look(name).spec.counts)
    with changed(SHM / name, at["status"], b"\xff" * (at["total_size"] - at["status"])):
        main(["ls"])
        with pytest.raises(ShmpoolError):
            _look.look(name, slot=0).statistics()


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


@pytest.mark.parametrize(("at", "data", "size", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_listed_with_the_reason(
    capsys: pytest.CaptureFixture[str],
    left_behind: Callable[..., str],
    pool: Pool,
    at: int,
    data: bytes,
    size: int | None,
    words: str,
) -> None:
    """Among those that can."""
    name = left_behind("look-orphan")
    with changed(SHM / name, at, data, size):
        assert pool.name in told(capsys, "ls")
        found = row(capsys, name)
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


@pytest.mark.parametrize("command", ["ls", "gc", "doctor"])
def test_a_reader_that_has_seen_enough_is_no_error(command: str) -> None:
    """A closed pipe, as behind `head`: nothing on stderr, and the exit code of SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "shmpool", command]
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, check=False, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["ls", "gc", "doctor", "doctor --json", "farm --list"])
def test_a_stdout_that_cannot_be_written_is_told(command: str, unbuffered: str) -> None:
    """A disk that is full: one line, and an exit code that is nothing else's."""
    done = on_stdout("/dev/full", command, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 74
    assert done.stderr.startswith(
        f"shmpool {command.split(maxsplit=1)[0]}: stdout cannot be written: "
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["ls", "ls --json", "gc --dry-run", "top look-closed --once"])
def test_a_closed_stdout_is_no_error(command: str, make_pool: MakePool) -> None:
    """What is printed goes nowhere, as into /dev/null."""
    make_pool(slots=1, slot_size=64, name="look-closed")
    done = on_stdout("&-", command)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command", ["inspect look-name", "inspect look-name --slot 0", "trace look-name --for 50ms"]
)
def test_what_stdout_has_no_letters_for_is_a_question_mark(
    command: str, make_pool: MakePool
) -> None:
    """Names of members may be any text, and terminals may know less."""
    pool = make_pool(slots=1, slot_size=64, name="look-name", member_name="名\u00e9")
    with pool.acquire():
        done = on_stdout("&1", command, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "??" in done.stdout


def on_stdout(where: str, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command whose stdout the shell sends somewhere."""
    line = f'exec "{sys.executable}" -m shmpool {command} >{where}'
    return subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | environment,
    )  # fmt: skip


# inspect.


def test_a_pool_is_shown_with_classes_queues_and_members(
    capsys: pytest.CaptureFixture[str], make_pool: MakePool
) -> None:
    """Who holds what, what waits in which queue, and for how long."""
    sizes = {"slots": None, "slot_size": None, "classes": [(64, 3), (8192, 2, 4)]}
    pool = make_pool(**sizes, queues=("in", "out"), member_name="boss")
    held = pool.acquire()
    pool.queue("in").put(pool.acquire(5000))
    shown = as_json(capsys, "inspect", pool.name)
    assert [(c["slot_size"], c["slots"], c["uncommitted"]) for c in shown["classes"]] == [
        (64, 3, 0), (8192, 4, 2),
    ]  # fmt: skip
    assert [(q["name"], q["length"]) for q in shown["queues"]] == [("in", 1), ("out", 0)]
    assert shown["queues"][0]["oldest"] >= 0
    assert shown["queues"][1]["oldest"] is None
    (me,) = shown["members"]
    assert (me["name"], me["pid"], me["life"], me["held"]) == ("boss", os.getpid(), "alive", 1)
    assert [row["slot"] for row in shown["in_use"]] == [held.slot, 3]
    text = told(capsys, "inspect", pool.name)
    assert f"leased by boss (pid {os.getpid()}) under generation 1" in text
    assert "on its way in queue 'in'" in text
    held.release()
    pool.queue("in").get().release()


def test_who_waits_for_what_is_shown(capsys: pytest.CaptureFixture[str], pool: Pool) -> None:
    """In the queue's row, and in the member's."""
    consumer = threading.Thread(target=lambda: pool.queue("b").get().release())
    consumer.start()
    while not (waits := as_json(capsys, "inspect", pool.name)["members"][0]["waits_for"]):
        pass
    assert waits == ["queue 'b'"]
    pool.queue("b").put(pool.acquire())
    consumer.join()


def test_a_slot_is_shown_with_array_record_readers_and_history(
    capsys: pytest.CaptureFixture[str], make_pool: MakePool
) -> None:
    """What its holder described, its fields, and how it came to be there."""
    record = np.dtype([("frame", "<i4"), ("at", "<f8"), ("tag", "S4")])
    pool = make_pool(header=record, debug=True, member_name="boss")
    lease = pool.acquire()
    lease.array((3, 5), "i2")
    lease.header.assign((42, np.nan, b"abc"))
    lease.share()
    shown = as_json(capsys, "inspect", pool.name, "--slot", str(lease.slot))
    assert (shown["state"], shown["owner"], shown["array"]) == ("shared", "boss", "int16 (3, 5)")
    assert shown["record"] == {"frame": 42, "at": "nan", "tag": "b'abc'"}
    assert [entry["what"] for entry in shown["history"]] == ["leased", "shared"]
    with pool.borrow(lease.ticket):
        assert "read by boss" in told(capsys, "inspect", pool.name, "--slot", str(lease.slot))
    lease.release()


def test_the_bytes_of_a_slot_are_written(
    capsys: pytest.CaptureFixture[str], pool: Pool, tmp_path: Path
) -> None:
    """All of it into a file, and its array as a picture."""
    lease, file, picture = pool.acquire(), tmp_path / "slot.bin", tmp_path / "slot.png"
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    lease.array(pixels.shape, pixels.dtype)[:] = pixels
    where = ["inspect", pool.name, "--slot", str(lease.slot), "--dump", str(file)]
    assert "may have been writing" in told(capsys, *where, "--png", str(picture))
    assert len(file.read_bytes()) == 4096
    assert file.read_bytes()[: pixels.nbytes] == pixels.tobytes()
    assert np.array_equal(np.asarray(Image.open(picture)), pixels)
    pool.queue("a").put(lease)
    assert "did not change" in told(capsys, *where)
    pool.queue("a").get().release()


def test_a_slot_that_changes_hands_meanwhile_is_told(
    capsys: pytest.CaptureFixture[str],
    pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the word before and after the bytes: exit code 3, and the file is there."""
    lease, file, read = pool.acquire(), tmp_path / "slot.bin", _look._payload

    def read_and_release(spec: Any, slot: int) -> bytes:
        data = read(spec, slot)
        lease.release()
        return data

    monkeypatch.setattr(_look, "_payload", read_and_release)
    shown = as_json(
        capsys, "inspect", pool.name, "--slot", str(lease.slot), "--dump", str(file), code=3
    )
    assert shown["written"]["changed"]
    assert shown["written"]["before"]["generation"] + 1 == shown["written"]["after"]["generation"]
    assert len(file.read_bytes()) == 4096


def test_memory_that_a_slot_does_not_have_is_not_given_to_it(
    capsys: pytest.CaptureFixture[str], make_pool: MakePool, tmp_path: Path
) -> None:
    """A dump of a slot beyond the committed ones is zeros, and costs no memory."""
    pool = make_pool(slots=1, max_slots=3)
    slab = SHM / f"{pool.name}.slab0"
    before = slab.stat().st_blocks
    told(capsys, "inspect", pool.name, "--slot", "2", "--dump", str(tmp_path / "none"))
    assert (tmp_path / "none").read_bytes() == bytes(4096)
    assert slab.stat().st_blocks == before


def test_what_is_no_picture_is_told_with_what_it_is(
    capsys: pytest.CaptureFixture[str], pool: Pool, tmp_path: Path
) -> None:
    """Plain bytes, or another dtype; nothing is written then."""
    picture = tmp_path / "slot.png"
    where = ["inspect", pool.name, "--slot", "0", "--png", str(picture)]
    assert "no description" in told(capsys, *where, code=1)
    lease = pool.acquire()
    lease.array((2, 2), "f4")
    where[3] = str(lease.slot)
    assert "float32 (2, 2), which is no picture" in told(capsys, *where, code=1)
    assert not picture.exists()
    lease.release()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no-such-pool"], 1, "there is no pool 'no-such-pool'"),
        (["../etc/passwd"], 1, "no name of a pool"),
        (["POOL", "--slot", "4"], 1, "has slots 0 to 3"),
        (["POOL", "--dump", "x"], 2, "add --slot N"),
        (["POOL", "--slot", "0", "--dump", "/nowhere/x"], 1, "No such file"),
    ],
)
def test_what_cannot_be_inspected_is_told(
    capsys: pytest.CaptureFixture[str], pool: Pool, arguments: list[str], code: int, words: str
) -> None:
    """On stderr, with the exit code that the help says."""
    names = [pool.name if word == "POOL" else word for word in arguments]
    assert words in told(capsys, "inspect", *names, code=code)


@pytest.mark.parametrize(("at", "data", "size", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_pool_that_cannot_be_read_is_not_inspected(
    capsys: pytest.CaptureFixture[str],
    left_behind: Callable[..., str],
    at: int,
    data: bytes,
    size: int | None,
    words: str,
) -> None:
    """The reason is that of attaching to it."""
    name = left_behind("look-orphan")
    with changed(SHM / name, at, data, size):
        assert words in told(capsys, "inspect", name, code=1)


def test_an_orphan_can_be_inspected(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """With its dead coordinator, and what it had put into a queue."""
    shown = as_json(capsys, "inspect", left_behind("look-orphan"))
    assert (shown["state"], shown["members"][0]["life"]) == ("orphaned", "dead")
    assert shown["queues"][0]["length"] == 1


def test_tables_of_noise_are_shown_or_refused(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """Whatever others wrote there: no error but ours, and no control character on the terminal."""
    name = left_behind("look-orphan")
    at, rng = _core.layout(_look.look(name).spec.counts), np.random.default_rng(7)
    sane = np.dtype("<u8").type(os.getpid() << 8 | 2).tobytes()
    for _ in range(30):
        noise = rng.integers(0, 256, at["total_size"] - at["status"], np.uint8)
        noise[rng.random(noise.size) < rng.choice([0.0, 0.5, 0.99])] = 0
        members = at["members"] - at["status"]
        for entry in range(3 if rng.random() < 0.8 else 0):
            noise[members + 256 * entry : members + 256 * entry + 8] = list(sane)
        with changed(SHM / name, at["status"], noise.tobytes()):
            for arguments in (["ls"], ["inspect", name], ["inspect", name, "--slot=1"]):
                assert main(arguments) in (0, 1)
                text = capsys.readouterr()
                assert (text.out + text.err).replace("\n", "").isprintable()


# gc.


def verdict(capsys: pytest.CaptureFixture[str], name: str, *more: str) -> dict[str, Any]:
    """What `shmpool gc --json` says of a pool."""
    (found,) = [v for v in as_json(capsys, "gc", *more) if v["name"] == name]
    return dict(found)


def test_an_orphan_is_removed_with_its_slabs_and_semaphores(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str], pool: Pool
) -> None:
    """All of it, told by name, and nothing of a pool that lives."""
    name, alive = left_behind("look-orphan"), bytes_of(pool.name).keys()
    there = bytes_of(name).keys()
    found = verdict(capsys, name)
    assert set(found["removed"]) == there
    assert {name, f"{name}.slab0", f"sem.{name}.1"} <= there
    assert "is dead" in found["reason"]
    assert not bytes_of(name)
    assert alive <= bytes_of(pool.name).keys()
    assert "0 pools removed" in told(capsys, "gc")


def test_a_dry_run_removes_nothing(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """It says what would go, and why."""
    name = left_behind("look-orphan")
    before = bytes_of(name)
    assert f"would remove {name}.slab0" in told(capsys, "gc", "--dry-run")
    assert set(verdict(capsys, name, "--dry-run")["left"]) == before.keys()
    assert bytes_of(name) == before


def test_a_pool_that_its_maker_died_over_is_removed(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """The magic is missing, but the header is whole and names a dead process."""
    name = left_behind("look-forming", "forming")
    assert "still being made" in row(capsys, name)["reason"]
    assert name in verdict(capsys, name)["removed"]
    assert not bytes_of(name)


def test_a_pool_that_is_being_made_is_left_alone(
    capsys: pytest.CaptureFixture[str], pool: Pool
) -> None:
    """Its maker is alive; and where there is no header yet, nobody can be proven dead."""
    before = bytes_of(pool.name).keys()
    with changed(SHM / pool.name, HEADER["magic"], bytes(8)):
        found = verdict(capsys, pool.name)
        assert not found["orphaned"]
        assert "is alive" in found["reason"]
    with changed(SHM / pool.name, 0, bytes(256)):
        assert "still being made" in verdict(capsys, pool.name)["reason"]
    assert before <= bytes_of(pool.name).keys()


@pytest.mark.parametrize("what", sorted(UNREADABLE.keys() - {"being made"}))
def test_what_cannot_be_read_is_left_alone(
    capsys: pytest.CaptureFixture[str],
    left_behind: Callable[..., str],
    what: str,
) -> None:
    """Even if its coordinator is dead: what does not say whose it is may be anybody's."""
    name = left_behind("look-orphan")
    at, data, size, words = UNREADABLE[what]
    with changed(SHM / name, at, data, size):
        before = bytes_of(name).keys()
        found = verdict(capsys, name)
        assert words in found["reason"]
        assert not found["removed"]
        assert bytes_of(name).keys() == before


@root
def test_from_another_pid_namespace_nothing_is_removed(
    capsys: pytest.CaptureFixture[str], pool: Pool
) -> None:
    """There the coordinator's number is nobody's, and it lives."""
    (found,) = json.loads(in_another_namespace("gc --json"))
    assert (found["name"], found["orphaned"], found["removed"]) == (pool.name, False, [])
    assert "another pid namespace" in found["reason"]
    pool.acquire().release()


@root
def test_the_orphans_of_another_user_are_left_alone(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """Even by root; and of an own orphan, a slab that is somebody else's."""
    name = left_behind("look-orphan")
    os.chown(SHM / name, 65534, 65534)
    assert "belongs to uid 65534" in verdict(capsys, name)["reason"]
    os.chown(SHM / name, os.geteuid(), os.getegid())
    os.chown(SHM / f"{name}.slab0", 65534, 65534)
    verdict(capsys, name)
    assert [*bytes_of(name)] == [f"{name}.slab0"]


def test_of_two_at_once_one_removes(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """The other sees the lock on the control block, and stays away."""
    name = left_behind("look-orphan")
    with (SHM / name).open("rb") as control:
        fcntl.flock(control, fcntl.LOCK_EX)
        (found,) = as_json(capsys, "gc", code=1)
        assert "being removed already" in found["reason"]
        assert not found["removed"]
    assert name in verdict(capsys, name)["removed"]


def test_a_pool_that_takes_the_name_of_an_orphan_meanwhile_lives(
    capsys: pytest.CaptureFixture[str],
    left_behind: Callable[..., str],
    make_pool: MakePool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the verdict and the removal: the names are the same, the file is another."""
    name = left_behind("look-orphan")
    made: list[Pool] = []

    def be_overtaken(spec: Any, control: int) -> list[str]:
        remove_orphan(name)
        made.append(make_pool(name=name, slots=2, slot_size=64))
        return remove_all(spec, control)

    remove_all = _sweep.remove_all
    monkeypatch.setattr(_sweep, "remove_all", be_overtaken)
    assert "was removed meanwhile" in as_json(capsys, "gc", code=1)[0]["reason"]
    made[0].acquire().release()
    Pool.attach(name).close()


def test_a_number_that_is_another_process_by_now_is_a_dead_coordinator(pool: Pool) -> None:
    """By its inode or its start time; without either, nothing is proven."""
    me = pool._mapping.spec.coordinator
    assert not is_dead(me)
    assert is_dead(Identity(me.pid, me.start_time + 1, 0))
    assert is_dead(Identity(me.pid, 0, me.pidfd_inode + 1)) == bool(me.pidfd_inode)
    assert not is_dead(Identity(me.pid))


def test_members_that_are_alive_keep_what_they_hold(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """An orphan's names go, the memory of those who have it mapped stays."""
    name = left_behind("look-orphan")
    spec = _look.look(name).spec
    with opened(name) as control:
        mapping = attach(spec, control, 0)
    mapping.enter("survivor")
    assert "members alive: 1" in verdict(capsys, name)["reason"]
    assert mapping.view().queue_size(1) == 1
    mapping.leave()


# doctor.


def test_every_check_says_something_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """Exit code 1 if one of them is to do, and each of those has a remedy."""
    before = bytes_of(name := left_behind("look-orphan"))
    findings = checks.every()
    todo = [finding for finding in findings if finding.grade is Grade.TODO]
    assert "orphans" in [finding.check for finding in todo]
    assert all(finding.remedy for finding in todo)
    shown = as_json(capsys, "doctor", code=1)
    assert [found["check"] for found in shown] == [finding.check for finding in findings]
    text = told(capsys, "doctor", code=1)
    assert all(finding.check in text for finding in findings)
    assert bytes_of(name) == before


def test_the_exit_code_says_if_there_is_something_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note is nothing to do."""
    for grade, code in ((Grade.OK, 0), (Grade.NOTE, 0), (Grade.TODO, 1)):
        findings = [Finding("a", Grade.OK, "is so"), Finding("b", grade, "is so", "do this")]
        monkeypatch.setattr(checks, "every", lambda findings=findings: findings)
        assert "b: do this" in told(capsys, "doctor", code=code)


MIB = 1 << 20
JUDGED = [
    (checks.judge_space(64 * MIB, 64 * MIB), Grade.TODO, "--shm-size"),
    (checks.judge_space(1000 * MIB, 99 * MIB), Grade.TODO, "shmpool gc"),
    (checks.judge_space(1000 * MIB, 101 * MIB), Grade.OK, None),
    (checks.judge_space(0, 0), Grade.OK, None),
    (checks.judge_descriptors(256, 4096), Grade.TODO, "ulimit -n"),
    (checks.judge_descriptors(1024, 4096), Grade.OK, None),
    (checks.judge_descriptors(resource.RLIM_INFINITY, resource.RLIM_INFINITY), Grade.OK, None),
    (checks.judge_identity(77, 0), Grade.OK, None),
    (checks.judge_identity(0, 77), Grade.NOTE, None),
    (checks.judge_identity(0, 0), Grade.TODO, "/proc"),
    (checks.judge_fences(moves=True), Grade.OK, None),
    (checks.judge_fences(moves=False), Grade.NOTE, "5.13"),
    (checks.judge_mappings(65530), Grade.OK, None),
    (checks.judge_mappings(1000), Grade.TODO, "sysctl"),
    (checks.judge_cpus(8, None), Grade.OK, None),
    (checks.judge_cpus(8, 2.0), Grade.NOTE, "workers="),
    (checks.judge_cpus(1, None), Grade.NOTE, None),
]


@pytest.mark.parametrize(("finding", "grade", "remedy"), JUDGED)
def test_a_number_is_judged(finding: Finding, grade: Grade, remedy: str | None) -> None:
    """What is too little has a remedy, what is enough has none."""
    assert finding.grade is grade
    assert (remedy in (finding.remedy or "")) if remedy else finding.remedy is None


def test_a_system_that_cannot_see_deaths_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """pidfd_open fails as under a seccomp profile that does not know it; ls still lists."""

    def refused(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refused)
    assert checks.pidfd().grade is Grade.TODO
    assert "seccomp" in told(capsys, "doctor", code=1)


def test_a_pool_is_shown_where_deaths_cannot_be_seen(
    capsys: pytest.CaptureFixture[str], pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its coordinator is then neither dead nor alive, and gc leaves it alone."""

    def refused(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pidfd_open", refused)
        assert row(capsys, pool.name)["coordinator"] == "unknown"
        found = verdict(capsys, pool.name)
        assert not found["orphaned"]
        assert "cannot be told here" in found["reason"]
        assert as_json(capsys, "inspect", pool.name)["members"][0]["life"] == "unknown"


@root
def test_the_dev_shm_of_a_container_is_told() -> None:
    """64 MiB, as Docker makes it: exit code 1, and how to have more."""
    script = (
        f"mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm; {sys.executable} -m shmpool doctor"
    )
    command = ["unshare", "-m", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "64.0 MiB of 64.0 MiB free" in done.stdout
    assert "--shm-size" in done.stdout


def test_orphans_and_strays_are_told(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """An orphan is something to do; a slab without its pool may be somebody's."""
    name = left_behind("look-orphan")
    finding = checks.orphans()
    assert (finding.grade, finding.remedy) == (Grade.TODO, "shmpool gc")
    assert name in told(capsys, "doctor", code=1)
    assert checks.strays().grade is Grade.OK
    (SHM / name).unlink()
    assert f"{name}.slab0" in checks.strays().fact
    assert checks.strays().grade is Grade.NOTE
