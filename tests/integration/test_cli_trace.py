"""`shmpool trace`: pools at work, watched from outside, and all that may die meanwhile."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from trace_format import check_format

from shmpool import ArraySpec, Farm, Pool, Queue, _core, _sweep
from shmpool._look import look
from shmpool._trace import KINDS, Recording, recorder
from shmpool.cli import chrome, main, trace_picture, trace_summary
from shmpool.cli.timeline import Handoff, Span, Timeline, Wait, Who, build

MakePool = Callable[..., Pool]
SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
Tracer = subprocess.Popen[str]


def word(pool: Pool) -> int:
    """The word by which a pool knows of its tracer."""
    return int(pool._mapping.view().status["trace"])


@contextmanager
def tracer(pool: Pool, *arguments: str) -> Iterator[Tracer]:
    """The command, listening when the block begins, and over when it ends."""
    command = [sys.executable, "-m", "shmpool", "trace", pool.name, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            while not word(pool):
                assert process.poll() is None, process.communicate()
                os.sched_yield()
            yield process
        finally:
            process.kill()


def ended(process: Tracer, number: int | None = None) -> str:
    """What it says, on both outputs; with a signal, after that."""
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    return out


def told(recording: Recording, pid: int) -> list[str]:
    """What a process did, in order."""
    events = recording.events
    mine = np.sort(events[events["pid"] == pid], order="when")
    return [KINDS[kind] for kind in mine["kind"].tolist()]


def work(source: Queue, target: Queue) -> None:
    for lease in source:
        target.put(lease)


def test_a_pool_at_work_is_traced_from_outside(make_pool: MakePool, tmp_path: Path) -> None:
    """^C ends it, and what was seen is written: slots, members, and arrows between them."""
    pool = make_pool(member_name="main")
    a, b = pool.queue("a"), pool.queue("b")
    child = mp.get_context("spawn").Process(target=work, args=(a, b), name="helper")
    child.start()
    path = tmp_path / "trace.json"
    with tracer(pool, "-o", str(path)) as process:
        for _ in range(20):
            a.put(pool.acquire())
            b.get().release()
        out = ended(process, signal.SIGINT)
    assert word(pool) == 0
    a.close()
    child.join()
    trace = json.loads(path.read_text())
    check_format(trace)
    assert trace["otherData"] == {"pool": pool.name, "lost": 0, "misfits": 0}
    events = trace["traceEvents"]
    rows = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {f"slot {n}" for n in range(4)} < rows
    assert {f"main (pid {os.getpid()}) holds", f"helper (pid {child.pid}) holds"} < rows
    assert len([e for e in events if e["ph"] == "s"]) == 40
    assert [e["args"]["member"] for e in events if e.get("cat") == "held" and e["pid"] == 2] == [
        *("main", "helper", "main") * 20
    ]
    assert "helper" in out
    assert out.startswith(f"{pool.name}: ")


def fill(job: int, frame: np.ndarray[Any, Any]) -> None:
    frame[...] = job


def test_a_farm_is_traced_while_it_runs() -> None:
    """Nobody was told of it when it was made: its workers are seen, and what they hand on."""
    with Farm(fill, ArraySpec((4, 4), np.uint8), workers=2) as farm:
        for result in farm.map(range(4)):
            result.release()
        with recorder(farm.pool.name) as listening:
            for result in farm.map(range(30)):
                result.release()
            line = build(listening.stop())
    assert line.misfits == 0
    assert len(line.handoffs) >= 30
    workers = {line.name(handoff.sent.who) for handoff in line.handoffs if handoff.sent.who}
    assert len(workers) >= 1
    check_format(chrome.trace_events(line))


def take_and_die(queue: Queue) -> None:
    pool = queue.pool
    queue.put(pool.acquire())
    kept = pool.acquire()
    assert kept
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_last_events_of_the_killed_are_there(pool: Pool) -> None:
    """Its ring is not its own; the reaper's part is in the coordinator's."""
    queue = pool.queue("a")
    with recorder(pool.name) as listening:
        child = mp.get_context("spawn").Process(target=take_and_die, args=(queue,))
        child.start()
        child.join()
        with queue.get():
            while pool.statistics().free < 3:
                os.sched_yield()
        recording = listening.stop()
    assert child.pid is not None
    assert told(recording, child.pid) == ["leased", "put", "leased", "died", "freed"]
    line = build(recording)
    assert line.misfits == 0
    assert trace_summary.summary(line)["died"] == [line.name(line.marks[0].who)]
    check_format(chrome.trace_events(line))


def test_a_forked_child_has_a_ring_of_its_own(pool: Pool) -> None:
    """It never writes into its parent's, before it joins or after."""
    with recorder(pool.name) as listening:
        pool.acquire().release()
        child = os.fork()
        if not child:
            pool._mapping.wait_begin(_core.FOR_SLOT, 0)  # nothing is noted before it joins
            pool._mapping.wait_end(_core.FOR_SLOT, 0)
            pool.acquire().release()
            pool.acquire().release()
            os._exit(0)
        os.waitpid(child, 0)
        pool.acquire().release()
        recording = listening.stop()
    events = recording.events
    rings = {
        pid: set(events["ring"][events["pid"] == pid].tolist()) for pid in (os.getpid(), child)
    }
    me = pool._mapping.me
    assert rings[os.getpid()] == {me}
    assert rings[child] <= {me, 2}  # with the reaper's word of its end
    mine = events[events["pid"] == child]
    assert {KINDS[k] for k in mine["kind"][mine["ring"] == me].tolist()} <= {"died"}
    assert told(recording, child)[:4] == ["leased", "released"] * 2
    assert told(recording, os.getpid()) == ["leased", "released"] * 2


def test_a_member_that_leaves_is_no_dead_one(pool: Pool) -> None:
    """It is told that it left."""
    with recorder(pool.name) as listening:
        other = Pool.attach(pool.name, member_name="guest")
        other.acquire().release()
        before = pool.statistics().reaped_members
        other.close()
        while pool.statistics().reaped_members == before:
            os.sched_yield()
        line = build(listening.stop())
    assert [(mark.kind, line.name(mark.who)) for mark in line.marks] == [("left", "guest")]


def test_the_pool_goes_on_when_its_tracer_is_killed(pool: Pool, capsys: Any) -> None:
    """Gc removes what it left, and switches the members off; the next tracer is heard."""
    with tracer(pool) as process:
        process.kill()
        process.wait()
        left = SHM / f"{pool.name}.trace"
        assert left.exists()
        assert word(pool)
        pool.acquire().release()
        assert main(["gc", "--dry-run"]) == 0
        reason = f"its tracer (pid {process.pid}) is dead"
        assert f"would remove {left.name}: {reason}" in capsys.readouterr().out
        assert word(pool)
        assert main(["gc"]) == 0
        out = capsys.readouterr().out
    assert f"removed {left.name}: {reason}" in out
    assert "0 pools, 1 trace removed" in out
    assert not left.exists()
    assert word(pool) == 0
    with recorder(pool.name) as listening:
        pool.acquire().release()
        assert len(listening.stop().events) == 2


def test_a_tracer_that_lives_is_none_of_gc_s_business(pool: Pool) -> None:
    """Its lock says so."""
    with recorder(pool.name):
        assert not [
            v for v in _sweep.sweep(dry_run=False) if v.name.startswith(pool.name) and v.removed
        ]
        assert word(pool)


def test_of_two_tracers_the_second_is_told(pool: Pool, capsys: Any) -> None:
    """With the pid of the first, which goes on."""
    with tracer(pool) as process:
        assert main(["trace", pool.name, "--for", "1ms"]) == 1
        message = f"pool {pool.name!r} is being traced by pid {process.pid}"
        assert message in capsys.readouterr().err
        pool.acquire().release()
        assert "2 events, 0 lost" in ended(process, signal.SIGTERM)


def test_a_tracer_whose_terminal_is_closed_ends_in_good_order(pool: Pool, tmp_path: Path) -> None:
    """It writes what it was asked for, and leaves neither its segment nor its word behind."""
    path = tmp_path / "trace.json"
    with tracer(pool, "-o", str(path)) as process:
        pool.acquire().release()
        ended(process, signal.SIGHUP)
    check_format(json.loads(path.read_text()))
    assert word(pool) == 0
    assert not list(SHM.glob("*.trace"))


def test_a_tracer_ends_with_its_pool(make_pool: MakePool) -> None:
    """Nothing more can come: nobody has to press ^C."""
    pool = make_pool()
    with tracer(pool) as process:
        pool.acquire().release()
        pool.close()
        assert "2 events, 0 lost" in ended(process)


COORDINATOR = """
import sys
from shmpool import Pool
pool = Pool.create(slots=2, slot_size=64, name=sys.argv[1])
print("made", flush=True)
sys.stdin.readline()
pool.acquire().release()
pool.acquire().release()
print("done", flush=True)
sys.stdin.readline()
"""


def test_a_tracer_ends_when_nobody_is_left_of_an_orphan(tmp_path: Path) -> None:
    """A coordinator that is killed closes nothing."""
    name = f"orphan-{os.getpid()}"
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", COORDINATOR, name]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "made\n"
        with Pool.attach(name) as pool, tracer(pool) as listening:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            process.kill()
            process.wait()
            pool.close()
            assert "4 events, 0 lost" in ended(listening)
    for path in SHM.glob(f"*{name}*"):  # if the resource tracker has not been there yet
        path.unlink(missing_ok=True)


def test_what_was_seen_of_a_segment_that_was_cut_is_shown(pool: Pool) -> None:
    """With the reason; the pool does not notice."""
    with tracer(pool) as process:
        with segment_of(pool) as fd:
            pool.acquire().release()
            os.ftruncate(fd, 100)
            pool.acquire().release()
        out, err = process.communicate()
    assert process.returncode == 0
    assert "it was cut while it was looked at; this is what was seen" in err
    assert out.startswith(f"{pool.name}: ")
    pool.acquire().release()


@contextmanager
def segment_of(pool: Pool) -> Iterator[int]:
    """The segment of a tracer that is at work, as anybody of its user can open it."""
    fd = os.open(SHM / f"{pool.name}.trace", os.O_RDWR)
    yield fd
    os.close(fd)


def test_the_summary_has_all_numbers(pool: Pool, capsys: Any) -> None:
    """For machines: what is lost is there, too."""
    with tracer(pool, "--json", "--ring", "64") as process:
        queue = pool.queue("a")
        for _ in range(500):
            queue.put(pool.acquire())
            queue.get().release()
        shown = json.loads(ended(process, signal.SIGINT))
    assert shown["pool"] == pool.name
    assert shown["lost"] > 0
    assert shown["events"] + shown["lost"] == 2000
    (member,) = shown["members"]
    assert (member["pid"], member["lost"]) == (os.getpid(), shown["lost"])
    a, b = shown["queues"]
    assert (a["name"], b["name"], b["handoffs"]) == ("a", "b", 0)
    assert a["handoffs"] > 0
    assert 0 <= a["p50"] <= a["p99"] <= a["max"]


def test_a_name_that_no_pool_has_is_told(capsys: Any) -> None:
    """As by the other commands."""
    assert main(["trace", "nothing-of-that-name", "--for", "1ms"]) == 1
    assert "there is no pool 'nothing-of-that-name'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.txt"], "ends in .json, .svg or .png"),
        (["-o", "nowhere/x.json"], "there is no directory nowhere"),
        (["--for", "soon"], "is no length of time"),
        (["--for", "0s"], "more than 0"),
        (["--ring", "100"], "a power of two"),
        (["--ring", "32"], "a power of two"),
    ],
)
def test_wrong_arguments_are_told_before_anybody_waits(
    capsys: Any, arguments: list[str], message: str
) -> None:
    """The pool is not looked for."""
    try:
        code = main(["trace", "nothing-of-that-name", *arguments])
    except SystemExit as over:  # argparse's way
        code = int(str(over.code))
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_picture_without_matplotlib_names_the_remedy(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody waits."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["trace", "nothing-of-that-name", "-o", "x.png"]) == 2
    assert "pip install 'shmpool[trace]'" in capsys.readouterr().err


# Pictures.


def span(slot: int, begin: float, end: float, who: Who) -> Span:
    """A hold; times in seconds."""
    return Span("held", slot, 1, round(begin * 1e9), round(end * 1e9), who, until="released")


def stalled(recording: Recording) -> Timeline:
    """A second in which one member holds a slot for half of it, and the rest for moments."""
    recording = Recording(
        recording.spec, 0, 1_000_000_000, recording.before, recording.after, recording.events, {},
        {(1, 5): "ordinary", (2, 6): "stalled"},
    )  # fmt: skip
    line = Timeline(recording)
    line.spans = [span(0, n / 100, n / 100 + 0.005, Who(1, 5)) for n in range(100)]
    line.spans.append(span(1, 0.2, 0.7, Who(2, 6)))
    line.members = [Who(1, 5), Who(2, 6)]
    return line


def test_what_is_held_for_too_long_stands_out(pool: Pool) -> None:
    """By what is usual: the one of a hundred."""
    with recorder(pool.name) as listening:
        line = stalled(listening.stop())
    limits = trace_picture.Limits.of(line)
    kinds = [trace_picture._kind(span, limits) for span in line.spans]
    assert kinds == ["held"] * 100 + ["held too long"]


@pytest.mark.parametrize("slots", [8, 64])
def test_a_picture_shows_members_and_slots(make_pool: MakePool, tmp_path: Path, slots: int) -> None:
    """A row for each, as a picture in dots or in lines."""
    pytest.importorskip("matplotlib")
    pool = make_pool(slots=slots)
    with recorder(pool.name) as listening:
        line = stalled(listening.stop())
    trace_picture.draw(line, tmp_path / "x.png")
    trace_picture.draw(line, tmp_path / "x.svg")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    drawn = ET.parse(tmp_path / "x.svg")  # noqa: S314 - it is our own
    assert drawn.getroot().tag.endswith("svg")
    text = (tmp_path / "x.svg").read_text()
    assert trace_picture.COLOURS["held too long"] in text
    assert trace_picture.COLOURS["starving"] not in text


def test_an_empty_trace_is_drawn_too(pool: Pool, tmp_path: Path) -> None:
    """Nobody did anything, and nobody is attached but the coordinator."""
    pytest.importorskip("matplotlib")
    with recorder(pool.name) as listening:
        line = build(listening.stop())
    trace_picture.draw(line, tmp_path / "x.png")
    check_format(chrome.trace_events(line))
    shown = trace_summary.summary(line)
    assert (shown["events"], shown["lost"], shown["longest_holds"]) == (0, 0, [])
    assert trace_summary.text(shown)


def test_a_name_is_drawn_as_it_is(pool: Pool, tmp_path: Path) -> None:
    """A member may be called anything: no formula, no escape sequence, and still XML."""
    pytest.importorskip("matplotlib")
    with recorder(pool.name) as listening:
        line = stalled(listening.stop())
    line.recording.names[1, 5] = "$x^{$\x1b[2J"
    trace_picture.draw(line, tmp_path / "x.svg")
    ET.parse(tmp_path / "x.svg")  # noqa: S314 - it is our own
    assert "\x1b" not in trace_summary.text(trace_summary.summary(line))
    check_format(chrome.trace_events(line))


def test_two_threads_that_wait_have_two_rows(pool: Pool) -> None:
    """Slices of a row may not overlap."""
    line = Timeline(recording_of(pool))
    who = Who(1, os.getpid())
    line.members = [who]
    line.waits = [Wait(who, begin, begin + 20, _core.FOR_TICKET, 1, over=True) for begin in (5, 15)]
    trace = chrome.trace_events(line)
    check_format(trace)
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len({event["tid"] for event in slices}) == 2


def slices_of(trace: dict[str, Any], pid: int) -> list[dict[str, Any]]:
    """Of one of the processes, in order."""
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["pid"] == pid]


def test_rows_of_slots_are_in_order(make_pool: MakePool) -> None:
    """For a reader that goes by ids, too."""
    line = Timeline(recording_of(make_pool(slots=12)))
    who = Who(1, os.getpid())
    line.members = [who]
    line.spans = [span(slot, 0, 1, who) for slot in range(12)]
    trace = chrome.trace_events(line)
    check_format(trace)
    rows = [event for event in trace["traceEvents"] if event["name"] == "thread_name"]
    slots = sorted((event["tid"], event["args"]["name"]) for event in rows if event["pid"] == 2)
    assert [name for _, name in slots] == [f"slot {slot}" for slot in range(12)]


def test_a_member_that_holds_thousands_keeps_its_rows_to_itself(pool: Pool) -> None:
    """One slot is one row while it is held."""
    line = Timeline(recording_of(pool))
    line.members = [Who(1, 10), Who(2, 20)]
    line.borrows = [span(0, 0, 1, who) for who in line.members for _ in range(2500)]
    trace = chrome.trace_events(line)
    check_format(trace)
    assert len({event["tid"] for event in slices_of(trace, 1)}) == 5000


def test_slices_that_touch_do_not_overlap_by_rounding(pool: Pool) -> None:
    """Readers add up time and duration, and count in floating point."""
    line = Timeline(recording_of(pool))
    line.members = [Who(1, os.getpid())]
    times = [n * 100_000_007 for n in range(200)]
    line.spans = [Span("held", 0, 1, *pair, line.members[0]) for pair in pairwise(times)]
    assert any(a / 1000 + (b - a) / 1000 > b / 1000 for a, b in pairwise(times))
    trace = chrome.trace_events(line)
    check_format(trace)
    for event, begin, end in zip(slices_of(trace, 2), times, times[1:], strict=False):
        assert (round(event["ts"] * 1000), round(event["dur"] * 1000)) == (begin, end - begin)


def test_what_was_over_when_the_trace_began_does_not_overlap(pool: Pool) -> None:
    """A member that was put aside notes late: a nanosecond of it is shown."""
    line = Timeline(replace(recording_of(pool), began_ns=50))
    who = Who(1, os.getpid())
    line.members = [who]
    line.borrows = [Span("borrowed", 0, 1, n, n + 5, who) for n in range(0, 60, 5)]
    check_format(chrome.trace_events(line))


def test_an_arrow_touches_no_slice_but_its_own(pool: Pool) -> None:
    """A slice's end is the next one's begin, and to some readers of both."""
    line = Timeline(recording_of(pool))
    who = Who(1, os.getpid())
    line.members = [who]
    held = [Span("held", 0, n, begin, begin + 10, who) for n, begin in ((1, 0), (2, 20))]
    queued = Span("queued", 0, 2, 10, 20, queue=1)
    before = Span("held", 1, 1, 10, 20, who)
    line.spans = [held[0], queued, held[1], before]
    line.handoffs = [Handoff(1, held[0], queued, held[1])]
    trace = chrome.trace_events(line)
    check_format(trace)
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    for arrow in (event for event in trace["traceEvents"] if event["ph"] in "stf"):
        here = arrow["pid"], arrow["tid"]
        row = [event for event in slices if (event["pid"], event["tid"]) == here]
        assert len(row) > 1
        assert sum(e["ts"] <= arrow["ts"] <= e["ts"] + e["dur"] for e in row) == 1


def recording_of(pool: Pool) -> Recording:
    """In which nothing happened, from the beginning of time."""
    with recorder(pool.name) as listening:
        seen = listening.stop()
    return Recording(seen.spec, 0, 100, seen.before, seen.after, seen.events, {}, {})


def test_a_wait_that_began_before_is_shown_from_the_beginning_on(pool: Pool) -> None:
    """Its sleeper says in each slice of its sleep what it waits for, and in the end how long."""
    queue = pool.queue("a")
    waiter = threading.Thread(target=lambda: queue.get().release())
    waiter.start()
    asleep = pool._mapping.view().queue_states["waiting"]
    while not asleep.any():
        os.sched_yield()
    with recorder(pool.name) as listening:
        while not listening.poll():
            os.sched_yield()
        queue.put(pool.acquire())
        waiter.join()
        line = build(listening.stop())
    (wait,) = line.waits
    assert wait.begin == line.recording.began_ns
    assert (wait.kind, wait.number, wait.over) == (_core.FOR_TICKET, 1, True)


# What was there before.


def test_what_was_so_before_is_shown_from_the_beginning_on(pool: Pool) -> None:
    """A slot that somebody holds all the time has no event, and is what one looks for."""
    held, queue = pool.acquire(), pool.queue("b")
    queue.put(pool.acquire())
    shared = pool.acquire()
    borrow = pool.borrow(shared.share())
    with recorder(pool.name) as listening:
        shared.release()
        line = build(listening.stop())
    whole = line.recording.began_ns, line.recording.ended_ns
    found = {(s.slot, s.what): s for s in line.spans}
    assert (found[0, "held"].begin, found[0, "held"].end) == whole
    assert (found[1, "queued"].begin, found[1, "queued"].end) == whole
    assert line.queue(found[1, "queued"].queue) == "b"
    assert found[2, "shared"].until == "released"
    assert found[2, "draining"].until == ""
    assert [(b.slot, b.what, b.until) for b in line.borrows] == [(2, "borrowed", "")]
    assert line.misfits == 0
    check_format(chrome.trace_events(line))
    borrow.release()
    held.release()


def test_what_happened_while_the_trace_began_is_no_gap(pool: Pool) -> None:
    """The slots are looked at a moment before members note what they do, or a moment late."""
    queue = pool.queue("a")
    older = look(pool.name).view
    ticket = pool.acquire().detach()
    queue.put(pool.acquire())
    held, shared = pool.acquire(), pool.acquire()
    shared.share()
    with recorder(pool.name) as listening:
        claimed = pool.claim(ticket)
        got = queue.get()
        newer = look(pool.name).view
        for lease in (claimed, got, shared):
            lease.release()
        queue.put(held)
        recording = listening.stop()
    for before in (older, newer):
        line = build(replace(recording, before=before))
        assert line.misfits == 0
        by_slot = [[s.what for s in line.spans if s.slot == slot] for slot in range(4)]
        assert by_slot[:3] == [["detached", "held"], ["queued", "held"], ["held", "queued"]]
        check_format(chrome.trace_events(line))


def test_what_was_lost_leaves_guesses(pool: Pool) -> None:
    """They are counted, and what is drawn is still valid."""
    queue = pool.queue("a")
    with recorder(pool.name, _core.TRACE_LEAST) as listening:
        for _ in range(300):
            queue.put(pool.acquire())
            queue.get().release()
        line = build(listening.stop())
    assert sum(line.recording.lost.values()) == 1200 - (_core.TRACE_LEAST - 1)
    assert line.misfits > 0
    assert any(s.guessed for s in line.spans)
    check_format(chrome.trace_events(line))


def test_a_hand_off_whose_sender_was_lost_is_none(pool: Pool) -> None:
    """Its ticket came from a queue, as far as anybody knows, and no arrow leads from there."""
    queue = pool.queue("a")
    with recorder(pool.name) as listening:
        queue.put(pool.acquire())
        queue.put(queue.get())
        queue.get().release()
        whole = listening.stop()
    got = [
        number for number, kind in enumerate(whole.events["kind"].tolist()) if KINDS[kind] == "got"
    ]
    line = build(replace(whole, events=np.delete(whole.events, got[0]), lost={1: 1}))
    assert [handoff for handoff in line.handoffs if handoff.sent.who is None] == []
    assert line.misfits > 0
    check_format(chrome.trace_events(line))
