"""Hostile segments: whatever stands in /dev/shm under a pool's name, attaching survives it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import shmpool
from shmpool import Pool, _core
from shmpool._layout import CLASS, HEADER, QUEUE

MakePool = Callable[..., Pool]
SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
CHECKED_FROM = 16
STATIC = HEADER.itemsize + CLASS.itemsize + QUEUE.itemsize  # of the pools here: no header record
VALUES = ("zero", "ones", "flip")


def tampered(value: str, old: int, ones: int) -> int:
    """What to write over `old`."""
    return {"zero": 0, "ones": ones, "flip": old ^ 1}[value]


def write(path: Path, at: int, data: bytes) -> None:
    """Overwrite some bytes of a file in place."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def set_field(path: Path, offset: int, data: bytes) -> None:
    """Overwrite a part of the static part, and make the checksum right again."""
    write(path, offset, data)
    static = path.read_bytes()[:STATIC]
    checksum = zlib.crc32(static[CHECKED_FROM:])
    write(path, _core.RECORDS["header"]["checksum"][0], struct.pack("<I", checksum))


@contextmanager
def preserved(path: Path) -> Iterator[Path]:
    """Put back a file's bytes, size, owner and mode at the end."""
    content, stat = path.read_bytes(), path.stat()
    try:
        yield path
    finally:
        if not path.exists():
            path.touch()
        os.chown(path, stat.st_uid, stat.st_gid)
        path.chmod(stat.st_mode & 0o7777)
        os.truncate(path, len(content))
        write(path, 0, content)


def refusal(name: str, kind: type[shmpool.ShmpoolError]) -> Any:
    """The error of attaching, which is of this very kind and names the pool."""
    with pytest.raises(kind) as caught:
        Pool.attach(name).close()
    assert type(caught.value) is kind
    assert name in str(caught.value)
    return caught.value


@pytest.fixture
def victim(make_pool: MakePool) -> Pool:
    """A small pool that lives: two slots, one queue, two members."""
    return make_pool(slots=2, slot_size=64, queues=("q",), members=2, views="raise")


@pytest.fixture
def control(victim: Pool) -> Iterator[Path]:
    """The file of its control block, put back after the test."""
    with preserved(SHM / victim.name) as path:
        yield path


@pytest.fixture
def slab(victim: Pool) -> Iterator[Path]:
    """The file of its slots, put back after the test."""
    with preserved(SHM / f"{victim.name}.slab0") as path:
        yield path


@pytest.fixture
def stray() -> Iterator[Path]:
    """A file in /dev/shm that is no pool."""
    path = SHM / "stray"
    yield path
    path.unlink()


# Files that are no pool.


@pytest.mark.parametrize("size", [0, 1, 8, 16, 255])
@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_a_file_shorter_than_a_header_is_no_pool(stray: Path, size: int, fill: bytes) -> None:
    """Nothing is read from a file that has no room for a header."""
    stray.write_bytes(fill * size)
    stray.chmod(0o600)
    refusal("stray", shmpool.NotAPoolError)


def test_random_bytes_are_no_pool(stray: Path) -> None:
    """Shared memory of another program has no magic."""
    stray.write_bytes(b"\xa5" + os.urandom(8191))
    stray.chmod(0o600)
    refusal("stray", shmpool.NotAPoolError)
    with pytest.raises(shmpool.NotAPoolError):
        shmpool.remove_orphan("stray")
    assert stray.exists()


def test_creating_over_a_stray_file_leaves_it_alone(stray: Path) -> None:
    """A name that something else has is taken, whatever it is."""
    stray.write_bytes(b"precious")
    stray.chmod(0o600)
    with pytest.raises(shmpool.PoolExistsError) as caught:
        Pool.create(slots=1, slot_size=64, name="stray")
    assert "'stray'" in str(caught.value)
    assert stray.read_bytes() == b"precious"


def test_a_stray_slab_stops_a_pool_and_stays(stray: Path) -> None:
    """If only the slab's name is taken, nothing is left of the new pool, and the slab stays."""
    slab = SHM / "fresh.slab0"
    stray.write_bytes(b"")
    slab.write_bytes(b"precious")
    try:
        with pytest.raises(shmpool.SegmentError):
            Pool.create(slots=1, slot_size=64, name="fresh")
        assert not (SHM / "fresh").exists()
        assert slab.read_bytes() == b"precious"
    finally:
        slab.unlink()


def test_a_directory_is_no_pool() -> None:
    """A directory under the name is refused, not opened."""
    path = SHM / "folder"
    path.mkdir()
    try:
        with pytest.raises(shmpool.SegmentError):
            Pool.attach("folder")
    finally:
        path.rmdir()


def test_a_link_leads_nowhere(victim: Pool) -> None:
    """A symbolic link in /dev/shm, which anybody may place there, is not followed into a pool."""
    path = SHM / "link"
    path.symlink_to(SHM / victim.name)
    try:
        with pytest.raises(shmpool.ShmpoolError):
            Pool.attach("link").close()
    finally:
        path.unlink()


# Headers of real pools, tampered with.


def test_a_pool_without_its_magic_is_not_ready(victim: Pool, control: Path) -> None:
    """The magic is written last: a zero there means that the maker is at it, or died."""
    write(control, 0, bytes(8))
    refusal(victim.name, shmpool.PoolNotReadyError)


def test_a_wrong_magic_is_no_pool(victim: Pool, control: Path) -> None:
    """Any other magic is another program's."""
    write(control, 0, b"\x02SHMPOOL")
    refusal(victim.name, shmpool.NotAPoolError)


@pytest.mark.parametrize("version", [0, 1, 0xFFFFFFFF])
def test_another_version_is_named(victim: Pool, control: Path, version: int) -> None:
    """VersionError names both layout versions, the checksum matters no more."""
    write(control, 8, struct.pack("<I", version))
    error = refusal(victim.name, shmpool.VersionError)
    assert error.version == version
    assert f"version {version}" in str(error)
    assert str(_core.VERSION) in str(error)


def test_a_wrong_checksum_is_corruption(victim: Pool, control: Path) -> None:
    """The static part is covered by a CRC."""
    old = control.read_bytes()[12:16]
    write(control, 12, bytes(byte ^ 0xFF for byte in old))
    assert "checksum" in str(refusal(victim.name, shmpool.CorruptSegmentError))


@pytest.mark.parametrize("size", [HEADER.itemsize, STATIC - 1, STATIC, 4096 - 1, -1])
def test_a_truncated_control_block_is_told_with_its_sizes(
    victim: Pool, control: Path, size: int
) -> None:
    """TruncatedSegmentError says how many bytes there are and how many it needs."""
    full = control.stat().st_size
    size = full - 1 if size < 0 else size
    content = control.read_bytes()
    # Another inode: the living pool still has the old one mapped, and would die of SIGBUS.
    control.unlink()
    control.write_bytes(content[:size])
    control.chmod(0o600)
    error = refusal(victim.name, shmpool.TruncatedSegmentError)
    assert error.size == size
    assert size < error.needed <= full
    assert str(size) in str(error)


@pytest.mark.parametrize("size", [0, 1, 127, 4095])
def test_a_truncated_slab_is_told_with_its_sizes(victim: Pool, slab: Path, size: int) -> None:
    """A slab that is shorter than the header says is refused before it is mapped."""
    os.truncate(slab, size)
    error = refusal(victim.name, shmpool.TruncatedSegmentError)
    assert (error.size, error.needed) == (size, 4096)


def test_a_missing_slab_is_told(victim: Pool, slab: Path) -> None:
    """A control block without its slab is no pool to attach to."""
    slab.unlink()
    refusal(victim.name, shmpool.PoolNotFoundError)


HEADER_FIELDS = [
    ("total_size", [0, 1, 1 << 63, (1 << 64) - 1]),
    ("slots", [0, 1, 3, 65_535, 65_536, 0xFFFFFFFF]),
    ("classes", [0]),
    ("queues", [0]),
    ("members", [0, 1, 256, 0xFFFFFFFF]),
    ("record_size", [1, 64, 65_537, 0xFFFFFFFF]),
    ("history", [1, 0xFFFFFFFF]),
    ("reuse", [2, 0xFFFFFFFF]),
    ("views", [0, 2, 4, (1 << 64) - 1]),  # 0 and 2: of slots in whole pages
    ("coordinator_pid", [0, 1 << 31, (1 << 64) - 1]),
]


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in HEADER_FIELDS for value in values]
)
def test_a_field_out_of_range_is_corruption_under_a_right_checksum(
    victim: Pool, control: Path, field: str, value: int
) -> None:
    """Counts are checked for themselves and against the sizes that follow from them."""
    offset, size = _core.RECORDS["header"][field]
    set_field(control, offset, value.to_bytes(size, "little"))
    refusal(victim.name, shmpool.CorruptSegmentError)


@pytest.mark.parametrize("field", ["classes", "queues", "record_text"])
@pytest.mark.parametrize("value", [2, 9, 32, 70_000, 0xFFFFFFFF])
def test_a_table_longer_than_there_is_is_refused(
    victim: Pool, control: Path, field: str, value: int
) -> None:
    """A count that leads out of the file, or into what the checksum does not cover."""
    offset, size = _core.RECORDS["header"][field]
    set_field(control, offset, value.to_bytes(size, "little"))
    with pytest.raises((shmpool.CorruptSegmentError, shmpool.TruncatedSegmentError)) as caught:
        Pool.attach(victim.name).close()
    assert victim.name in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in ("slot_size", "stride", "max_count") for value in (0, 1 << 31, -1)]
    + [("stride", 63), ("slot_size", 65), ("max_count", 63), ("count", 3), ("count", -1)],
)
def test_a_class_out_of_range_is_corruption(
    victim: Pool, control: Path, field: str, value: int
) -> None:
    """Sizes and counts of slots follow from each other, or are refused."""
    offset, size = _core.RECORDS["class_spec"][field]
    data = (value % (1 << 8 * size)).to_bytes(size, "little")
    set_field(control, HEADER.itemsize + offset, data)
    refusal(victim.name, shmpool.CorruptSegmentError)


@pytest.mark.parametrize(
    ("field", "data"),
    [
        ("on_death", struct.pack("<I", 3)),
        ("dead_letter", struct.pack("<I", 2)),
        ("dead_letter", struct.pack("<I", 0xFFFFFFFF)),
        ("name", bytes(32)),
        ("name", b"\xff" * 32),
    ],
)
def test_a_queue_out_of_range_is_corruption(
    victim: Pool, control: Path, field: str, data: bytes
) -> None:
    """Policies are known, dead letters are queues of the pool, names are text."""
    offset = _core.RECORDS["queue_spec"][field][0]
    set_field(control, HEADER.itemsize + CLASS.itemsize + offset, data)
    refusal(victim.name, shmpool.CorruptSegmentError)


@pytest.mark.parametrize("name", [b"", b"\xff", b"..", b"a/b", b"x" * 64])
def test_a_name_inside_that_is_no_name_is_corruption(
    victim: Pool, control: Path, name: bytes
) -> None:
    """The name in the header leads to the slabs, and must not lead elsewhere."""
    offset, size = _core.RECORDS["header"]["name"]
    set_field(control, offset, name.ljust(size, b"\0"))
    refusal(victim.name, shmpool.CorruptSegmentError)


def test_a_dead_coordinator_is_told(victim: Pool, control: Path) -> None:
    """A header whose coordinator is no living process is an orphan's."""
    for field in ("coordinator_pid", "coordinator_start"):
        offset, size = _core.RECORDS["header"][field]
        set_field(control, offset, ((1 << 22) - 1).to_bytes(size, "little"))
    refusal(victim.name, shmpool.CoordinatorDiedError)


def test_another_pid_namespace_is_told(victim: Pool, control: Path) -> None:
    """The coordinator could not see this process die."""
    offset, size = _core.RECORDS["header"]["pid_namespace"]
    set_field(control, offset, (1).to_bytes(size, "little"))
    refusal(victim.name, shmpool.PidNamespaceError)


# Whose it is.


@pytest.mark.root
@pytest.mark.parametrize("part", ["control", "slab"])
def test_a_segment_of_another_user_is_foreign(
    victim: Pool, part: str, request: pytest.FixtureRequest
) -> None:
    """Only its own user's segments are believed, even by root."""
    os.chown(request.getfixturevalue(part), 12_345, -1)
    error = refusal(victim.name, shmpool.ForeignSegmentError)
    assert error.uid == 12_345
    assert "12345" in str(error)
    assert isinstance(error, PermissionError)


@pytest.mark.parametrize("part", ["control", "slab"])
@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_segment_that_others_may_write_to_is_foreign(
    victim: Pool, part: str, mode: int, request: pytest.FixtureRequest
) -> None:
    """A mode with write permission for group or others is refused, and named."""
    request.getfixturevalue(part).chmod(mode)
    assert f"{mode:o}" in str(refusal(victim.name, shmpool.ForeignSegmentError))


# Every byte, every word.


def harm(name: str) -> str | None:
    """Attach, and if that works, use it: None for results and errors of ours, else what came."""
    try:
        with Pool.attach(name) as pool, pool.acquire(timeout=0) as lease:
            lease.array((4,), "u1")[:] = 1
            pool.statistics(), pool.audit()
    except shmpool.ShmpoolError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
        return repr(error)
    return None


@pytest.mark.parametrize("checked", [False, True], ids=["checksum-stale", "checksum-right"])
@pytest.mark.parametrize("value", VALUES)
def test_no_byte_of_the_static_part_can_do_harm(
    make_pool: MakePool, value: str, checked: bool
) -> None:
    """Each byte zeroed, filled and flipped, with and without a checksum that agrees."""
    pool = make_pool(slots=2, slot_size=64, queues=("q",), members=9)
    with preserved(SHM / pool.name) as path:
        static = path.read_bytes()[:STATIC]
        harms = {}
        for at, old in enumerate(static):
            data = bytes([tampered(value, old, 255)])
            (set_field if checked else write)(path, at, data)
            harms[at] = harm(pool.name)
            write(path, 0, static)
    assert not {at: what for at, what in harms.items() if what}
    pool.acquire().release()
    assert pool.audit()["free"] == 2


PROBE = """
import faulthandler, logging, struct, sys
from contextlib import suppress
import shmpool
from shmpool import Pool, _core

faulthandler.enable()
faulthandler.dump_traceback_later(100, exit=True)  # a hang is told where it is
logging.disable(logging.CRITICAL)
value, first, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
bad = []

def calls(pool):
    queue = pool.queue("q")
    held = []
    yield "acquire", lambda: held.append(pool.acquire_nowait())
    yield "array", lambda: held[0].array((4,), "u1").sum() if held else None
    yield "put", lambda: queue.put(held.pop(0), timeout=0) if held else None
    yield "qsize", queue.qsize
    yield "get", lambda: held.append(queue.get_nowait())
    yield "described", lambda: held[0].array().sum() if held else None
    yield "statistics", pool.statistics
    yield "audit", pool.audit
    yield "release", lambda: held.pop().release() if held else None
    yield "claim", lambda: pool.claim(1 << 48 | 1)
    yield "again", lambda: held.append(pool.acquire_nowait())
    yield "detach", lambda: held.pop().detach() if held else None
    yield "repr", lambda: (repr(pool), repr(queue), pool.closed)

def attempt(at, what, call):
    try:
        call()
    except shmpool.ShmpoolError:
        pass
    except BaseException as error:
        bad.append(f"{what} after {value} at {at}: {type(error).__name__}: {error}")

def probe(at):
    pool = Pool.create(slots=2, slot_size=64, queues=("q",), members=2)
    other = Pool.attach(pool.name)
    for _ in range(2):  # described, with a ring that has turned
        lease = pool.acquire()
        lease.array((4,), "u1")[:] = 3
        pool.queue("q").put(lease)
    pool.queue("q").get().release()
    with open(f"/dev/shm/{pool.name}", "r+b", buffering=0) as file:
        file.seek(at)
        old = file.read(8)
        number = int.from_bytes(old, "little")
        new = {"zero": 0, "ones": (1 << 64) - 1, "flip": number ^ 1}[value]
        for what, call in calls(other):
            file.seek(at)
            file.write(new.to_bytes(8, "little"))
            print(at, what, file=sys.stderr, flush=True)
            attempt(at, what, call)
        call = None
        file.seek(at)
        file.write(old)
    attempt(at, "close other", other.close)
    attempt(at, "close", pool.close)

with Pool.create(slots=2, slot_size=64, queues=("q",), members=2) as pool:
    layout = _core.layout(pool._spec.counts)
for at in range(layout["static_size"] + 8 * first, layout["total_size"], 8 * step):
    probe(at)
print(*bad, sep="\\n")
sys.exit(3 if bad else 0)
"""


@pytest.mark.parametrize("value", VALUES)
def test_no_word_of_the_dynamic_part_can_do_harm(value: str) -> None:
    """Each word zeroed, filled and flipped under a member at work: errors of ours or results."""
    command = [sys.executable, "-c", PROBE, value, "0", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = "\n".join(done.stderr.splitlines()[-40:])
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\nlast: {last}"
