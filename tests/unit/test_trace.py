"""Events in rings: written by members, read from outside, and believed only if they can be."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shmpool import Pool, QueueEmpty, StaleTicketError, _core, _tracing
from shmpool._layout import TRACE_EVENT, TRACE_HEADER, TRACE_RING
from shmpool._orphan import left
from shmpool._segment import opened
from shmpool._trace import KINDS, Recorder, recorder
from shmpool.errors import PoolNotFoundError, SegmentError

MakePool = Callable[..., Pool]
SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
LEAST = _core.TRACE_LEAST


def kinds(listening: Recorder) -> list[str]:
    """What was noted since the last time, in order, by all members."""
    before = len(listening._parts)
    listening.poll()
    return [KINDS[kind] for part in listening._parts[before:] for kind in part["kind"].tolist()]


def pairs(pool: Pool, count: int) -> None:
    """So many times two events."""
    for _ in range(count):
        pool.acquire().release()


def word(pool: Pool) -> int:
    """The word by which a pool knows of its tracer."""
    return int(pool._mapping.view().status["trace"])


def set_word(pool: Pool, to: int) -> None:
    """As a tracer does, or whoever else writes there."""
    with opened(pool.name) as control:
        assert _tracing.switch(pool._spec, control, to)


def mapped(pool: Pool) -> bool:
    """Whether this process has a ring mapped."""
    return f"{pool.name}.trace" in Path("/proc/self/maps").read_text()


def test_every_transition_is_noted(pool: Pool) -> None:
    """By those who do it, in their order, with slot, generation and queue."""
    a = pool.queue("a")
    with recorder(pool.name) as listening:
        a.put(pool.acquire())
        lease = a.get()
        ticket = lease.detach()
        lease = pool.claim(ticket)
        shared = lease.share()
        borrow = pool.borrow(shared)
        lease.release()
        borrow.release()
        pool.acquire()  # collected
        recording = listening.stop()
    told = [(KINDS[e["kind"]], int(e["generation"]), int(e["queue"])) for e in recording.events]
    assert told[:-2] == [
        ("leased", 1, 0), ("put", 1, 1), ("got", 2, 1), ("detached", 2, 0), ("claimed", 3, 0),
        ("shared", 3, 0), ("borrowed", 3, 0), ("released", 3, 0), ("returned", 3, 0),
    ]  # fmt: skip
    assert [what for what, *_ in told[-2:]] == ["leased", "collected"]
    assert set(recording.events["pid"]) == {os.getpid()}
    assert set(recording.events["slot"]) <= {0, 1}
    times = recording.events["when"].tolist()
    assert times == sorted(times)
    assert recording.began_ns <= times[0]
    assert times[-1] <= recording.ended_ns
    assert recording.lost == {}


def test_a_stale_right_and_a_wait_are_noted(pool: Pool) -> None:
    """A wait as often as its sleeper looks up, and its end with its length."""
    ticket = pool.acquire().detach()
    pool.claim(ticket).release()
    with recorder(pool.name) as listening:
        with pytest.raises(StaleTicketError):
            pool.claim(ticket)
        with pytest.raises(QueueEmpty):
            pool.queue("b").get(timeout=0.1)
        events = listening.stop().events
    stale, *waits, woke = events
    assert KINDS[stale["kind"]] == "stale"
    assert (stale["slot"], stale["generation"]) == (ticket.slot, ticket.generation)
    assert {KINDS[w["kind"]] for w in waits} == {"waits"}
    assert {(w["generation"], w["queue"]) for w in waits} == {(_core.FOR_TICKET, 2)}
    assert KINDS[woke["kind"]] == "woke"
    # Nanoseconds; of the time given, what was left when the sleep began.
    assert woke["generation"] >= 10_000_000


def test_nothing_is_noted_while_nobody_listens(pool: Pool) -> None:
    """The count of the ring stays, and the memory goes at the next look around."""
    with recorder(pool.name) as listening:
        pairs(pool, 3)
        assert mapped(pool)
        listening.stop()
        pairs(pool, 5)
        assert listening._head(pool._mapping.me)["count"] == 6
        assert kinds(listening) == []
    assert word(pool) == 0
    assert not (SHM / f"{pool.name}.trace").exists()
    pool._mapping.check()
    assert not mapped(pool)


def test_the_next_tracer_is_heard_too(pool: Pool) -> None:
    """Each has a segment of its own, and the events of its own time."""
    for count in (2, 3):
        with recorder(pool.name) as listening:
            pairs(pool, count)
            assert len(listening.stop().events) == 2 * count


def test_what_is_written_over_is_counted(pool: Pool) -> None:
    """The newest are there, less the one that may be being written over; none is counted twice."""
    with recorder(pool.name, LEAST) as listening:
        pairs(pool, 10)
        assert len(kinds(listening)) == 20
        pairs(pool, LEAST)
        assert len(kinds(listening)) == LEAST - 1
        pairs(pool, 1)
        recording = listening.stop()
    me = pool._mapping.me
    assert recording.lost == {me: LEAST + 1}
    assert len(recording.events) + LEAST + 1 == 2 * (10 + LEAST + 1)


def test_events_come_in_order_around_the_end_of_the_ring(pool: Pool) -> None:
    """A reading in two pieces."""
    with recorder(pool.name, LEAST) as listening:
        for _ in range(5):
            pairs(pool, 15)
            assert kinds(listening) == ["leased", "released"] * 15


@pytest.fixture
def ring(pool: Pool) -> Iterator[tuple[Recorder, Callable[[int, str, int], None]]]:
    """A tracer of a pool that has noted six events, and how to change a field of one of them."""
    with recorder(pool.name, LEAST) as listening:
        pairs(pool, 3)
        made = listening._segment

        def change(number: int, name: str, to: int) -> None:
            begin = made.offset(pool._mapping.me) + TRACE_RING.itemsize
            offset: Any = TRACE_EVENT.fields[name][1] if TRACE_EVENT.fields else 0
            at = begin + number * TRACE_EVENT.itemsize + offset
            os.pwrite(made.fd, struct.pack("<Q", to), at)

        yield listening, change


def what(kind: int, member: int, queue: int = 0) -> int:
    """The field of that name."""
    return os.getpid() << 32 | queue << 16 | member << 8 | kind


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("turn", 0),  # half written
        ("turn", 3 + LEAST),  # of another round
        ("what", what(0, 1)),
        ("what", what(63, 1)),
        ("what", what(255, 1)),
        ("what", what(1, 0)),
        ("what", what(1, 2)),  # another member's
        ("what", what(1, 1, 200)),  # a queue that there is not
        ("when_ns", 0),
        ("when_ns", 1 << 62),
        ("when_ns", (1 << 64) - 1),
        ("ticket", 1),  # right: slot 0 under generation 1
        ("ticket", 0),
        ("ticket", 4 << 48 | 1),  # a slot that there is not
        ("ticket", (1 << 64) - 1),
    ],
)
def test_an_event_that_cannot_be_is_left_out(
    ring: tuple[Recorder, Callable[[int, str, int], None]], name: str, to: int
) -> None:
    """And counted as lost; the others are as they were."""
    listening, change = ring
    change(2, name, to)
    recording = listening.stop()
    right = (name, to) == ("ticket", 1)
    assert len(recording.events) == (6 if right else 5)
    assert sum(recording.lost.values()) == (0 if right else 1)


@pytest.mark.parametrize("count", [0, 3, 1 << 62, (1 << 64) - 1])
def test_a_wild_count_costs_events_only(pool: Pool, count: int) -> None:
    """It goes back, or is further than anybody can count: the reader goes on from there."""
    with recorder(pool.name, LEAST) as listening:
        pairs(pool, 2)
        assert len(kinds(listening)) == 4
        at = listening._segment.offset(pool._mapping.me)
        os.pwrite(listening._segment.fd, struct.pack("<Q", count), at)
        listening.poll()
        pairs(pool, 4)
        listening.poll()
    pairs(pool, 1)


def test_members_go_on_if_the_segment_is_cut(pool: Pool) -> None:
    """They write to private zeros; the pool does not notice. The tracer is told."""
    with recorder(pool.name) as listening:
        pairs(pool, 1)
        os.truncate(SHM / f"{pool.name}.trace", 0)
        pairs(pool, 10)
        assert not pool._mapping.truncated
        pool._mapping.check()
        with pytest.raises(SegmentError):
            listening.poll()


def test_a_word_that_nobody_s_segment_has_costs_nothing_but_a_look(pool: Pool) -> None:
    """There is no file of that name, or it is another tracer's."""
    set_word(pool, 77)
    pairs(pool, 3)
    assert not mapped(pool)
    set_word(pool, 0)
    with recorder(pool.name) as listening:
        set_word(pool, 78)
        pairs(pool, 3)
        assert kinds(listening) == []
        assert not listening.stop().lost
    set_word(pool, 0)


WRONG_HEADERS = [
    *(("magic", 1), ("version", 9), ("members", 1), ("id", 5)),
    *(("events", number) for number in (0, 1, 63, 65, 1 << 23, (1 << 64) - 1)),
    *(("ring_size", number) for number in (0, 1, 8192, 1 << 20, (1 << 64) - 4096)),
]


@pytest.mark.parametrize(("name", "to"), WRONG_HEADERS)
def test_a_header_that_is_wrong_in_one_number_is_not_believed(
    pool: Pool, name: str, to: int
) -> None:
    """Nothing of it is mapped."""
    with recorder(pool.name, LEAST) as listening:
        header = np.frombuffer(os.pread(listening._segment.fd, 64, 0), TRACE_HEADER).copy()
        header[name] = to
        os.pwrite(listening._segment.fd, header.tobytes(), 0)
        pairs(pool, 3)
        assert not mapped(pool)


@pytest.mark.parametrize("harm", ["short", "mode", "link", "pipe"])
def test_a_file_that_is_no_segment_is_not_mapped(pool: Pool, harm: str) -> None:
    """Too short, writable for others, a link, a pipe: and nobody waits for it."""
    path = SHM / f"{pool.name}.trace"
    kept = path.with_suffix(".kept")
    with recorder(pool.name, LEAST):
        match harm:
            case "short":
                os.truncate(path, 4096)
            case "mode":
                path.chmod(0o666)
            case "link":
                path.rename(kept)
                path.symlink_to(kept)
            case "pipe":
                path.rename(kept)
                os.mkfifo(path)
        pairs(pool, 3)
        assert not mapped(pool)
    path.unlink(missing_ok=True)
    kept.unlink(missing_ok=True)


def test_a_second_tracer_is_told_of_the_first(pool: Pool) -> None:
    """By pid; the first goes on."""
    with recorder(pool.name) as listening:
        with pytest.raises(SegmentError, match=f"is being traced by pid {os.getpid()}"):
            recorder(pool.name).__enter__()
        pairs(pool, 1)
        assert len(kinds(listening)) == 2


def leave_behind(pool: Pool) -> int:
    """What a killed tracer leaves: the segment, and the word in the control block. Its id."""
    with recorder(pool.name) as listening:
        pairs(pool, 1)
        raw = os.pread(listening._segment.fd, 64, 0)
    (SHM / f"{pool.name}.trace").write_bytes(raw)
    (SHM / f"{pool.name}.trace").chmod(0o600)
    set_word(pool, listening._segment.id)
    return listening._segment.id


def test_what_a_dead_tracer_left_is_taken_over(pool: Pool) -> None:
    """The kernel has let go of its lock."""
    dead = leave_behind(pool)
    with recorder(pool.name) as listening:
        assert word(pool) == listening._segment.id != dead
        pairs(pool, 2)
        assert len(listening.stop().events) == 4


def test_what_a_dead_tracer_left_goes_with_the_pool(make_pool: MakePool) -> None:
    """The coordinator removes it at its close."""
    pool = make_pool()
    leave_behind(pool)
    assert left(pool._spec).keys() >= {pool.name, f"{pool.name}.trace"}
    pool.close()
    assert not (SHM / f"{pool.name}.trace").exists()


def test_something_else_of_that_name_stays(make_pool: MakePool) -> None:
    """A pool may be called so: it is not removed, and its neighbour cannot be traced."""
    pool = make_pool(name="neighbour")
    other = make_pool(name="neighbour.trace")
    with pytest.raises(SegmentError, match="is no trace"):
        recorder(pool.name).__enter__()
    assert other.name not in left(pool._spec)
    pool.close()
    pairs(other, 1)
    assert not _tracing.remove_trace("neighbour")
    Pool.attach(other.name).close()


def test_a_name_that_no_pool_has_is_told() -> None:
    """As by all that look at pools."""
    with pytest.raises(PoolNotFoundError):
        recorder("nothing-of-that-name").__enter__()
    with pytest.raises(SegmentError, match="is no name of a pool"):
        recorder("../x").__enter__()
