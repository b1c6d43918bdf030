"""Jobs and results: any order, several loops and futures at once, what is kept, what is big."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, as_completed, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from farm_jobs import SPEC, Gate, checksum, die_first, fill, obey, raise_error, whole

import shmpool
from shmpool import ArraySpec, Farm, _source


def test_an_endless_source_is_read_no_further_than_there_are_slots(farm: Farm) -> None:
    """Never more than `slots` jobs are read ahead of the results, and one."""
    read = itertools.count()
    seen = []
    for result in farm.map(read, ordered=False):
        seen.append(result.job)
        if len(seen) == 500:
            break
    assert next(read) <= 500 + farm.pool.slots + 1
    assert len(set(seen)) == 500


def test_ordered_results_wait_for_the_first_and_unordered_do_not(farm: Farm, gate: Gate) -> None:
    """A job at a gate: as they come, three others come first; in order, it comes first."""
    results = farm.map([gate.path, 1, 2, 3], ordered=False)
    assert [next(results).job for _ in range(3)] == [1, 2, 3]
    gate.open()
    assert [result.job for result in results] == [gate.path]
    opener = threading.Thread(target=gate.open)
    opener.start()
    assert [result.index for result in farm.map([gate.path, 1, 2, 3])] == [0, 1, 2, 3]
    opener.join()


def test_a_loop_inside_a_loop_has_its_own_results(farm: Farm) -> None:
    """Both may be endless: the outer one leaves a slot."""
    seen = []
    for outer in farm.map(itertools.count()):
        for inner in farm.map(range(outer.job, outer.job + 8)):
            assert (inner.array == inner.job % 256).all()
            seen.append((outer.job, inner.job))
        assert (outer.array == outer.job % 256).all()
        if outer.job == 5:
            break
    assert seen == [(i, i + j) for i in range(6) for j in range(8)]
    del outer, inner


def test_a_future_inside_a_loop_has_a_slot(farm: Farm) -> None:
    """An endless loop leaves one for it."""
    for result in farm.map(itertools.count()):
        with farm.submit(result.job + 1).result() as other:
            assert (other.array == result.job + 1).all()
        if result.job == 20:
            break
    del result


def test_loops_without_a_slot_are_told(farm: Farm) -> None:
    """A loop in another that has the slots that are not kept: FarmError, no endless wait."""
    kept = [result.keep() for result in farm.map(range(4))]
    outer, inner = farm.map(itertools.count()), farm.map(itertools.count())
    next(outer)
    with pytest.raises(shmpool.FarmError, match=r"loops around this one have hold all 6 slots"):
        next(inner)
    outer.close()
    for lease in kept:
        lease.release()


def test_a_thread_is_served_while_another_waits(farm: Farm, gate: Gate) -> None:
    """One waits for a job at a gate, the other has 300 results meanwhile."""
    held: list[Any] = []
    waiter = threading.Thread(target=lambda: held.extend(r.job for r in farm.map([gate.path])))
    waiter.start()
    gate.wait_for_worker()
    assert [result.job for result in farm.map(range(300))] == list(range(300))
    gate.open()
    waiter.join()
    assert held == [gate.path]


def test_threads_that_map_at_once_do_not_mix(farm: Farm) -> None:
    """Each of four sees its own jobs, in order, with the right pixels."""
    seen: dict[int, list[tuple[int, int]]] = {}

    def count(first: int) -> None:
        results = farm.map(range(first, first + 100))
        seen[first] = [(result.job, int(result.array[3, 4])) for result in results]

    threads = [threading.Thread(target=count, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for first, pairs in seen.items():
        assert pairs == [(job, job % 256) for job in range(first, first + 100)]
    assert len(seen) == 4


def test_a_slow_reader_in_one_thread_is_no_error_in_another(farm: Farm, gate: Gate) -> None:
    """All slots are in the hands of a loop that goes on later: the other one waits for them."""
    reached, go_on = threading.Event(), threading.Event()
    kept = [result.keep() for result in farm.map([0])]  # the slot that loops leave

    def read() -> None:
        for result in farm.map([gate.path, 1, 2, 3, 4, 5, 6]):
            if result.index == 0:
                reached.set()
                go_on.wait()

    reader = threading.Thread(target=read)
    reader.start()
    gate.open()
    reached.wait()
    dispatcher = farm._started()[2]
    while farm.pool._mapping.in_hand() != list(range(6)):
        dispatcher.collect()
        extra = farm.pool.acquire(timeout=0) if farm.pool.statistics().free else None
        kept += [extra] if extra else []
    timer = threading.Timer(0.3, go_on.set)  # long enough for a look at who has what
    timer.start()
    assert [result.job for result in farm.map(range(3))] == [0, 1, 2]
    reader.join()
    for lease in kept:
        lease.release()


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_a_loop_left_early_gives_everything_back(farm: Farm, taken: int) -> None:
    """Whatever was under way; the last result stays with whoever has it."""
    results = farm.map(itertools.count())
    for _ in range(taken):
        next(results)
    results.close()
    whole(farm)


def test_slots_of_a_loop_that_was_left_are_found_by_the_next(farm: Farm, gate: Gate) -> None:
    """They stand among the results, where nobody asks for them any more."""
    kept = [result.keep() for result in farm.map(range(4))]
    results = farm.map([gate.path, 1], ordered=False)
    opener = threading.Thread(target=gate.wait_for_worker)
    opener.start()
    last = next(results)  # the other is at the gate; this one is held
    opener.join()
    results.close()
    gate.open()
    assert [result.job for result in farm.map(range(3))] == [0, 1, 2]
    assert last.job == 1
    for lease in kept:
        lease.release()


def test_what_comes_back_for_a_loop_that_is_just_left_is_freed(farm: Farm, gate: Gate) -> None:
    """Another thread had looked up whose it is, before the loop was left."""
    dispatcher = farm._started()[2]
    run = dispatcher.begin(thread=None)
    dispatcher.send(run, dispatcher.pack(0, gate.path))
    gate.wait_for_worker()
    dispatcher.end(run)
    dispatcher._runs[run.number] = run
    gate.open()
    while farm.pool.statistics().free < farm.pool.slots:
        dispatcher.collect()
    assert not run.arrived
    del dispatcher._runs[run.number]


def test_a_loop_left_by_break_needs_no_del(tmp_path: Path) -> None:
    """The loop's name still has the last result: it is readable, and close is no error."""
    with Farm(fill, SPEC, workers=1) as farm:
        for result in farm.map(itertools.count()):
            if result.job == 3:
                break
        assert (result.array == 3).all()
    with pytest.raises(shmpool.StaleTicketError, match="is over"):
        result.array  # noqa: B018 - the access is the point


@pytest.fixture
def told(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For how many jobs sleeping workers were woken, each time that they were."""
    return noted_wakes(farm, monkeypatch)


def noted_wakes(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The same, of any farm."""
    dispatcher = farm._started()[2]
    wake, seen = dispatcher.wake, list[int]()

    def noted(jobs: int) -> None:
        seen.append(jobs)
        wake(jobs)

    monkeypatch.setattr(dispatcher, "wake", noted)
    return seen


def test_workers_hear_of_a_job_before_its_source_may_block(farm: Farm, told: list[int]) -> None:
    """A generator may take long to come to the next one."""

    def jobs() -> Iterator[int]:
        for number in range(8):
            assert sum(told) == number
            yield number

    assert [result.job for result in farm.map(jobs())] == list(range(8))


@pytest.mark.parametrize(
    ("jobs", "times"),
    [
        ([1, 2, 3, 4], [4]),
        (range(4), [4]),
        ([1, "x" * 5000, 3, 4], [2, 2]),
        (iter("abcd"), [1] * 4),
    ],
    ids=["list", "range", "one that is not small", "who knows"],
)
def test_workers_hear_at_once_of_all_jobs_that_are_at_hand(
    farm: Farm, told: list[int], jobs: Any, times: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If they are small: who is woken for the first takes the CPU from whoever sends the others."""
    monkeypatch.setattr(_source, "monotonic", lambda: 0.0)  # however long they take here
    with contextlib.closing(farm.map(jobs, on_error="yield")) as results:
        next(results)
        assert told == times


def test_workers_do_not_wait_long_for_all_jobs_that_are_at_hand(
    farm: Farm, told: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the clock after each job, by which a fifth of a millisecond is over: no more."""
    looks = itertools.count()
    monkeypatch.setattr(_source, "monotonic", lambda: next(looks) * 0.0002)
    with contextlib.closing(farm.map([1, 2, 3, 4])) as results:
        next(results)
        assert told == [3, 1]


def test_workers_hear_of_a_job_before_its_frame_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the next one: what the user's function takes is not known."""
    told = list[int]()

    def spec(job: int) -> ArraySpec:
        assert sum(told) == job
        return SPEC

    with Farm(fill, spec, workers=1, slots=4, frame_size=SPEC.nbytes) as farm:
        told = noted_wakes(farm, monkeypatch)
        assert [result.job for result in farm.map(range(3))] == [0, 1, 2]


def test_a_source_that_raises_does_so_after_the_results_before_it(farm: Farm) -> None:
    """As the built-in map: what it gave is done, then its error comes out."""

    def jobs() -> Iterator[int]:
        yield from range(4)
        raise LookupError("no more")

    seen = []
    with pytest.raises(LookupError, match="no more"):
        seen.extend(result.job for result in farm.map(jobs()))
    assert seen == [0, 1, 2, 3]


def test_with_on_error_yield_the_night_goes_on(farm: Farm) -> None:
    """What a job raised is its result's error; its array raises it."""
    jobs = [1, (raise_error, "a"), 2, (raise_error, "b"), 3]
    seen = []
    for result in farm.map(jobs, on_error="yield"):
        seen.append(type(result.error))
        if result.error is not None:
            with pytest.raises(LookupError):
                result.array  # noqa: B018 - the access is the point
    assert seen == [type(None), LookupError, type(None), LookupError, type(None)]
    assert (farm.statistics().jobs, farm.statistics().failed) == (5, 2)
    with pytest.raises(shmpool.ArgumentError, match="on_error"):
        next(farm.map(jobs, on_error="yeild"))


def test_kept_results_hold_until_they_are_released(farm: Farm) -> None:
    """Through as many jobs as you like; the error that none is left names their slots."""
    kept = [result.keep() for result in farm.map(range(5))]
    assert [result.job for result in farm.map(range(100))] == list(range(100))
    assert [int(lease.array()[0, 0]) for lease in kept] == [0, 1, 2, 3, 4]
    kept += [result.keep() for result in farm.map([5])]
    with pytest.raises(shmpool.FarmError, match=r"hold all 6 slots") as caught:
        next(farm.map(range(3)))
    assert caught.value.slots == [0, 1, 2, 3, 4, 5]
    for lease in kept:
        lease.release()


def sized(job: int) -> ArraySpec:
    """The larger the job, the larger the frame."""
    return ArraySpec((job, 2), np.uint16)


def test_a_frame_may_depend_on_its_job() -> None:
    """Shape and dtype as the function says, up to frame_size."""
    with Farm(fill, sized, frame_size=4000, workers=2) as farm:
        shapes = [(r.array.shape, int(r.array.sum())) for r in farm.map(range(1, 50))]
        assert shapes == [((job, 2), 2 * job * job) for job in range(1, 50)]
        with pytest.raises(shmpool.SizeError):
            next(farm.map([100_000]))
        whole(farm)


def test_big_jobs_travel_in_slots_of_their_own(tmp_path: Path) -> None:
    """Between small ones, in any order, by loop and by future; all slots come back."""
    with Farm(obey, ArraySpec((16_384,), np.uint8), workers=2, slots=10) as farm:
        sizes = [10, 100_000, 17_000, 5, 150_000, 20_000] * 5
        jobs = [(checksum, bytes([7]) * size) for size in sizes]
        right = [7 * len(range(0, size, 4096)) for size in sizes]
        assert [result.value for result in farm.map(jobs)] == right
        futures = [farm.submit(job) for job in jobs]
        values = []
        for future in futures:
            with future.result() as result:
                values.append(result.value)
        assert values == right
        whole(farm)


def test_a_big_job_survives_the_worker_that_had_it(tmp_path: Path) -> None:
    """It is read again from where it is, by another."""
    with Farm(obey, ArraySpec((16_384,), np.uint8), workers=2, slots=10) as farm:
        job = (big_and_deadly, tmp_path, b"x" * 90_000)
        results = [(result.value, result.attempts) for result in farm.map([job])]
        assert results == [((2, 90_000), 3)]
        whole(farm)


def big_and_deadly(folder: Path, data: bytes) -> tuple[int, int]:
    """Kill two workers over it."""
    return die_first(2, folder), len(data)


def test_a_job_submitted_runs_beside_one_that_waits(farm: Farm, gate: Gate) -> None:
    """There is a second worker: nobody has to come back first."""
    slow = farm.submit(gate.path)
    gate.wait_for_worker()
    with farm.submit(7).result() as result:
        assert (result.value, int(result.array[0, 0])) == (49, 7)
    assert not slow.done()
    gate.open()
    slow.result().release()


def test_futures_work_with_those_of_the_standard_library(farm: Farm, gate: Gate) -> None:
    """`wait`, `as_completed`, exceptions, and cancelled ones: all of them come to an end."""
    first = [farm.submit(gate.path), farm.submit(4)]
    done, rest = wait(first, return_when=FIRST_COMPLETED)
    assert (done, rest) == ({first[1]}, {first[0]})
    rest_of = [farm.submit(number) for number in range(40)]
    assert rest_of[-1].cancel()
    gate.open()
    for future in as_completed([*first, *rest_of[:-1]]):
        future.result().release()
    wait(rest_of)
    with pytest.raises(CancelledError):
        rest_of[-1].result()
    with pytest.raises(LookupError, match="as told"):
        farm.submit((raise_error, "as told")).result()


def test_futures_that_hold_every_slot_are_told_by_the_next(farm: Farm) -> None:
    """Its exception says so; it comes when nothing is left to wait for."""
    results = [future.result() for future in [farm.submit(n) for n in range(6)]]
    with pytest.raises(shmpool.FarmError, match="hold all 6 slots"):
        farm.submit(6).result()
    assert [int(result.array[0, 0]) for result in results] == list(range(6))
    for result in results:
        result.release()


def start_process() -> None:
    """What a daemon may not."""
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()


def run_a_program() -> int:
    """What docs/farming.md says to do instead."""
    return subprocess.run([sys.executable, "-c", ""], check=True).returncode


def test_a_job_runs_programs_but_no_processes_of_multiprocessing(farm: Farm) -> None:
    """As docs/farming.md says; the farm goes on."""
    process, program = farm.map([(start_process,), (run_a_program,)], on_error="yield")
    assert re.search("daemonic processes are not allowed", str(process.error))
    assert (program.error, program.value) == (None, 0)
    whole(farm)


def run_in_vain() -> None:
    """An error that holds more than there is room for."""
    program = "print('x' * 20000); raise SystemExit(2)"
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)


def down() -> None:
    """An error with a traceback that is longer than there is room for."""
    up()


def up() -> None:
    """With this, for one function's repeated lines are told in one."""
    down()


def test_an_error_too_big_for_its_room_is_told_all_the_same(farm: Farm) -> None:
    """By what fits of its message and of its traceback; never as if a value were too big."""
    vain, deep = farm.map([(run_in_vain,), (down,)], on_error="yield")
    assert re.match(r"CalledProcessError: Command .* returned non-zero.*job_size=", str(vain.error))
    assert "in run_in_vain" in str(getattr(vain.error, "__cause__", None))
    assert isinstance(deep.error, RecursionError)
    assert "in down" in str(deep.error.__cause__)
    whole(farm)


class AtHome:
    """What can be unpickled in one process only."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    def __setstate__(self, state: dict[str, int]) -> None:
        if state["pid"] != os.getpid():
            raise LookupError("not here")


class AtHomeError(Exception):
    """Likewise."""

    def __reduce__(self) -> tuple[Any, ...]:
        return at_home, (os.getpid(),)


def at_home(pid: int) -> AtHomeError:
    """What is unpickled."""
    if pid != os.getpid():
        raise LookupError("not here")
    return AtHomeError()


def raise_at_home() -> None:
    """As from a module that only workers can import."""
    raise AtHomeError


def test_an_outcome_that_cannot_be_unpickled_is_an_error_of_its_job(farm: Farm) -> None:
    """Value or exception: the others are done, and of an exception there is the traceback."""
    jobs = [(AtHome,), (raise_at_home,), 3]
    value, raised, other = farm.map(jobs, on_error="yield")
    assert isinstance(value.error, shmpool.JobError)
    assert re.search(r"job 0 .* its value cannot be unpickled here: .*not here", str(value.error))
    assert isinstance(raised.error, shmpool.JobError)
    assert "in raise_at_home" in str(raised.error.__cause__)
    assert other.value == 9
    with pytest.raises(shmpool.JobError, match="cannot be unpickled here"):
        farm.submit((AtHome,)).result()
    whole(farm)
