"""A slot as a file: whatever writes to a file object renders into a slot."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import shmpool

SIZE = 1 << 16
CAPACITY = 4096

Call = Callable[[Any], object]


@pytest.fixture
def wide(make_pool: Callable[..., shmpool.Pool]) -> shmpool.Pool:
    """Slots with room for a small file."""
    return make_pool(slots=2, slot_size=SIZE)


def writer(lease: shmpool.Lease) -> Any:
    """A writer, for libraries that ask the type checker for more of a file than they use."""
    return lease.writer()


def reader(lease: shmpool.Lease) -> Any:
    """The same of a reader."""
    return lease.reader()


def passed_on(pool: shmpool.Pool, lease: shmpool.Lease) -> shmpool.Lease:
    """The lease at the other end of a queue."""
    pool.queue("a").put(lease)
    return pool.queue("a").get(timeout=0)


# --- what others write --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_a_picture_is_saved_and_opened(wide: shmpool.Pool, kind: str) -> None:
    """Pillow saves into `lease.writer()` and opens `lease.reader()`."""
    pixels = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
    lease = wide.acquire()
    with writer(lease) as file:
        Image.fromarray(pixels).save(file, kind)
    with passed_on(wide, lease) as got, reader(got) as file, Image.open(file) as image:
        assert image.format == kind
        assert np.array_equal(np.asarray(image.convert("L")), pixels)
        image.close()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(60, dtype="<i4").reshape(3, 4, 5),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.zeros((2,), [("x", "<f8"), ("tag", "S4")]),
        np.float64(1.5),
        np.zeros((0, 3)),
    ],
    ids=lambda array: str(np.asarray(array).shape),
)
def test_an_array_is_saved_and_loaded(wide: shmpool.Pool, array: Any) -> None:
    """np.save and np.load take writer and reader for files."""
    lease = wide.acquire()
    with lease.writer() as file:
        np.save(file, array)
    with passed_on(wide, lease) as got, got.reader() as file:
        loaded = np.load(file)
        assert loaded.dtype == np.asarray(array).dtype
        assert np.array_equal(loaded, array)


def test_json_is_dumped_through_a_text_wrapper(wide: shmpool.Pool) -> None:
    """io.TextIOWrapper makes a text file of a writer, and of a reader."""
    value = {"name": "süß", "numbers": list(range(100))}
    lease = wide.acquire()
    with io.TextIOWrapper(writer(lease), encoding="utf-8") as file:
        json.dump(value, file)
    with passed_on(wide, lease) as got:
        with io.TextIOWrapper(reader(got), encoding="utf-8") as file:
            assert json.load(file) == value
        assert json.loads(bytes(got.array())) == value


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_written_and_read(wide: shmpool.Pool, method: int) -> None:
    """Zipfile seeks back to patch its headers."""
    members = {f"{number}.txt": bytes([number]) * 300 for number in range(5)}
    lease = wide.acquire()
    with lease.writer() as file, zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with passed_on(wide, lease) as got, got.reader() as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == members


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_are_pickled(wide: shmpool.Pool, protocol: int) -> None:
    """pickle.dump and pickle.load, several objects one after the other."""
    values: list[Any] = [{"a": (1, 2.5, None)}, "text", b"bytes" * 100, [1] * 1000]
    lease = wide.acquire()
    with lease.writer() as file:
        for value in values:
            pickle.dump(value, file, protocol)
    with passed_on(wide, lease) as got, got.reader() as file:
        assert [pickle.load(file) for _ in values] == values  # noqa: S301 - our own


def test_one_slot_is_copied_to_another(wide: shmpool.Pool) -> None:
    """A reader is a source for shutil.copyfileobj, a writer its destination."""
    with wide.acquire() as one, wide.acquire() as other:
        with one.writer() as file:
            file.write(bytes(range(256)) * 100)
        with one.reader() as source, other.writer() as file:
            shutil.copyfileobj(source, file)
        assert bytes(other.array()) == bytes(range(256)) * 100


# --- what is described --------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 7, CAPACITY - 1, CAPACITY])
def test_closing_describes_exactly_the_written_bytes(pool: shmpool.Pool, count: int) -> None:
    """The receiver's array and reader have the bytes written, not the slot."""
    data = bytes(number % 251 for number in range(count))
    lease = pool.acquire()
    memoryview(lease)[:] = b"\xff" * CAPACITY
    with lease.writer() as file:
        assert file.write(data) == count
    with passed_on(pool, lease) as got:
        array = got.array()
        assert array.shape == (count,)
        assert array.dtype == np.uint8
        assert array.tobytes() == data
        del array
        with got.reader() as file:
            assert file.read() == data
            assert file.read() == b""


def test_a_writer_starts_empty(pool: shmpool.Pool) -> None:
    """Contents and description of before are not part of the file."""
    with pool.acquire() as lease:
        lease.array((10,), "f8")[:] = 1
        with lease.writer() as file:
            assert file.read() == b""
            assert file.seek(0, io.SEEK_END) == 0
        assert lease.array().shape == (0,)


def test_flush_describes_what_is_written_so_far(pool: shmpool.Pool) -> None:
    """What was flushed reaches the receiver, though the file was not closed."""
    lease = pool.acquire()
    file = lease.writer()
    file.write(b"abc")
    file.flush()
    with passed_on(pool, lease) as got:
        assert bytes(got.array()) == b"abc"
        file.close()
        assert bytes(got.array()) == b"abc"


def test_going_back_does_not_shorten_the_file(pool: shmpool.Pool) -> None:
    """The length is the furthest byte written, wherever the position is."""
    with pool.acquire() as lease:
        with lease.writer() as file:
            file.write(b"0123456789")
            file.seek(2)
            file.write(b"ab")
        assert bytes(lease.array()) == b"01ab456789"


def test_a_reader_reads_the_bytes_of_a_described_array(pool: shmpool.Pool) -> None:
    """reader() is a file over whatever array the sender described."""
    with pool.acquire() as lease:
        lease.array((3, 2), "<u2")[:] = 513
        with lease.reader() as file:
            assert file.read() == b"\x01\x02" * 6


# --- as files do --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"more"),
        memoryview(b"abcdef")[1:4],
        np.arange(6, dtype="<i4").reshape(2, 3),
        np.float64(0.5),
        b"",
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "number", "empty"],
)
def test_anything_with_bytes_is_written(pool: shmpool.Pool, data: Any) -> None:
    """write() takes bytes-like objects of any item size, and counts bytes."""
    expected = memoryview(data).tobytes()
    with pool.acquire() as lease:
        with lease.writer() as file:
            assert file.write(data) == len(expected)
            assert file.tell() == len(expected)
        assert bytes(lease.array()) == expected


@pytest.mark.parametrize(
    "data",
    [memoryview(b"abcdef")[::2], np.arange(12).reshape(3, 4)[:, ::2], np.ones((3, 4)).T],
    ids=["memoryview", "array", "transposed"],
)
@pytest.mark.parametrize("at", [2, 6])
def test_bytes_that_do_not_lie_together_are_refused(pool: shmpool.Pool, data: Any, at: int) -> None:
    """As from io.BytesIO, numpy's error or memoryview's; the file is as it was."""
    model = io.BytesIO(b"ab")
    with pool.acquire() as lease, lease.writer() as file:
        file.write(b"ab")
        for each in (model, file):
            each.seek(at)
            with pytest.raises((BufferError, ValueError)):
                each.write(data)
            assert each.tell() == at
        assert bytes(file.getbuffer()) == model.getvalue()


@pytest.mark.parametrize("data", ["text", 5, None])
def test_what_has_no_bytes_is_a_type_error(pool: shmpool.Pool, data: Any) -> None:
    """Text wants an encoding, as with any binary file."""
    with pool.acquire() as lease, lease.writer() as file:
        with pytest.raises(TypeError):
            file.write(data)
        assert file.tell() == 0


def test_a_writer_behaves_as_a_bytes_file_does(pool: shmpool.Pool) -> None:
    """Steps in a row give what they give with io.BytesIO."""
    steps: list[Call] = [
        lambda file: file.write(b"first line\nsecond line\nthird"),
        lambda file: file.seek(3),
        lambda file: file.read(4),
        lambda file: file.tell(),
        lambda file: file.write(b"XY"),
        lambda file: file.seek(-4, io.SEEK_END),
        lambda file: file.read(),
        lambda file: file.read(),
        lambda file: file.seek(0),
        lambda file: file.readline(),
        lambda file: file.readlines(),
        lambda file: file.seek(2),
        lambda file: file.seek(3, io.SEEK_CUR),
        lambda file: file.truncate(),
        lambda file: file.tell(),
        lambda file: file.read(),
        lambda file: file.seek(0),
        lambda file: file.read(None),
        lambda file: file.seek(12),
        lambda file: file.read(5),
        lambda file: file.readinto(bytearray(4)),
        lambda file: file.write(b"after a gap"),
        lambda file: file.writelines([b"a", b"b"]),
        lambda file: file.seek(1),
        lambda file: file.read1(3),
        lambda file: file.readinto1(bytearray(3)),
        lambda file: file.truncate(4),
        lambda file: file.tell(),
        lambda file: file.getvalue() if hasattr(file, "getvalue") else bytes(file.getbuffer()),
        lambda file: bytes(file.getbuffer()),
    ]
    model = io.BytesIO()
    with pool.acquire() as lease, lease.writer() as file:
        for number, step in enumerate(steps):
            assert step(file) == step(model), f"step {number}"


def test_a_gap_is_filled_with_zeros(pool: shmpool.Pool) -> None:
    """The last holder's bytes do not show through a gap left by seek."""
    with pool.acquire() as lease:
        memoryview(lease)[:] = b"\xff" * CAPACITY
        with lease.writer() as file:
            file.write(b"ab")
            assert file.seek(6) == 6
            file.write(b"c")
        assert bytes(lease.array()) == b"ab\0\0\0\0c"


def test_a_seek_alone_does_not_lengthen_the_file(pool: shmpool.Pool) -> None:
    """Only a write beyond the end fills the gap."""
    with pool.acquire() as lease:
        with lease.writer() as file:
            file.write(b"ab")
            assert file.seek(CAPACITY * 2) == CAPACITY * 2
            assert file.read() == b""
            assert file.readinto(bytearray(3)) == 0
        assert bytes(lease.array()) == b"ab"


def test_an_empty_write_beyond_the_end_writes_nothing(pool: shmpool.Pool) -> None:
    """As with io.BytesIO, writing no bytes does not lengthen the file."""
    model = io.BytesIO(b"ab")
    with pool.acquire() as lease, lease.writer() as file:
        file.write(b"ab")
        for each in (model, file):
            each.seek(6)
            each.write(b"")
        assert bytes(file.getbuffer()) == model.getvalue()


def test_bytes_cut_off_do_not_come_back(pool: shmpool.Pool) -> None:
    """Truncating and going beyond again reads zeros, as files do."""
    with pool.acquire() as lease:
        with lease.writer() as file:
            file.write(b"abcdef")
            assert file.truncate(2) == 2
            assert file.tell() == 6
            file.write(b"g")
        assert bytes(lease.array()) == b"ab\0\0\0\0g"


def test_truncate_extends_with_zeros(pool: shmpool.Pool) -> None:
    """A larger size adds zeros, up to the slot's size."""
    with pool.acquire() as lease:
        memoryview(lease)[:] = b"\xff" * CAPACITY
        with lease.writer() as file:
            file.write(b"ab")
            assert file.truncate(5) == 5
            assert file.tell() == 2
        assert bytes(lease.array()) == b"ab\0\0\0"


@pytest.mark.parametrize(
    "call",
    [
        lambda file: file.seek(-1),
        lambda file: file.seek(-3, io.SEEK_CUR),
        lambda file: file.seek(-3, io.SEEK_END),
        lambda file: file.seek(0, 3),
        lambda file: file.truncate(-1),
    ],
)
def test_a_place_that_cannot_be_raises_value_error(pool: shmpool.Pool, call: Call) -> None:
    """Negative positions and sizes are refused, and the position stays."""
    with pool.acquire() as lease, lease.writer() as file:
        file.write(b"ab")
        with pytest.raises(ValueError):
            call(file)
        assert file.tell() == 2


@pytest.mark.parametrize("into", [bytearray(3), np.zeros(2, "<u2"), memoryview(bytearray(9))])
def test_readinto_fills_a_buffer(pool: shmpool.Pool, into: Any) -> None:
    """readinto() fills from the position, says how many bytes, and goes on from there."""
    room = memoryview(into).nbytes
    with pool.acquire() as lease, lease.writer() as file:
        file.write(b"0123456789")
        file.seek(4)
        count = min(room, 6)
        assert file.readinto(into) == count
        assert bytes(memoryview(into).cast("B")[:count]) == b"456789"[:count]
        assert file.tell() == 4 + count


def test_a_line_is_iterated(pool: shmpool.Pool) -> None:
    """Iterating a reader gives lines."""
    with pool.acquire() as lease:
        with lease.writer() as file:
            file.writelines([b"one\n", b"two\n", b"three"])
        with lease.reader() as file:
            assert list(file) == [b"one\n", b"two\n", b"three"]


def test_getbuffer_is_the_written_bytes_themselves(pool: shmpool.Pool) -> None:
    """No copy: writing to the buffer writes to the slot, and its length is the file's."""
    with pool.acquire() as lease, lease.writer() as file:
        file.write(b"abcd")
        with file.getbuffer() as view:
            assert view.nbytes == 4
            view[0] = ord("X")
        assert bytes(memoryview(lease)[:4]) == b"Xbcd"


def test_getbuffer_keeps_the_lease_from_ending(make_pool: Callable[..., shmpool.Pool]) -> None:
    """It is a view like any other: with views="raise" the lease goes on while it is alive."""
    lease = make_pool(views="raise").acquire()
    file = lease.writer()
    file.write(b"abcd")
    view = file.getbuffer()
    with pytest.raises(shmpool.ViewsAliveError):
        lease.release()
    view.release()
    del view
    lease.release()


def test_a_write_of_its_own_buffer_moves_bytes(pool: shmpool.Pool) -> None:
    """Source and destination may overlap."""
    with pool.acquire() as lease:
        with lease.writer() as file:
            file.write(b"abcdef")
            file.seek(2)
            with file.getbuffer() as view:
                file.write(view)
        assert bytes(lease.array()) == b"ababcdef"


# --- overflow -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "needed"),
    [
        (lambda file: file.write(b"x" * (CAPACITY - 2)), CAPACITY + 1),
        (lambda file: file.write(b"x" * CAPACITY * 3), CAPACITY * 3 + 3),
        (lambda file: file.truncate(CAPACITY + 1), CAPACITY + 1),
        (lambda file: (file.seek(CAPACITY), file.write(b"x")), CAPACITY + 1),
        (lambda file: (file.seek(1 << 40), file.write(b"x")), (1 << 40) + 1),
    ],
    ids=["one byte", "far", "truncate", "after a seek", "after a long seek"],
)
def test_an_overflow_says_how_much_was_needed(pool: shmpool.Pool, call: Call, needed: int) -> None:
    """SlotOverflowError has `needed` and `slot_size`; the file is as it was, and goes on."""
    with pool.acquire() as lease:
        memoryview(lease)[:] = b"\xff" * CAPACITY
        with lease.writer() as file:
            file.write(b"abc")
            with pytest.raises(shmpool.SlotOverflowError, match=str(needed)) as caught:
                call(file)
            assert (caught.value.needed, caught.value.slot_size) == (needed, CAPACITY)
            assert bytes(memoryview(lease)[:5]) == b"abc\xff\xff"
            file.seek(0, io.SEEK_END)
            assert file.tell() == 3
            file.write(b"def")
        assert bytes(lease.array()) == b"abcdef"


def test_a_refused_write_does_not_move_the_position(pool: shmpool.Pool) -> None:
    """After an overflow the next write continues where the last one ended."""
    with pool.acquire() as lease, lease.writer() as file:
        file.write(b"x" * (CAPACITY - 1))
        with pytest.raises(shmpool.SlotOverflowError):
            file.write(b"yy")
        assert file.tell() == CAPACITY - 1
        assert file.write(b"z") == 1
        assert file.tell() == CAPACITY


def test_an_overflow_of_a_picture_reaches_the_caller(pool: shmpool.Pool) -> None:
    """What others write too much of raises through them; the slot can be used again."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    with pool.acquire() as lease:
        with pytest.raises(shmpool.SlotOverflowError) as caught, writer(lease) as file:
            Image.fromarray(noise).save(file, "PNG")
        assert caught.value.needed > CAPACITY
        with lease.writer() as file:
            file.write(b"instead")
        assert bytes(lease.array()) == b"instead"


# --- the lease and its files --------------------------------------------------------------


def _put(pool: shmpool.Pool, lease: shmpool.Lease) -> None:
    pool.queue("a").put(lease)


ENDINGS: dict[str, Callable[[shmpool.Pool, shmpool.Lease], object]] = {
    "released": lambda _, lease: lease.release(),
    "put": _put,
    "detached": lambda _, lease: lease.detach(),
}
CALLS: dict[str, Call] = {
    "write": lambda file: file.write(b"late"),
    "empty write": lambda file: file.write(b""),
    "read": lambda file: file.read(),
    "readinto": lambda file: file.readinto(bytearray(2)),
    "seek": lambda file: file.seek(0),
    "tell": lambda file: file.tell(),
    "truncate": lambda file: file.truncate(0),
    "getbuffer": lambda file: file.getbuffer(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_of_a_lease_that_is_over_raises(pool: shmpool.Pool, ending: str, call: str) -> None:
    """StaleTicketError, and the slot's next holder keeps his bytes; closing is still allowed."""
    lease = pool.acquire()
    file = lease.writer()
    file.write(b"abc")
    ENDINGS[ending](pool, lease)
    with pytest.raises(shmpool.StaleTicketError, match=ending):
        CALLS[call](file)
    file.close()
    assert file.closed


def test_an_open_writer_does_not_keep_the_lease_from_ending(pool: shmpool.Pool) -> None:
    """A file holds the lease, not its memory: it is no view."""
    with pool.acquire() as lease:
        file = lease.writer()
        file.write(b"abc")
        file.read()
    assert not lease.live
    assert pool.audit()["free"] == pool.slots
    file.close()


def test_an_open_reader_does_not_keep_the_lease_from_ending(pool: shmpool.Pool) -> None:
    """Neither does a reader, in the middle of its bytes."""
    with pool.acquire() as lease:
        lease.array((100,), "u1")
        file = lease.reader()
        file.read(10)
    with pytest.raises(shmpool.StaleTicketError):
        file.read(10)


def test_a_late_close_does_not_describe_the_next_holders_slot(
    make_pool: Callable[..., shmpool.Pool],
) -> None:
    """Closing, or collecting, a file after the lease changes nothing of the slot."""
    pool = make_pool(slots=1)
    with pool.acquire() as lease:
        files = [lease.writer(), lease.writer()]
        files[0].write(b"abc")
    with pool.acquire() as following:
        following.array((2, 2), "f4")
        files.pop().close()
        files.clear()
        assert following.array().shape == (2, 2)


def test_a_write_under_an_array_is_seen_in_it(pool: shmpool.Pool) -> None:
    """File and array are the same bytes."""
    with pool.acquire() as lease:
        array = lease.array((4,), "u1")
        with lease.writer() as file:
            file.write(b"\x01\x02\x03\x04")
        assert array.tolist() == [1, 2, 3, 4]
        del array


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_file_raises_value_error(pool: shmpool.Pool, call: str) -> None:
    """As any closed file; closing twice is allowed."""
    with pool.acquire() as lease:
        file = lease.writer()
        file.close()
        file.close()
        with pytest.raises(ValueError, match="closed"):
            CALLS[call](file)


@pytest.mark.parametrize(
    "call",
    [lambda file: file.write(b"x"), lambda file: file.truncate(1)],
    ids=["write", "truncate"],
)
def test_a_reader_is_not_writable(pool: shmpool.Pool, call: Call) -> None:
    """io.UnsupportedOperation, and the bytes stay; its buffer is read-only too."""
    with pool.acquire() as lease:
        lease.array((4,), "u1")[:] = 7
        with lease.reader() as file:
            assert (file.readable(), file.writable(), file.seekable()) == (True, False, True)
            with pytest.raises(io.UnsupportedOperation):
                call(file)
            with file.getbuffer() as view:
                assert view.readonly
            assert file.read() == b"\x07" * 4
        assert lease.array().shape == (4,)


def test_closing_a_reader_leaves_the_description(pool: shmpool.Pool) -> None:
    """A reader describes nothing: shape and dtype stay the sender's."""
    with pool.acquire() as lease:
        lease.array((2, 3), "<f4")
        with lease.reader() as file:
            file.flush()
            file.read(3)
        assert lease.array().shape == (2, 3)


def test_a_writer_is_readable_writable_and_seekable(pool: shmpool.Pool) -> None:
    """A writer reads back what it wrote."""
    with pool.acquire() as lease, lease.writer() as file:
        assert isinstance(file, io.BufferedIOBase)
        assert (file.readable(), file.writable(), file.seekable()) == (True, True, True)
        with pytest.raises(OSError):
            file.fileno()


def test_a_writer_that_moved_describes_the_new_slot() -> None:
    """Also when it is as long as what was described in the old one."""
    with shmpool.Pool.create(classes=[("4 KiB", 1), ("16 KiB", 1)]) as pool:
        lease = pool.acquire(10)
        file = lease.writer()
        file.write(b"x" * 100)
        file.flush()
        file.truncate(10_000)
        file.truncate(100)
        file.close()
        assert bytes(lease.array()) == b"x" * 100
        lease.release()
