"""The story of a slot: what pools made with debug=True keep, and how it is told."""

from __future__ import annotations

import os
import pickle
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import Pool, Transition, _core, _story
from shmpool._layout import TRANSITION
from shmpool._sizes import show_age

MakePool = Callable[..., Pool]
KEPT = 16  # transitions
FILE = "test_story.py"


@pytest.fixture
def told(make_pool: MakePool) -> Pool:
    """One slot with a history, two queues."""
    return make_pool(slots=1, debug=True, member_name="me")


def here() -> int:
    """The line of the caller."""
    return sys._getframe(1).f_lineno


def events(pool: Pool, slot: int = 0) -> list[tuple[str, int]]:
    return [(t.what, t.generation) for t in pool.history(slot)]


def lines_of(pool: Pool, slot: int = 0) -> list[int]:
    """Lines of this file in the history of a slot."""
    assert {t.file for t in pool.history(slot)} == {FILE}
    return [t.line for t in pool.history(slot)]


def entries(pool: Pool, slot: int = 0) -> np.ndarray[Any, Any]:
    """The entries of a slot's history, to be written to."""
    at, history = _core.layout(pool._spec.counts), pool._spec.diagnostics.history
    offset = at["history"] + slot * at["history_stride"] + TRANSITION.itemsize
    return np.ndarray((history,), TRANSITION, buffer=pool._mapping.control(), offset=offset)


def stale(pool: Pool, ticket: int) -> shmpool.StaleTicketError:
    with pytest.raises(shmpool.StaleTicketError) as caught:
        pool.claim(ticket)
    return caught.value


# --- what is kept -------------------------------------------------------------------------


def test_each_transition_is_kept_under_its_generation(told: Pool) -> None:
    """Leased, put, got, detached, claimed, shared, borrowed, returned, released: in order."""
    told.queue("a").put(told.acquire())
    lease = told.claim(told.queue("a").get().detach())
    with told.borrow(lease.share()):
        pass
    lease.release()
    assert events(told) == [
        ("leased", 1), ("put", 1), ("got", 2), ("detached", 2), ("claimed", 3), ("shared", 3),
        ("borrowed", 3), ("returned", 3), ("released", 3),
    ]  # fmt: skip
    assert [t.queue for t in told.history(0)][:4] == [None, "a", "a", None]
    assert [t.pid for t in told.history(0)] == [os.getpid()] * 9
    assert {t.member for t in told.history(0)} == {"me"}


def test_a_transition_has_the_line_that_asked_for_it(told: Pool) -> None:
    """File and line of the caller, not of the library."""
    lease, first = told.acquire(), here()
    told.queue("a").put(lease)
    lease = told.queue("a").get()
    lease.release()
    assert lines_of(told) == [first, first + 1, first + 2, first + 3]


def test_the_end_of_a_block_is_the_line_of_its_with(told: Pool) -> None:
    """There stands what releases."""
    with told.acquire() as lease:
        line = here() - 1
        memoryview(lease)[0] = 1
    assert lines_of(told) == [line, line]


def test_one_who_waited_is_named_by_his_own_line(told: Pool) -> None:
    """The slow path goes through our own frames, which are nobody's line."""
    lease = told.acquire()

    def let_go() -> None:
        view = told._mapping.view()
        while not view.class_states["waiting"].any():
            os.sched_yield()
        lease.release()

    thread = threading.Thread(target=let_go)
    thread.start()
    second, line = told.acquire(timeout=100), here()
    thread.join()
    second.release()
    told.queue("a").put(told.acquire_nowait())
    lease, got = told.queue("a").get_many(1)[0], here()
    assert lines_of(told)[2] == line
    assert lines_of(told)[-1] == got


def test_iteration_over_a_queue_is_the_line_of_the_loop(told: Pool) -> None:
    """`for lease in queue` runs in a generator of ours."""
    queue = told.queue("a")
    queue.put(told.acquire())
    queue.close()
    for lease in queue:
        lease.release()
    line = here() - 2
    assert lines_of(told)[2:] == [line, line + 1]


def test_threads_have_their_numbers(told: Pool) -> None:
    """The kernel's, as tools show them; only who is not the main thread is named with it."""
    numbers = []

    def work() -> None:
        numbers.append(threading.get_native_id())
        told.acquire().release()

    told.acquire().release()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    mine, theirs = told.history(0)[0], told.history(0)[-1]
    assert [mine.thread, theirs.thread] == [threading.get_native_id(), *numbers]
    assert mine.who == f"me (pid {os.getpid()})"
    assert theirs.who == f"me (pid {os.getpid()}, thread {numbers[0]})"


def test_a_forked_child_has_a_thread_of_its_own(told: Pool) -> None:
    """The number is kept for each thread, but not beyond a fork."""
    told.acquire().release()
    child = os.fork()
    if not child:
        try:
            told.acquire().release()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    last = told.history(0)[-1]
    assert (last.pid, last.thread, last.member) == (child, child, f"me+{child}")
    assert last.site.startswith(FILE)


def test_the_oldest_are_forgotten(told: Pool) -> None:
    """The last 16 are kept."""
    for _ in range(20):
        told.acquire().release()
    assert events(told) == [(what, g) for g in range(13, 21) for what in ("leased", "released")]


def test_slots_have_stories_of_their_own(make_pool: MakePool) -> None:
    """No slot's entries run into the next one's, the last one's not out of the block."""
    pool = make_pool(slots=5, debug=True)
    for _ in range(20):
        leases = [pool.acquire() for _ in range(5)]
        for lease in leases:
            lease.release()
    assert [len(pool.history(slot)) for slot in range(5)] == [KEPT] * 5
    assert entries(pool, 4).nbytes == KEPT * 128
    pool.audit()


def test_a_lease_that_nobody_released_is_collected(told: Pool) -> None:
    """One whose block an error left is released by that."""
    lease = told.acquire()
    del lease
    with pytest.raises(KeyError), told.acquire():
        raise KeyError
    assert events(told) == [("leased", 1), ("collected", 1), ("leased", 2), ("released", 2)]


def test_the_last_view_of_a_collected_lease_is_noted(told: Pool) -> None:
    """The slot goes back when it does."""
    array = told.acquire().array(3, "u1")
    assert [what for what, _ in events(told)] == ["leased"]
    del array
    assert [what for what, _ in events(told)] == ["leased", "collected"]


def test_an_error_on_its_way_survives_a_note(told: Pool) -> None:
    """A lease may be collected while an exception is being raised in C."""
    with pytest.raises(TypeError, match="len"):
        len(told.acquire())  # type: ignore[arg-type]
    assert [what for what, _ in events(told)] == ["leased", "collected"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/some/where/render.py", "render.py"),
        ("render.py", "render.py"),
        ("<stdin>", "<stdin>"),
        ("x" * 99, "x" * 47),
        ("", ""),
        ("no\udcfftext.py", "?"),
        ("é" * 40, "é" * 23 + "\ufffd"),
        ("a\nb\x1b[2J.py", "a?b?[2J.py"),
    ],
)
def test_any_name_of_a_file_is_kept_in_short(told: Pool, path: str, name: str) -> None:
    """Without its directory, cut to 47 bytes, without what would upset a terminal."""
    exec(compile("\n\npool.acquire().release()", path, "exec"), {"pool": told})  # noqa: S102
    assert [(t.file, t.line) for t in told.history(0)] == [(name, 3)] * 2


def test_a_writer_that_moves_on_says_so(make_pool: MakePool) -> None:
    """Of the slot it leaves; the lease of the larger one is noted as any."""
    pool = make_pool(slots=None, slot_size=None, classes=[(64, 1), (4096, 1)], debug=True)
    with pool.acquire(64) as lease, lease.writer() as file:
        file.write(b"x" * 100)
    assert events(pool, 0) == [("leased", 1), ("moved", 1), ("released", 1)]
    assert events(pool, 1) == [("leased", 1), ("released", 1)]
    assert len({t.site for t in pool.history(0)}) == 2


def test_a_failed_attempt_is_no_transition(told: Pool) -> None:
    """Only what changed something is kept."""
    lease = told.acquire()
    lost: Any = (told.acquire_nowait, lambda: told.claim(lease.ticket), told.queue("a").get_nowait)
    for attempt in lost:
        with pytest.raises(shmpool.ShmpoolError):
            attempt()
    lease.release()
    with pytest.raises(shmpool.AlreadyEndedError):
        lease.release()
    assert events(told) == [("leased", 1), ("released", 1)]


# --- when it is kept ----------------------------------------------------------------------


def test_by_default_nothing_is_kept(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory, no history, and no line of code in a message."""
    monkeypatch.delenv("SHMPOOL_DEBUG", raising=False)
    plain, debug = make_pool(slots=1), make_pool(slots=1, debug=True)
    ticket = plain.acquire().detach()
    plain.claim(ticket).release()
    error = stale(plain, ticket)
    assert error.history == []
    assert "\n" not in str(error)
    assert plain.history(0) == ()
    sizes = [_core.layout(pool._spec.counts)["total_size"] for pool in (plain, debug)]
    assert sizes[1] - sizes[0] == 128 * (1 + KEPT)
    with plain.acquire(), pytest.raises(shmpool.PoolExhaustedError) as caught:
        plain.acquire_nowait()
    assert FILE not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "debug", "kept"),
    [
        ("1", None, 2),
        ("yes", None, 2),
        ("0", None, 0),
        ("", None, 0),
        ("1", False, 0),
        ("0", True, 2),
    ],
)
def test_the_environment_may_ask_for_it(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, value: str, debug: bool | None, kept: int
) -> None:
    """SHMPOOL_DEBUG=1 is for programs that are not to be changed; debug= has the last word."""
    monkeypatch.setenv("SHMPOOL_DEBUG", value)
    pool = make_pool(slots=1, debug=debug)
    pool.acquire().release()
    assert len(pool.history(0)) == kept


@pytest.mark.parametrize("slot", [-1, 1, 1 << 40])
def test_a_slot_that_is_none_has_no_history(told: Pool, slot: int) -> None:
    """SizeError, with the numbers."""
    with pytest.raises(shmpool.SizeError, match=str(slot)):
        told.history(slot)


# --- how it is told -----------------------------------------------------------------------


def test_a_stale_ticket_tells_the_story(told: Pool) -> None:
    """The message of always, then a line for each transition: what, who, where, how long ago."""
    lease, first = told.acquire(), here()
    ticket = lease.ticket
    lease.release()
    with told.acquire():
        error = stale(told, ticket)
    head, *lines = str(error).split("\n")
    assert head.startswith("cannot claim ticket 0@1: it has been claimed before")
    assert head.endswith(f"leased by me (pid {os.getpid()}) under generation 2:")
    me, ago = rf"by me \(pid {os.getpid()}\)", r" +[\d.]+ (us|ms|s) ago"
    patterns = [
        rf"  leased    {me} at {FILE}:{first} {ago}",
        rf"  released  {me} at {FILE}:{first + 2} {ago}  <- generation 1 ended here",
        rf"  leased    {me} at {FILE}:{first + 3} {ago}  \(generation 2, still held\)",
    ]
    assert len(lines) == 3
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line
    assert len({line.index(" at ") for line in lines}) == 1, "columns are aligned"


def test_every_error_of_a_right_that_is_over_tells_it(told: Pool) -> None:
    """Of a lease, a borrow, a ticket; released, put, detached."""
    lease = told.acquire()
    ticket = lease.share()
    borrow = told.borrow(ticket)
    borrow.release(), lease.release()
    for attempt in (
        lease.release, lease.array, borrow.array, lease.detach, lambda: told.borrow(ticket),
        lambda: told.peek(ticket), lambda: told.queue("a").put(lease),
    ):  # fmt: skip
        with pytest.raises(shmpool.StaleTicketError) as caught:
            attempt()
        assert f"test_story.py:{here() - 2}" not in str(caught.value)
        assert str(caught.value).count("\n") == 5
        assert "<- generation 1 ended here" in str(caught.value)


def test_the_error_brings_its_transitions_along(told: Pool) -> None:
    """As a fact, for programs; it travels by pickle."""
    ticket = told.acquire().detach()
    told.claim(ticket).release()
    error = pickle.loads(pickle.dumps(stale(told, ticket)))  # noqa: S301
    assert error.history == list(told.history(0))
    assert isinstance(error.history[0], Transition)
    assert str(error.history[0]).startswith(f"leased by me (pid {os.getpid()}) at {FILE}:")


def test_an_exhausted_pool_tells_who_leased_each_slot(make_pool: MakePool) -> None:
    """The line of what each member has held for longest; then slots, in 8 lines together."""
    pool = make_pool(slots=12, debug=True, member_name="me")
    leases = {lease.slot: lease for lease in (pool.acquire() for _ in range(12))}
    since = pool._mapping.view().slots["since_ns"]
    since[:] = [1000 + (5 * slot) % 12 for slot in range(12)]
    with pytest.raises(shmpool.PoolExhaustedError) as caught:
        pool.acquire_nowait()
    head, *lines = str(caught.value).split("\n")
    assert head.endswith("or create the pool with more slots:")
    mine = rf"  me \(pid {os.getpid()}\): 12 leased for up to \d+ s, slot 0 at {FILE}:\d+"
    assert re.fullmatch(mine, lines.pop(0))
    assert [int(line.split()[1][:-1]) for line in lines] == [5, 10, 3, 8, 1, 6, 11]
    for line in lines:
        pattern = rf"  slot \d+: leased by me \(pid {os.getpid()}\) at {FILE}:\d+ [\d.]+ \w+ ago"
        assert re.fullmatch(pattern, line), line
    for lease in leases.values():
        lease.release()


def test_an_exhausted_pool_tells_who_still_reads(told: Pool) -> None:
    """A slot that its owner has released is held by its borrowers."""
    lease = told.acquire()
    ticket = lease.share()
    kept = told.borrow(ticket)
    line = here() - 1
    told.borrow(ticket).release()
    lease.release()
    with pytest.raises(shmpool.PoolExhaustedError) as caught:
        told.acquire_nowait()
    lines = str(caught.value).split("\n")[1:]
    assert len(lines) == 1
    assert lines[0].startswith(f"  me (pid {os.getpid()}): 1 borrowed for ")
    assert str(line) in lines[0] or str(line + 2) in lines[0]  # which came back, nobody says
    kept.release()


def test_a_late_note_stands_where_it_belongs(told: Pool) -> None:
    """The next holder may note its lease before the last one notes the release."""
    told.acquire().release()
    lease = told.acquire()
    rows = entries(told)
    early, late = rows[1].copy(), rows[2].copy()
    rows[1], rows[2] = late, early
    rows["turn"][1:3] = 2, 3
    assert events(told) == [("leased", 1), ("released", 1), ("leased", 2)]
    lease.release()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0.00 us"), (0, "0.00 us"), (1.5e-6, "1.50 us"), (99.94e-6, "99.9 us"),
        (0.00075, "750 us"), (0.0021, "2.10 ms"), (0.0999, "99.9 ms"), (1, "1.00 s"),
        (9.999, "10.0 s"), (99.96, "100 s"), (1e9, "1000000000 s"),
    ],
)  # fmt: skip
def test_an_age_has_three_digits(seconds: float, text: str) -> None:
    """And the largest unit of which there is one."""
    assert show_age(seconds) == text


# --- memory that others write to ----------------------------------------------------------


def test_an_entry_half_written_is_left_out(told: Pool) -> None:
    """Its turn is 0: the others are told."""
    for _ in range(2):
        told.acquire().release()
    entries(told)["turn"][1] = 0
    assert events(told) == [("leased", 1), ("leased", 2), ("released", 2)]


@pytest.mark.parametrize("field", ["turn", "what", "generation"])
def test_an_entry_that_changes_meanwhile_is_left_out(
    told: Pool, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """The turn is looked at before and after the copy."""
    told.acquire().release()
    view, rows = told._mapping.view(), entries(told)
    copy = view.entries

    def torn(slot: int) -> Any:
        rows[field][1] += 16 if field == "turn" else 0
        rows["turn"][1] += 16
        return copy(slot)

    monkeypatch.setattr(view, "entries", torn)
    monkeypatch.setattr(view, "turns", lambda slot: copy(slot)["turn"].copy())
    assert [t.what for t in _story.transitions(told._spec, view, 0)] == ["leased"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("turn", 1), ("turn", 3), ("turn", (1 << 64) - 1), ("what", 0), ("what", 1 << 8),
        ("what", 17 | 1 << 8), ("what", 255 | 1 << 8), ("what", 1), ("what", 1 | 3 << 16 | 1 << 8),
        ("what", 1 | 255 << 16 | 1 << 8), ("what", 1 | 1 << 24 | 1 << 8), ("generation", 0),
        ("generation", 1 << 48),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_is_left_out(told: Pool, field: str, value: int) -> None:
    """A turn of another place, no event, no member, no queue, bits that are unused."""
    told.acquire().release()
    entries(told)[field][1] = value
    assert events(told) == [("leased", 1)]


def test_a_member_that_is_none_is_left_out(make_pool: MakePool) -> None:
    """The pool was made for fewer."""
    pool = make_pool(slots=1, members=3, debug=True)
    pool.acquire().release()
    entries(pool)["what"][1] = 10 | 4 << 8
    assert events(pool) == [("leased", 1)]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a\nb\tc\x1b[31m", "a?b?c?[31m"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 32, "x" * 32),
        (b"", "member 1"),
        (b"ab\0cd", "ab"),
        ("a\u202eb\u2028c".encode(), "a?b?c"),
    ],
)
def test_a_hostile_name_is_made_harmless(told: Pool, name: bytes, shown: str) -> None:
    """No control characters, nothing that is no text, and it ends where it ends."""
    told.acquire().release()
    entries(told)["name"][0] = name
    assert told.history(0)[0].member == shown


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_in_a_history_do_no_harm(told: Pool, seed: int) -> None:
    """Every error comes out as it would, in printable lines, and every transition goes on."""
    chance = random.Random(seed)
    old = told.acquire().detach()
    lease = told.claim(old)
    rows = entries(told)
    at = _core.layout(told._spec.counts)
    block = np.frombuffer(told._mapping.control(), np.uint8)[at["history"] :][: 128 * (1 + KEPT)]
    for _ in range(10):
        block[:] = np.frombuffer(chance.randbytes(block.size), np.uint8)
        if seed % 2:  # nearly right: only then is anything believed
            rows["turn"] = np.arange(1, KEPT + 1)
            rows["what"] &= 0xFFFFFFFF00000000
            rows["what"] += np.array([chance.randrange(1, 17) | 1 << 8 for _ in rows], np.uint64)
            rows["generation"] %= 5
        with pytest.raises(shmpool.AlreadyClaimedError) as first:
            told.claim(old)
        with pytest.raises(shmpool.PoolExhaustedError) as second:
            told.acquire_nowait()
        for error in (first.value, second.value):
            lines = str(error).split("\n")
            assert len(lines) <= 1 + KEPT
            assert all(line.isprintable() for line in lines)
        lease.release()
        lease = told.acquire()
    lease.release()
    told.audit()


def test_a_count_at_its_end_is_survived(told: Pool) -> None:
    """Whatever the turn is, it leads to an entry of this slot."""
    rows = entries(told)
    head = np.frombuffer(told._mapping.control(), np.uint64)
    turns = _core.layout(told._spec.counts)["history"] // 8
    for start in ((1 << 64) - 1, (1 << 63) - 1, 1 << 40):
        head[turns] = start
        told.acquire().release()
        assert len(told.history(0)) <= KEPT
    assert rows["turn"].max() == 1 << 63
    told.audit()


def test_threads_that_write_at_once_leave_whole_entries(make_pool: MakePool) -> None:
    """Each takes a turn of its own: what can be read is what somebody wrote."""
    pool = make_pool(slots=2, debug=True, member_name="me")
    threads = [
        threading.Thread(target=lambda: [pool.acquire().release() for _ in range(300)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for transition in pool.history(0):
            assert transition.what in ("leased", "released")
            assert transition.member == "me"
            assert transition.when_ns <= time.monotonic_ns()
    for thread in threads:
        thread.join()
    assert len(pool.history(0)) == KEPT
