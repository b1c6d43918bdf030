"""The story of a slot across processes, and after the death of the one it is about."""

from __future__ import annotations

import inspect
import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np
import pytest

import shmpool
from shmpool import ArraySpec, Farm, Pool, Queue, QueueOptions
from workers import crasher

MakePool = Callable[..., Pool]


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    """Each way to start a process."""
    return mp.get_context(request.param)


def line_in(function: Callable[..., Any], code: str) -> str:
    """File and line of a piece of code in a function."""
    lines, first = inspect.getsourcelines(function)
    number = next(first + i for i, line in enumerate(lines) if code in line)
    return f"{os.path.basename(inspect.getsourcefile(function) or '')}:{number}"  # noqa: PTH119


def killed(process: Any, gate: Event) -> None:
    """Start a process, and kill it when it says so."""
    process.start()
    gate.wait()
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_the_dead_are_still_told_of(context: BaseContext, make_pool: MakePool) -> None:
    """Who leased it and where, and that the reaper freed it, when its entry is long vacant."""
    pool = make_pool(slots=1, debug=True, member_name="keeper")
    gate = context.Event()
    thief = context.Process(target=crasher.hold, args=(pool, gate), name="thief")
    killed(thief, gate)
    with pool.acquire(timeout=100), pytest.raises(shmpool.StaleTicketError) as caught:
        pool.claim(1)  # what the thief held
    # A forked child joins by itself, and is named after its parent.
    thief_name = f"keeper+{thief.pid}" if context.get_start_method() == "fork" else "thief"
    who = f"{thief_name} (pid {thief.pid})"
    leased, freed, mine = str(caught.value).split("\n")[1:]
    assert leased.startswith(f"  leased  by {who}")
    assert f" at {line_in(crasher.hold, 'pool.acquire()')} " in leased
    assert freed.startswith(f"  freed   since {who} died")
    assert freed.endswith("<- generation 1 ended here")
    assert f"by keeper (pid {os.getpid()})" in mine
    assert mine.endswith("(generation 2, still held)")
    facts = caught.value.history[1]
    assert (facts.what, facts.member, facts.pid) == ("freed", thief_name, thief.pid)
    assert (facts.file, facts.line, facts.thread) == ("", 0, 0)


@pytest.mark.parametrize(
    ("options", "event", "queue"),
    [
        (QueueOptions(), "requeued", "a"),
        (QueueOptions(max_attempts=1, dead_letter="b"), "dead-lettered", "a"),
        (QueueOptions(on_death="quarantine"), "quarantined", "a"),
        (QueueOptions(on_death="free"), "freed", "a"),
        (QueueOptions(max_attempts=1), "freed", "a"),
    ],
)
def test_what_became_of_work_whose_holder_died_is_told(
    make_pool: MakePool, options: QueueOptions, event: str, queue: str
) -> None:
    """Each way to go on is an event of its own, in the name of the dead."""
    context = mp.get_context("fork")
    pool = make_pool(slots=2, debug=True, queues={"a": options, "b": QueueOptions()})
    pool.queue("a").put(pool.acquire())
    gate = context.Event()
    child = context.Process(target=crasher.take, args=(pool.queue("a"), gate), name="victim")
    killed(child, gate)
    while pool.statistics().reaped_members == 0:
        os.sched_yield()
    got, became = pool.history(0)[-2:]
    assert [got.what, became.what] == ["got", event]
    assert got.generation == became.generation == 2
    assert got.pid == became.pid == child.pid
    assert got.member == became.member
    assert (got.queue, became.queue) == ("a", queue)
    assert got.site == line_in(crasher.take, "queue.get()")


def detach(pool: Pool) -> None:
    pool.acquire().detach()


def test_a_ticket_that_nobody_claimed_has_expired(make_pool: MakePool) -> None:
    """Its sender is gone; the coordinator ends it, in its own name."""
    pool = make_pool(slots=1, debug=True, orphan_grace=0, member_name="keeper")
    child = mp.get_context("fork").Process(target=detach, args=(pool,))
    child.start()
    child.join()
    with pool.acquire(timeout=100):
        told = pool.history(0)
    assert [(t.what, t.generation) for t in told] == [
        ("leased", 1), ("detached", 1), ("expired", 2), ("leased", 3),
    ]  # fmt: skip
    assert [told[0].pid, told[2].pid] == [child.pid, os.getpid()]
    assert (told[2].member, told[2].site) == ("keeper", "")


def churn(pool: Pool, start: Event, rounds: int) -> None:
    start.wait()
    for _ in range(rounds):
        pool.acquire(timeout=100).release()


def test_two_processes_that_write_at_once_leave_whole_entries(
    context: BaseContext, make_pool: MakePool
) -> None:
    """Each entry is of one of them, on its line; and within a generation in order."""
    pool = make_pool(slots=1, debug=True)
    start = context.Event()
    children = [
        context.Process(target=churn, args=(pool, start, 400), name=f"child-{i}") for i in range(2)
    ]
    for child in children:
        child.start()
    start.set()
    pids = {child.pid for child in children}
    while any(child.is_alive() for child in children):
        told = pool.history(0)
        assert {t.pid for t in told} <= pids
        assert {t.site for t in told} <= {line_in(churn, "pool.acquire")}
        assert [t.generation for t in told] == sorted(t.generation for t in told)
    for child in children:
        child.join()
        assert child.exitcode == 0
    told = pool.history(0)
    assert [t.what for t in told] == ["leased", "released"] * 8
    assert all(one.pid == two.pid for one, two in zip(told[::2], told[1::2], strict=True))
    assert told[-1].generation == 800


def try_claim(queue: Queue, ticket: int, answer: Any) -> None:
    try:
        queue.pool.claim(ticket)
    except shmpool.StaleTicketError as error:
        answer.send(error)


def test_a_story_travels_with_its_error(context: BaseContext, pool: Pool) -> None:
    """Message and transitions are the same in the process that is told."""
    pool = Pool.create(slots=1, slot_size=64, queues=("a",), debug=True, member_name="keeper")
    with pool:
        ticket = pool.acquire().detach()
        pool.claim(ticket).release()
        mine, theirs = context.Pipe()
        child = context.Process(target=try_claim, args=(pool.queue("a"), ticket, theirs))
        child.start()
        error = mine.recv()
        child.join()
        mine.close(), theirs.close()
        assert error.history == list(pool.history(0))
        assert "released  by keeper" in str(error)


def fill(job: int, frame: np.ndarray[Any, Any]) -> None:
    frame[:] = job


def test_a_farm_has_a_story_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By SHMPOOL_DEBUG: what the owner does is on the owner's line, and the workers have names."""
    monkeypatch.setenv("SHMPOOL_DEBUG", "1")
    with Farm(fill, ArraySpec((8,), np.uint8), workers=1) as farm:
        for result in farm.map(range(3)):
            assert result.array[0] == result.job
        line = sys._getframe().f_lineno - 2
        told = [t for slot in range(farm.pool.slots) for t in farm.pool.history(slot)]
    mine = [t for t in told if t.pid == os.getpid()]
    assert {t.site for t in mine if t.what == "leased"} == {f"test_stories.py:{line}"}
    theirs = {t.what for t in told if t.pid != os.getpid()}
    assert theirs == {"got", "put"}
