"""Hostile memory: whatever stands in a segment, nothing crashes, hangs, or leaves its tables.

hostile.c and fuzz_core.c run every operation of the core under sanitizers over a control block
that somebody tampers with; here the static part goes through its decoder, and hostile_pool.py
uses pools of which random places have been turned.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planting import plant

from shmpool import _core, _description, _header
from shmpool._header import ClassSpec, PoolSpec, QueueSpec
from shmpool._process import Identity
from shmpool.errors import CorruptSegmentError, SegmentError, ShapeError

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "shmpool" / "_csrc"
PROVE = "SHMPOOL_PROVE" in os.environ
FUZZ_RUNS = 20_000_000 if PROVE else 300_000
LONG = pytest.mark.timeout(3600 if PROVE else 300)
GAP = "64"
EVERY = "1"


# The core, under sanitizers.


def build(program: Path, source: str, headers: Path, *more: str) -> Path:
    """Compile a program over the core's headers in `headers`, with every check that clang has."""
    assert shutil.which("clang"), "clang is missing: apt-get install clang"
    checks = ",".join(["address", "undefined", *more])
    command = ["clang", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
    command += [f"-fsanitize={checks}", "-fno-sanitize-recover=all", f"-I{HERE}", f"-I{headers}"]
    command += [str(HERE / source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"(libclang-rt-*-dev missing?)\n{done.stderr}"
    return program


def run(program: Path, *arguments: str) -> tuple[int, str]:
    """Exit code, and what was told. Leaks are not the question: memory is static here."""
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0"}
    done = subprocess.run(
        [str(program), *arguments],
        capture_output=True, text=True, check=False, env=environment, cwd=program.parent,
    )  # fmt: skip
    return done.returncode, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hostile.c over the core as it ships."""
    return build(tmp_path_factory.mktemp("hostile") / "hostile", "hostile.c", CORE)


@LONG
def test_no_byte_of_shared_memory_leads_the_core_astray(hostile: Path) -> None:
    """Every byte of the shared tables with all 256 values, and every operation upon each image."""
    code, told = run(hostile, GAP, EVERY)
    assert code == 0, told
    assert int(told.split()[0]) >= 3_000_000


def test_nor_does_it_where_the_tables_touch(hostile: Path) -> None:
    """The layout as it ships, without gaps, in a block of the exact size: a part of the images."""
    code, told = run(hostile, "0", "29")
    assert code == 0, told
    assert int(told.split()[0]) >= 100_000


@LONG
def test_no_sequence_of_tampering_and_operations_leads_the_core_astray(tmp_path: Path) -> None:
    """A fuzzer guided by coverage; the same inputs in each run of the test."""
    program = build(tmp_path / "fuzz_core", "fuzz_core.c", CORE, "fuzzer")
    options = ("-seed=1", "-max_len=400", "-timeout=20", "-detect_leaks=0", "-print_final_stats=1")
    code, told = run(program, f"-runs={FUZZ_RUNS}", *options)
    assert code == 0, told
    assert f"stat::number_of_executed_units: {FUZZ_RUNS}" in told


# Checks that the core needs, each taken away at one place of the headers.
BUGS = {
    "a cell may name any slot": (
        "sp_ring.h",
        "    if (slot >= pool->geometry.slots)\n        return 0;\n",
        "",
    ),
    "a ticket to claim may name any slot": (
        "sp_slot.h",
        "    if (slot >= pool->geometry.slots)\n        return SP_CORRUPT;\n",
        "",
    ),
    "a ticket to borrow may name any slot": (
        "sp_share.h",
        "    if (number >= pool->geometry.slots)\n        return SP_CORRUPT;\n",
        "",
    ),
    "a free bit may name any slot": (
        "sp_slot.h",
        "if (taken < c->max_count && sp_slot_try_lease(",
        "if (sp_slot_try_lease(",
    ),
    "a queued word may name any queue": (
        "sp_reap.h",
        "bool outside = queue == SP_NO_QUEUE || queue > pool->geometry.queues;",
        "bool outside = queue == SP_NO_QUEUE;",
    ),
    "a getter has endless patience": (
        "sp_ring.h",
        "patience; patience--) {",
        "patience; patience += 0) {",
    ),
    "a putter has endless patience": (
        "sp_ring.h",
        "patience; patience--)\n",
        "patience; patience += 0)\n",
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_check_that_is_missing_is_found(bug: str, tmp_path: Path) -> None:
    """Images that harm nothing in a broken core prove nothing about a sound one."""
    file, *places = BUGS[bug]
    headers = tmp_path / "headers"
    shutil.copytree(CORE, headers)
    plant(headers / file, *places)
    program = build(tmp_path / "hostile", "hostile.c", headers)
    code, told = run(program, GAP, "7")
    assert code != 0
    assert "IMAGE" in told, told


# The static part.

RECORD = np.dtype([("at", "<f8", (2,)), ("inner", [("kind", "S4"), ("é", "<i2")])])
SPEC = PoolSpec(
    name="victim",
    classes=(ClassSpec(64, 3, 5), ClassSpec(5000, 2, 2)),
    views=_header.VIEWS.index("raise"),  # in which small slots share pages
    queues=(QueueSpec("todo", max_attempts=2, dead_letter=2), QueueSpec("done", 1, maxsize=3)),
    members=9,
    coordinator=Identity(4321, 12345, 67890),
    pid_namespace=4026531836,
    uid=0,
    created_ns=1_700_000_000_000_000_000,
    record=RECORD,
    orphan_grace_ns=10_000_000_000,
    record_text=_header.dtype_text(RECORD),
)
STATIC = _core.MAGIC.to_bytes(8, "little") + _header.encode(SPEC)[8:]
CHECKSUM = _core.RECORDS["header"]["checksum"][0]
CHECKED_FROM = CHECKSUM + 4


def checksummed(block: bytes) -> bytes:
    """The block with a checksum that agrees, whoever wrote the rest."""
    sum_ = struct.pack("<I", zlib.crc32(block[CHECKED_FROM:]))
    return block[:CHECKSUM] + sum_ + block[CHECKED_FROM:]


def harm(block: bytes, size: int) -> str | None:
    """Decode: None if it is refused, or is a pool that fits into its file; else what happened."""
    try:
        spec = _header.decode("victim", block, size)
    except SegmentError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
        return repr(error)
    at = _core.layout(spec.counts)
    fits = at["total_size"] <= spec.control_size <= size and at["static_size"] <= len(block)
    queues_fit = all(q.dead_letter <= len(spec.queues) for q in spec.queues)
    return None if fits and queues_fit else f"accepted: {spec}"


def with_byte(block: bytes, at: int, value: int) -> bytes:
    """The block with one byte changed."""
    return block[:at] + bytes([value]) + block[at + 1 :]


def worst(harms: Iterator[tuple[Any, str | None]]) -> dict[Any, str]:
    """The first few images that did harm."""
    found = {}
    for image, what in harms:
        if what and len(found) < 8:
            found[image] = what
    return found


def test_the_victim_is_sound() -> None:
    """What is tampered with below would be accepted as it is, and just so."""
    assert _header.decode("victim", STATIC, SPEC.control_size) == SPEC


@pytest.mark.parametrize("agree", [lambda block: block, checksummed], ids=["stale", "right"])
def test_no_byte_of_the_static_part_does_harm(agree: Callable[[bytes], bytes]) -> None:
    """Every byte with all 256 values, under the old checksum and under one that agrees."""
    images = ((at, value) for at in range(len(STATIC)) for value in range(256))
    size = SPEC.control_size
    assert not worst((i, harm(agree(with_byte(STATIC, *i)), size)) for i in images)


def test_no_few_bytes_of_the_static_part_do_harm() -> None:
    """Two to eight bytes at once, near each other, under a checksum that agrees."""
    rng = random.Random(1)

    def image() -> bytes:
        block, at = STATIC, rng.randrange(len(STATIC))
        for _ in range(rng.randint(2, 8)):
            place = min(at + rng.randrange(16), len(STATIC) - 1)
            block = with_byte(block, place, rng.choice((rng.randrange(256), 0, 255, 1)))
        return checksummed(block)

    blocks = (image() for _ in range(30_000))
    assert not worst((b, harm(b, SPEC.control_size)) for b in blocks)


def test_no_truncation_of_the_static_part_does_harm() -> None:
    """Every length, of what is read and of what the file says, and a checksum over the rest."""
    page = SPEC.control_size
    for length in range(len(STATIC)):
        part = STATIC[:length]
        blocks = [part, checksummed(part)] if length >= CHECKED_FROM else [part]
        for block in blocks:
            for size in (length, page - 1, page):
                with pytest.raises(SegmentError):
                    _header.decode("victim", block, size)
    for size in range(len(STATIC), page, 61):
        with pytest.raises(SegmentError):
            _header.decode("victim", STATIC, size)


# What a sender says about a payload.


def array_or_none(sheet: bytes) -> str | None:
    """Read a description: None if it is refused, or fits into the slot; else what happened."""
    try:
        shape, dtype = _description.decode(sheet)
        needed = _description.check_fits(shape, dtype, 4096)
        if not 0 <= needed <= 4096:
            return f"accepted: {shape} {dtype}"
        np.ndarray(shape, dtype, buffer=bytes(4096))
    except (CorruptSegmentError, ShapeError):
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
        return repr(error)
    return None


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, 5), "<f4"), ((2,) * 8, "S2"), ((), "<M8[ns]"), ((4,), RECORD)],
    ids=["plain", "deep", "time", "record"],
)
def test_no_byte_of_a_description_does_harm(shape: tuple[int, ...], dtype: Any) -> None:
    """Every byte with all 256 values: an array inside the slot, or an error of ours."""
    sheet = _description.encode(shape, np.dtype(dtype))
    assert array_or_none(sheet) is None
    images = ((at, value) for at in range(len(sheet)) for value in range(256))
    assert not worst((i, array_or_none(with_byte(sheet, *i))) for i in images)


# Pools at work.


@LONG
@pytest.mark.parametrize("seed", range(20 if PROVE else 2))
def test_no_random_turn_of_shared_memory_kills_a_process(seed: int) -> None:
    """Some places of a living pool turned over, and everything used: results, or errors of ours."""
    command = [sys.executable, str(HERE / "hostile_pool.py"), str(seed), "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = "\n".join(done.stderr.splitlines()[-60:])
    assert done.returncode == 0, f"exit {done.returncode}: {last}"
