"""Stages: in place, one after the other, each with workers, limits and deaths of its own."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from farm_jobs import SPEC, Frame, die, die_first, fill, obey, raise_error, stay, whole

import shmpool
from shmpool import ArraySpec, Farm, Result


def double(job: Any, frame: Frame) -> None:
    """What the stage before has left, twice."""
    frame *= 2


def double_below(job: Any, frame: Frame) -> None:
    """From what it leaves as it is: once more is the same."""
    frame[2:] = 2 * frame[:2]


def note(job: Any, frame: Frame) -> str:
    """A value of its own, and a mark that it was here."""
    frame += 1
    return f"noted {job}"


def then_obey(job: Any, frame: Frame) -> Any:
    """The second half of the job."""
    frame += 1
    return obey(job[1], np.empty(1, np.uint8))


def first_half(job: Any, frame: Frame) -> Any:
    """The first."""
    frame[...] = 7
    return obey(job[0], np.empty(1, np.uint8))


def die_as_told(job: Any, frame: Frame) -> int:
    """Kill one worker in the folder that the job names, and say how many there were."""
    return die_first(1, job)


def mark(job: Any, frame: Frame) -> None:
    """The frame before the deaths."""
    frame[...] = 7


def test_stages_work_in_place_and_in_order() -> None:
    """Each gets the frame of the one before; the last value that is not None is the job's."""
    farm = Farm(fill, SPEC, workers=1).then(double, workers=1).then(double, workers=1)
    with farm:
        for result in farm.map(range(60)):
            assert (result.array == 4 * result.job % 256).all()
            assert result.value == result.job**2
            assert result.worker == "double-2"  # the first has number 1
        assert farm.workers == 3
        del result
        whole(farm)
    with pytest.raises(shmpool.ArgumentError, match="has started"):
        farm.then(double)


def test_a_later_value_replaces_an_earlier_one() -> None:
    """By loop and by future."""
    with Farm(fill, SPEC, workers=1).then(note, workers=2) as farm:
        assert [r.value for r in farm.map(range(3))] == ["noted 0", "noted 1", "noted 2"]
        with farm.submit(5).result() as result:
            assert (result.value, int(result.array[0, 0])) == ("noted 5", 6)
        whole(farm)


def test_an_exception_in_one_stage_skips_the_next() -> None:
    """Its job comes home at once; the others go through."""
    with Farm(first_half, SPEC, workers=1).then(then_obey, workers=1) as farm:
        jobs = [(1, 2), ((raise_error, "first"), (die,)), (3, (raise_error, "second")), (4, 5)]
        results = [(repr(r.error), r.value) for r in farm.map(jobs, on_error="yield")]
        assert results == [
            ("None", 4),
            ("LookupError('first')", None),
            ("LookupError('second')", None),
            ("None", 25),
        ]
        assert farm.statistics().replaced == 0
        whole(farm)


def test_a_death_in_a_later_stage_is_retried_there(tmp_path: Path) -> None:
    """The first stage is not done again: the frame is as it left it."""
    with Farm(mark, SPEC, workers=1).then(die_as_told, workers=2) as farm:
        results = [(r.value, r.attempts, int(r.array[0, 0])) for r in farm.map([tmp_path])]
        assert results == [(1, 2, 7)]
        whole(farm)


def test_a_job_that_kills_a_later_stage_is_no_success() -> None:
    """WorkerDiedError, although the first stage was done."""
    with Farm(first_half, SPEC, workers=1, retries=1).then(then_obey, workers=1) as farm:
        with pytest.raises(shmpool.WorkerDiedError, match=r"then_obey-.* SIGKILL"):
            list(farm.map([(1, (die,))]))
        whole(farm)


def test_a_job_that_hangs_in_a_later_stage_is_told() -> None:
    """job_timeout is for each stage."""
    farm = Farm(first_half, SPEC, workers=1, retries=0, job_timeout=1)
    with farm.then(then_obey, workers=1):
        with pytest.raises(shmpool.JobTimeoutError, match="then_obey"):
            list(farm.map([(1, (stay,))]))
        whole(farm)


def sum_of(job: Any, frame: Frame) -> int:
    """Of a big job, wherever it is."""
    return len(job)


def test_big_jobs_pass_through_stages() -> None:
    """They are read in each, from the same slots, which all come back."""
    spec = ArraySpec((4096,), np.uint8)
    with Farm(sum_of, spec, workers=1, slots=12).then(sum_of, workers=1) as farm:
        assert [r.value for r in farm.map([b"x" * 80_000, b"y" * 50_000])] == [80_000, 50_000]
        whole(farm)


def limited(job: int, frame: Frame) -> str:
    """Whether so much memory is too much, and who says it."""
    try:
        bytearray(1 << 30)
    except MemoryError:
        return f"{os.getpid()} short"
    return f"{os.getpid()} plenty"


def test_each_stage_has_limits_of_its_own() -> None:
    """memory_limit in words, recycle_after, and an initializer: of that stage alone."""
    with Farm(fill, SPEC, workers=1).then(
        limited, workers=1, memory_limit="600 MiB", recycle_after=2
    ) as farm:
        values = [result.value.split() for result in farm.map(range(4))]
        assert [value[1] for value in values] == ["short"] * 4
        assert len({value[0] for value in values}) == 2
        whole(farm)


def test_stages_are_closed_one_after_the_other() -> None:
    """What the first has begun goes through the last: no future is lost by close(cancel=False)."""
    farm = Farm(fill, SPEC, workers=1).then(note, workers=1)
    values = []

    def take(future: Future[Result]) -> None:
        with future.result() as result:
            values.append(result.value)

    for number in range(40):
        farm.submit(number).add_done_callback(take)
    farm.close(cancel=False)
    assert values == [f"noted {number}" for number in range(40)]


def test_workers_of_all_stages_may_be_killed_at_once() -> None:
    """Nothing is lost, nothing is done by halves."""
    with Farm(fill, SPEC, workers=1).then(double_below, workers=1) as farm:
        seen = []
        for result in farm.map(range(200)):
            seen.append(int(result.array[3, 4]))
            if result.job in (50, 100):
                for pid in farm._started()[1].pids():
                    os.kill(pid, signal.SIGKILL)
        assert seen == [2 * job % 256 for job in range(200)]
        del result
        whole(farm)
