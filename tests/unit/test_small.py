"""The small parts: tickets, words, sizes, descriptions, identities, the control block."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Ticket, _core, _description
from shmpool._layout import SHEET, State, Word
from shmpool._process import Identity, is_alive, open_pidfd, start_time
from shmpool._sizes import parse_size, show_size

MOST = (1 << 64) - 1


# Tickets.


@pytest.mark.parametrize(
    ("slot", "generation", "value"),
    [
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 1 << 48),
        (3, 41, 844424930132009),
        (65_534, (1 << 48) - 1, (65_535 << 48) - 1),
        (65_535, (1 << 48) - 1, MOST),
    ],
)
def test_a_ticket_packs_slot_and_generation(slot: int, generation: int, value: int) -> None:
    """`slot:16 | generation:48`, and back."""
    ticket = Ticket.of(slot, generation)
    assert int(ticket) == value
    assert (ticket.slot, ticket.generation) == (slot, generation)
    assert Ticket(value) == ticket == value
    assert hash(ticket) == hash(value)


@pytest.mark.parametrize("value", [-1, MOST + 1, 1 << 200, -(1 << 64)])
def test_a_number_beyond_64_bits_is_no_ticket(value: int) -> None:
    """Tickets are integers from 0 to 2**64 - 1."""
    with pytest.raises(shmpool.ArgumentError) as caught:
        Ticket(value)
    assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("slot", "generation"),
    [(-1, 0), (65_536, 0), (0, -1), (0, 1 << 48), (3, 1 << 48), (1, -1), (2, (1 << 48) | 5)],
)
def test_a_ticket_is_not_packed_from_numbers_out_of_range(slot: int, generation: int) -> None:
    """A slot has 16 bits and a generation 48; one does not run into the other."""
    with pytest.raises(shmpool.ArgumentError):
        Ticket.of(slot, generation)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_ticket_travels_by_any_channel(protocol: int) -> None:
    """Pickle keeps the type, copies are equal, JSON keeps the number."""
    ticket = Ticket.of(7, 9)
    for twin in (
        pickle.loads(pickle.dumps(ticket, protocol)),  # noqa: S301
        copy.copy(ticket),
        copy.deepcopy(ticket),
    ):
        assert type(twin) is Ticket
        assert twin == ticket
    assert Ticket(json.loads(json.dumps(ticket))) == ticket


def test_a_ticket_is_read_as_slot_at_generation() -> None:
    """Text for people, and a repr that says what it is."""
    ticket = Ticket.of(3, 41)
    assert str(ticket) == f"{ticket}" == "3@41"
    assert repr(ticket) == "Ticket(3@41)"
    assert int(str(int(ticket))) == ticket


@pytest.mark.parametrize("value", ["3@41", None, 2.5, b"\0" * 8])
def test_what_is_no_integer_is_no_ticket(value: Any) -> None:
    """Neither text nor floats turn into tickets by accident."""
    with pytest.raises((shmpool.ArgumentError, TypeError)):
        Ticket(value)


# Words.


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("generation", "owner", "queue"),
    [(0, 0, 0), (1, 2, 3), ((1 << 48) - 1, 255, 31), (1 << 47, 1, 0)],
)
def test_a_word_is_unpacked(generation: int, owner: int, queue: int, state: State) -> None:
    """`generation:48 | owner:8 | queue:5 | state:3`."""
    packed = generation << 16 | owner << 8 | queue << 3 | state
    assert packed <= MOST
    assert Word.unpack(packed) == (generation, owner, queue, state)


def test_every_state_of_three_bits_is_known() -> None:
    """No word can hold a state without a name."""
    assert sorted(State) == list(range(8))


# Sizes.


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("42", 42),
        ("42B", 42),
        ("1 KiB", 1024),
        ("1 KB", 1000),
        ("1K", 1024),
        ("6 MiB", 6 << 20),
        ("6mib", 6 << 20),
        ("1.5 GiB", 3 << 29),
        ("2 TB", 2 * 10**12),
        ("1 TiB", 1 << 40),
        ("  7  kb  ", 7000),
        ("0.5K", 512),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, size: int) -> None:
    """KiB is 1024, KB 1000 and a bare K 1024; case and blanks do not matter."""
    assert parse_size(text) == size
    assert parse_size(size) == size


@pytest.mark.parametrize(
    "value",
    ["", " ", "B", "KiB", "1 XB", "1 Ki", "-1", "+1", "1e3", "1_000", ".5", "5.", "1 2", "1KiBs",
     True, False, 1.5, None, b"1", [1], 1j],
)  # fmt: skip
def test_what_is_no_size_is_quoted_under_its_name(value: Any) -> None:
    """SizeError names the option, the value and an example."""
    with pytest.raises(shmpool.SizeError) as caught:
        parse_size(value, "slot_size")
    assert f"slot_size is {value!r}" in str(caught.value)
    assert "6 MiB" in str(caught.value)


@pytest.mark.parametrize("text", ["9" * 309, "9" * 400 + " TiB", "9" * 5000])
def test_a_size_beyond_every_number_is_a_size_error_or_a_number(text: str) -> None:
    """A text of digits without end raises nothing but SizeError."""
    try:
        assert parse_size(text) > 1 << 64
    except shmpool.SizeError as error:
        assert "size" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (6 << 20, "6.0 MiB"),
        (1 << 30, "1.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_a_size_is_shown_as_people_read_it(size: int, text: str) -> None:
    """One decimal, in the largest unit that leaves a whole part."""
    assert show_size(size) == text
    assert parse_size(text) == size


# Descriptions.


@pytest.mark.parametrize("dtype", ["u1", "<f4", ">i8", "?", "c16", "S7", "U3", "M8[ns]", "V5"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (1,) * 8, (1 << 62,)])
def test_a_description_says_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    """What is encoded is decoded, on one sheet of fixed size."""
    sheet = _description.encode(shape, np.dtype(dtype))
    assert len(sheet) == SHEET.itemsize == 192
    assert _description.decode(sheet) == (shape, np.dtype(dtype))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1,) * 9, "u1"),
        ((1,), "O"),
        ((1,), [("a", "O")]),
        ((1,), [(f"field_number_{n}", "f8") for n in range(9)]),
    ],
)
def test_what_does_not_fit_on_a_sheet_is_a_shape_error(shape: tuple[int, ...], dtype: Any) -> None:
    """At most 8 dimensions and 112 characters of dtype, and no Python objects."""
    with pytest.raises(shmpool.ShapeError):
        _description.encode(shape, np.dtype(dtype))


def broken(**fields: Any) -> bytes:
    """A good sheet with some fields replaced."""
    sheet = np.frombuffer(_description.encode((2, 2), np.dtype("f8")), SHEET).copy()
    for name, value in fields.items():
        sheet[name] = value
    return sheet.tobytes()


@pytest.mark.parametrize(
    "sheet",
    [
        b"",
        b"x" * 191,
        b"\xff" * 192,
        b"\0" * 193,
        bytes(192),
        broken(dimensions=9),
        broken(dimensions=0xFFFFFFFF),
        broken(dtype_length=0),
        broken(dtype_length=113),
        broken(dtype_length=2),
        broken(dtype=b"\xff" * 5),
        broken(dtype=b"'|O'", dtype_length=4),
        broken(dtype=b"[('a', '|O')]", dtype_length=13),
        broken(dtype=b"'nonsense'", dtype_length=10),
        broken(dtype=b"__import__('os')", dtype_length=16),
        broken(dtype=b"[]" * 50, dtype_length=100),
        broken(dtype=b"[" * 112, dtype_length=112),
        broken(dtype=b"(" * 112, dtype_length=112),
        broken(dtype=b"-" * 111 + b"1", dtype_length=112),
        broken(dtype=b"None", dtype_length=4),
        broken(dtype=b"1", dtype_length=1),
        broken(dtype=b"[1]", dtype_length=3),
        broken(dtype=b"[('a',)]", dtype_length=8),
        broken(dtype=b"[(1, 2)]", dtype_length=8),
        broken(dtype=b"[('a', 'f8'), ('a', 'f8')]", dtype_length=26),
        broken(dtype=b"('f8', (-1,))", dtype_length=13),
        broken(dtype=b"('f8', (1<<70,))", dtype_length=16),
        broken(dtype=b"('f8', (99999999999999999999,))", dtype_length=31),
        broken(dtype=b"('f8', 'x')", dtype_length=11),
        broken(dtype=b"'f8\\0'", dtype_length=6),
        broken(dtype=b"'f8\0'", dtype_length=5),
        broken(dtype=b"' f8", dtype_length=4),
        broken(dtype=b"'V99999999999'", dtype_length=14),
    ],
)
def test_a_corrupt_description_is_told_as_such(sheet: bytes) -> None:
    """Whatever stands on a sheet: a shape and a dtype, or CorruptSegmentError."""
    with pytest.raises(shmpool.CorruptSegmentError):
        _description.decode(sheet)


@pytest.mark.parametrize("value", [0, 1, 0x20, 0x30, 0x7F, 0xFF])
def test_no_byte_of_a_description_can_do_harm(value: int) -> None:
    """Each byte overwritten: CorruptSegmentError, or a dtype without objects."""
    good = _description.encode((2, 3), np.dtype([("a", "<f4"), ("b", "u1", (2,))]))
    for at in range(len(good)):
        try:
            _, dtype = _description.decode(good[:at] + bytes([value]) + good[at + 1 :])
        except shmpool.CorruptSegmentError:
            continue
        assert not dtype.hasobject


@pytest.mark.parametrize(
    "shape", [(-1,), (2, -1), (-1, -1), (5,), (1 << 62, 4), (1 << 40, 1 << 40), (0, 1 << 62)]
)
def test_an_array_fits_its_slot_or_is_refused(shape: tuple[int, ...]) -> None:
    """Lengths are not negative, and products, which numpy takes without zeros, do not wrap."""
    with pytest.raises(shmpool.ShapeError):
        _description.check_fits(shape, np.dtype("f8"), 32)
    assert _description.check_fits((4,), np.dtype("f8"), 32) == 32
    assert _description.check_fits((0, 1 << 59), np.dtype("f8"), 32) == 0


# Identities.


def test_the_process_itself_is_alive() -> None:
    """Identity.mine() names this process, alike each time."""
    me = Identity.mine()
    assert me.pid == os.getpid()
    assert me == Identity.mine()
    assert is_alive(me)
    assert is_alive(Identity(os.getpid()))
    assert me.start_time == start_time(os.getpid()) > 0


def test_a_process_that_has_ended_is_dead() -> None:
    """Dead while it is a zombie, and after it was waited for."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = Identity(child.pid, start_time(child.pid))
        pidfd = open_pidfd(process)
        assert pidfd is not None
        assert is_alive(process)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert not is_alive(process)
    os.close(pidfd)
    assert not is_alive(process)
    assert open_pidfd(process) is None
    assert start_time(child.pid) == 0


def test_a_number_that_is_a_thread_now_is_no_living_process() -> None:
    """Numbers are used again, for threads too: then the process that had it is dead."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        number = thread.native_id
        assert number is not None
        assert not is_alive(Identity(number, start_time=1))
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("change", ["start_time", "pidfd_inode"])
def test_a_later_process_with_the_same_number_is_another(change: str) -> None:
    """A pid alone identifies nobody: with another start or inode it is somebody else."""
    me = Identity.mine()
    numbers = {"start_time": me.start_time, "pidfd_inode": me.pidfd_inode}
    if change == "start_time":
        numbers["pidfd_inode"] = 0  # as before Linux 6.9, where only the start tells
    numbers[change] += 1
    other = Identity(me.pid, **numbers)
    if change == "start_time" or me.pidfd_inode:
        assert not is_alive(other)


# The control block.


def test_a_control_block_stays_within_two_l2_pages() -> None:
    """At most 128 KiB for 16 slots, 3 queues and 255 members."""
    layout = _core.layout((((1 << 20, 1 << 20, 16, 16),), 3, 255, 0, 0, 0))
    assert layout["total_size"] <= 128 * 1024
    assert layout["slot_count"] == 16
    assert layout["slots"] % 64 == layout["static_size"] % 64 == 0


@pytest.mark.parametrize(
    "counts",
    [
        ((), 0, 1, 0, 0, 0),
        (((64, 64, 1, 1),) * 9, 0, 1, 0, 0, 0),
        (((64, 64, 0, 0),), 0, 1, 0, 0, 0),
        (((64, 64, 2, 1),), 0, 1, 0, 0, 0),
        (((64, 64, 1, 65_536),), 0, 1, 0, 0, 0),
        (((65, 64, 1, 1),), 0, 1, 0, 0, 0),
        (((64, 64, 1, 1),), 32, 1, 0, 0, 0),
        (((64, 64, 1, 1),), 0, 0, 0, 0, 0),
        (((64, 64, 1, 1),), 0, 256, 0, 0, 0),
        (((64, 64, 1, 1),), 0, 1, 65_537, 0, 0),
        (((64, 64, 65_535, 65_535), (64, 64, 1, 1)), 0, 1, 0, 0, 0),
    ],
)
def test_a_layout_of_counts_out_of_range_is_refused(counts: Any) -> None:
    """The core checks every count before an offset follows from it."""
    with pytest.raises(ValueError):
        _core.layout(counts)
