"""FarmExecutor, as a program that had a ProcessPoolExecutor uses it."""

from __future__ import annotations

import operator
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from farm_jobs import Gate, die, raise_error, whole

import shmpool
from shmpool import FarmExecutor


@pytest.fixture
def executor() -> Iterator[FarmExecutor]:
    """Two workers; all slots are free in the end."""
    with FarmExecutor(2, slots=8) as executor:
        yield executor
        whole(executor.farm)


def filled(value: int, size: int = 1000) -> np.ndarray[Any, Any]:
    """An array to be returned."""
    return np.full(size, value, np.int32)


def stand_at(path: Path) -> str:
    """A gate."""
    with path.open("rb") as gate:
        gate.read()
    return "through"


_told: list[str] = []


def begin(word: str) -> None:
    """An initializer."""
    _told.append(word)


def told() -> list[str]:
    """What initializers have said here."""
    return _told


def ask_both(program: Callable[[Executor], Any]) -> tuple[Any, Any]:
    """The same program with either executor."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        right = program(executor)
    with FarmExecutor(1) as farm_executor:
        return program(farm_executor), right


def use_all(executor: Executor) -> list[Any]:
    """What programs do with one."""
    futures = [executor.submit(pow, 2, number) for number in range(20)]
    failing = [executor.submit(operator.truediv, 1, 0), executor.submit(int, "x")]
    return [
        list(executor.map(pow, [2, 3, 4], [5, 6, 7])),
        list(executor.map(abs, range(-30, 0), chunksize=7)),
        list(executor.map(abs, [])),
        sorted(future.result() for future in as_completed(futures)),
        [repr(future.exception()) for future in failing],
        executor.submit(sorted, [3, 1], reverse=True).result(),
        executor.submit(print, end="").result(),
        [array.tolist() for array in executor.map(filled, range(5))],
        executor.submit(filled, 3, 0).result().shape,
        executor.submit(np.asfortranarray, np.arange(6).reshape(2, 3)).result().tolist(),
        executor.submit(np.array, ["a", None], dtype=object).result().tolist(),
        str(executor.submit(np.array, "2020-01-01", dtype="M8[s]").result().dtype),
        wait(futures).not_done,
    ]


def test_programs_see_no_difference() -> None:
    """Values, arrays of all kinds, exceptions, order: as with ProcessPoolExecutor."""
    ours, right = ask_both(use_all)
    assert ours == right


def test_an_exception_brings_its_traceback(executor: FarmExecutor) -> None:
    """As its cause, in words."""
    with pytest.raises(LookupError, match="as told") as caught:
        executor.submit(raise_error, "as told").result()
    assert "in raise_error" in str(caught.value.__cause__)


def test_all_results_may_be_kept(executor: FarmExecutor) -> None:
    """A few are zero-copy; where half of the slots are held, the others are copies."""
    arrays = list(executor.map(filled, range(100)))
    assert [int(array[-1]) for array in arrays] == list(range(100))
    assert executor.farm.pool.statistics().free >= 3
    mine = executor.farm.pool._mapping.live
    assert 1 <= mine <= 4


def test_an_array_gives_its_slot_back_when_it_dies(executor: FarmExecutor) -> None:
    """Nobody has to release anything."""
    for number in range(50):
        array = executor.submit(filled, number).result()
        assert (array == number).all()
    del array
    whole(executor.farm)


def test_map_with_timeout_raises_as_the_original(executor: FarmExecutor, gate: Gate) -> None:
    """TimeoutError while a job is at a gate; the executor goes on."""
    results = executor.map(stand_at, [gate.path], timeout=0.01)
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()
    assert executor.submit(abs, -3).result() == 3


def test_big_arguments_travel(executor: FarmExecutor) -> None:
    """Larger than job_size: in slots of their own."""
    sizes = [2_000_000, 100, 70_000]
    assert list(executor.map(len, [b"x" * size for size in sizes])) == sizes


def test_what_is_too_big_to_come_back_is_told_with_the_option_to_raise() -> None:
    """Which is another one for arrays; there is no frame that a call could write to."""
    with FarmExecutor(1, result_size=1000, job_size=2000) as executor:
        with pytest.raises(
            shmpool.JobError, match=r"room for 1000: .*FarmExecutor with result_size=40000"
        ):
            executor.submit(filled, 1, 10_000).result()
        with pytest.raises(shmpool.JobError, match=r"2000: create the FarmExecutor with job_size="):
            executor.submit(bytes, 5000).result()
        with pytest.raises(shmpool.JobError, match=r"2000: create the FarmExecutor with job_size="):
            executor.submit(raise_error, "long " * 1000).result()
        assert executor.submit(filled, 7, 400).result().tolist() == [7] * 400


def test_arguments_of_the_original_are_taken() -> None:
    """By place and by name: where processes come from, and how much each does."""
    context = get_context("forkserver")
    with FarmExecutor(1, context, begin, ("x",), max_tasks_per_child=2) as executor:
        assert executor.submit(told).result() == ["x"]
        assert len(set(executor.map(one_of, range(6)))) >= 3
        assert executor.farm._start_method == "forkserver"
    with pytest.raises(ValueError, match="max_tasks_per_child=0: at least 1"):
        FarmExecutor(1, max_tasks_per_child=0)


def one_of(_number: int) -> int:
    """Which process does it."""
    return os.getpid()


def test_an_initializer_is_called_in_each_worker() -> None:
    """With its arguments."""
    with FarmExecutor(2, initializer=begin, initargs=("hello",)) as executor:
        assert list(executor.map(told_to, range(10))) == [["hello"]] * 10


def told_to(number: int) -> list[str]:
    """For map."""
    return told()


def test_cancelled_futures_are_done_for_those_who_wait(gate: Gate) -> None:
    """shutdown(cancel_futures=True): what nobody has begun is cancelled, the rest is done."""
    executor = FarmExecutor(1, slots=2)
    first = executor.submit(stand_at, gate.path)
    rest = [executor.submit(abs, number) for number in range(30)]
    gate.wait_for_worker()
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    while not rest[-1].cancelled():  # the last one is
        os.sched_yield()
    gate.open()
    wait([first, *rest])
    assert first.result() == "through"
    cancelled = [future.cancelled() for future in rest]
    assert cancelled == sorted(cancelled)
    assert cancelled.count(True) >= 28
    executor.shutdown()


def test_shutdown_does_what_was_submitted() -> None:
    """As the original; again is no error, and one that was never used ends, too."""
    executor = FarmExecutor(2)
    futures = [executor.submit(abs, -number) for number in range(50)]
    executor.shutdown()
    assert [future.result() for future in futures] == list(range(50))
    executor.shutdown()
    FarmExecutor(1).shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)


def test_shutdown_without_waiting_does_so_in_the_background(gate: Gate) -> None:
    """It returns while a job is at a gate."""
    executor = FarmExecutor(1)
    future = executor.submit(stand_at, gate.path)
    gate.wait_for_worker()
    executor.shutdown(wait=False)
    assert not future.done()
    gate.open()
    assert future.result() == "through"
    executor.shutdown()


def test_a_call_that_kills_is_an_error_of_its_future_alone(executor: FarmExecutor) -> None:
    """The others are done: the executor is not broken, as the original would be."""
    futures = [executor.submit(abs, 1), executor.submit(die), executor.submit(abs, 2)]
    assert isinstance(futures[1].exception(), shmpool.WorkerDiedError)
    assert [futures[0].result(), futures[2].result()] == [1, 2]


def test_threads_submit_at_once(executor: FarmExecutor) -> None:
    """Each gets its own."""
    futures: dict[int, Future[int]] = {}

    def submit(first: int) -> None:
        for number in range(first, first + 50):
            futures[number] = executor.submit(abs, -number)

    threads = [threading.Thread(target=submit, args=(first,)) for first in (0, 50, 100, 150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: future.result() for number, future in futures.items()} == {
        number: number for number in range(200)
    }


def test_what_cannot_be_pickled_is_told_by_its_future(executor: FarmExecutor) -> None:
    """As the original: submit itself raises nothing."""
    future = executor.submit(lambda: 1)
    assert "pickle" in str(future.exception())
    assert executor.submit(os.path.basename, sys.executable).result().startswith("python")
