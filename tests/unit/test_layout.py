"""The control block: records as the compiler lays them out, and whose name they stand under."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shmpool
from shmpool import Pool, _core
from shmpool._layout import State, Word

MakePool = Callable[..., Pool]
SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
SIZES = {
    "header": 256,
    "class_spec": 64,
    "queue_spec": 64,
    "status": 128,
    "class_state": 64,
    "queue_state": 256,
    "member": 256,
    "slot": 64,
    "sheet": 192,
    "transition": 128,
    "history": 128,
    "trace_header": 64,
    "trace_ring": 64,
    "trace_event": 32,
}
# Texts that take the parser of `ast.literal_eval` deeper than Python's stack goes.
DEEP = {"signs": b"-" * 3000 + b"1", "dots": b"a" + b".a" * 3000, "sums": b"1" + b"+1" * 3000}


def test_every_record_has_the_size_that_is_written_down() -> None:
    """Whole cache lines, or a half: another size is another layout version."""
    assert {name: fields[""][1] for name, fields in _core.RECORDS.items()} == SIZES
    assert all(size % _core.LINE in (0, _core.LINE // 2) for size in SIZES.values())


@pytest.mark.parametrize("record", SIZES)
def test_fields_lie_in_their_record_and_apart(record: str) -> None:
    """No field begins before the last one ends, nor ends behind its record."""
    fields = dict(_core.RECORDS[record])
    _, end = fields.pop("")
    places = sorted(fields.values())
    starts = [at for at, _ in places] + [end]
    for (at, size), following in zip(places, starts[1:], strict=True):
        assert 0 <= at < at + size <= following


@given(
    generation=st.integers(0, (1 << 48) - 1),
    owner=st.integers(0, 255),
    queue=st.integers(0, 31),
    state=st.sampled_from(State),
)
def test_any_word_is_packed_and_unpacked(
    generation: int, owner: int, queue: int, state: State
) -> None:
    """`generation:48 | owner:8 | queue:5 | state:3`: no field runs into another."""
    packed = generation << 16 | owner << 8 | queue << 3 | state
    assert packed < 1 << 64
    assert Word.unpack(packed) == Word(generation, owner, queue, state)


@pytest.fixture
def twin() -> Iterator[Path]:
    """The place of a second control block, empty again after the test."""
    path = SHM / "twin"
    yield path
    path.unlink(missing_ok=True)


def test_a_copied_control_block_is_refused(make_pool: MakePool, twin: Path) -> None:
    """Under another name than its own it would lease slots that the pool has leased already."""
    pool = make_pool(name="original", slots=1)
    shutil.copyfile(SHM / pool.name, twin)
    twin.chmod(0o600)
    with pytest.raises(shmpool.SegmentError):
        Pool.attach("twin").close()


@pytest.mark.parametrize("kind", DEEP)
def test_a_deep_dtype_in_the_header_is_corruption(make_pool: MakePool, kind: str) -> None:
    """The text of the record's dtype is hostile too: no RecursionError comes out of it."""
    pool = make_pool(header=[(f"f{number}", "<i4") for number in range(800)])
    at = _core.layout(pool._spec.counts)
    text = DEEP[kind].ljust(len(pool._spec.record_text))
    assert len(text) == len(pool._spec.record_text)
    path = SHM / pool.name
    static = bytearray(path.read_bytes()[: at["static_size"]])
    static[at["record"] : at["record"] + len(text)] = text
    offset, size = _core.RECORDS["header"]["checksum"]
    static[offset : offset + size] = struct.pack("<I", zlib.crc32(static[16:]))
    with path.open("r+b") as file:
        file.write(static)
    with pytest.raises(shmpool.CorruptSegmentError):
        Pool.attach(pool.name).close()
