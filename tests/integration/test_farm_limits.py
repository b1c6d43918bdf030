"""What a farm does about workers that die, hang, swell, stop, or cannot begin."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from farm_jobs import (
    SPEC,
    Frame,
    Gate,
    die,
    die_first,
    fill,
    obey,
    raise_error,
    run_script,
    stay,
    stay_first,
    whole,
)

import shmpool
from shmpool import Farm, Pool, _crew


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_job_that_kills_is_reported_with_signal_and_attempts(
    farm: Farm, number: signal.Signals
) -> None:
    """After `retries + 1` workers; the others are done."""
    results = list(farm.map([1, (die, number), 2], on_error="yield"))
    error = results[1].error
    assert isinstance(error, shmpool.WorkerDiedError)
    assert (error.attempts, results[1].attempts) == (3, 3)
    assert f"was killed by {number.name}" in str(error)
    assert [result.error for result in results[::2]] == [None, None]


@pytest.mark.parametrize("code", [0, 1, 7])
def test_a_job_that_ends_its_process_is_reported_with_the_code(farm: Farm, code: int) -> None:
    """Code 1 too, which is that of workers that cannot begin: this one could."""
    with pytest.raises(shmpool.WorkerDiedError, match=f"ended with exit code {code}"):
        list(farm.map([(os._exit, code)]))
    assert [result.value for result in farm.map(range(3))] == [0, 1, 4]


def test_a_job_that_exits_is_an_error_of_that_job(farm: Farm) -> None:
    """sys.exit ends neither worker nor coordinator."""
    with pytest.raises(shmpool.JobError, match=r"SystemExit\(3\)"):
        list(farm.map([(sys.exit, 3)]))
    assert farm.statistics().replaced == 0


class Ending:
    """A value that ends the process that packs it."""

    def __reduce__(self) -> tuple[Any, ...]:
        sys.exit(3)


def test_a_worker_that_fails_over_a_job_beside_its_function_loses_no_job(farm: Farm) -> None:
    """As if it had been killed: the slot does not become free, the job is tried elsewhere."""
    results = list(farm.map([1, (Ending,), 2], on_error="yield"))
    assert [type(r.error) for r in results[::2]] == [type(None)] * 2
    assert isinstance(results[1].error, shmpool.WorkerDiedError)
    assert "ended with exit code 3" in str(results[1].error)
    whole(farm)


@pytest.mark.parametrize("start_method", ["spawn", "fork", "forkserver"])
def test_the_death_of_a_worker_is_seen_though_a_process_of_its_job_lives(
    tmp_path: Path, start_method: str
) -> None:
    """Which has all its descriptors, and ends when it is let through."""
    gate = Gate(tmp_path / "gate")
    with Farm(obey, SPEC, workers=1, retries=0, start_method=start_method) as farm:
        with pytest.raises(shmpool.WorkerDiedError, match="SIGKILL"):
            list(farm.map([(leave_behind, gate.path)]))
        assert [result.value for result in farm.map(range(3))] == [0, 1, 4]
    gate.open()


def leave_behind(path: Path) -> None:
    """Start a process that waits at a gate, and die."""
    os.system(f"cat {path} >/dev/null &")  # noqa: S605 - as users do, with all descriptors
    die()


def test_many_poison_jobs_in_a_row_do_not_end_the_farm() -> None:
    """Every job under way may use up its attempts before the first comes back."""
    with Farm(obey, SPEC, workers=2, slots=6, retries=1, on_error="yield") as farm:
        errors = [type(result.error) for result in farm.map([(die,)] * 8)]
        assert errors == [shmpool.WorkerDiedError] * 8
        assert [result.value for result in farm.map([3])] == [9]
        whole(farm)


def test_a_job_that_hangs_is_tried_elsewhere_and_then_reported(tmp_path: Path) -> None:
    """Killed after job_timeout; done by another worker, or JobTimeoutError with the story."""
    with Farm(obey, SPEC, workers=2, job_timeout=1, retries=1) as farm:
        jobs = [1, (stay_first, 1, tmp_path), 2, (stay,), 3]
        results = list(farm.map(jobs, on_error="yield"))
        assert [result.attempts for result in results] == [1, 2, 1, 2, 1]
        assert [result.value for result in results] == [1, 1, 4, None, 9]
        error = results[3].error
        assert isinstance(error, shmpool.JobTimeoutError)
        for part in ("took longer than 1 s", "each of 2 workers", "obey-"):
            assert part in str(error)
        assert farm.statistics().overdue == 3
        del results
        whole(farm)


def test_closing_ends_a_job_that_hangs(tmp_path: Path) -> None:
    """Workers are waited for, and their time is still limited. Twice is no error."""
    gate = Gate(tmp_path / "gate")
    farm = Farm(obey, SPEC, workers=2, job_timeout=0.3)
    future = farm.submit(gate.path)
    gate.wait_for_worker()  # and then nobody opens, neither to it nor to the next ones
    results = farm.map([1, 2])
    assert [result.value for result in results] == [1, 4]
    farm.close()
    farm.close()
    assert isinstance(future.exception(), shmpool.JobTimeoutError)
    gate.close()


def test_a_watcher_sleeps_while_the_farm_closes(
    farm: Farm, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, and does not hear that again and again."""
    waits: list[Any] = []
    original = _crew.connection.wait

    def counted(things: Any, timeout: float | None = None) -> Any:
        waits.append(timeout)
        return original(things, timeout)

    future = farm.submit(gate.path)
    gate.wait_for_worker()
    crew = farm._started()[1]
    monkeypatch.setattr(_crew.connection, "wait", counted)
    crew._hire_no_more()
    while len(waits) < 1:
        pass
    # Were it to spin, it would do so all the time that these take.
    fill_time = [result.value for result in farm.map(range(200))]
    assert len(fill_time) == 200
    assert len(waits) <= 3
    gate.open()
    future.result().release()


def test_terminating_fails_what_waits(gate: Gate) -> None:
    """An error in the `with` block ends workers at once; futures get FarmError, none waits."""
    futures: list[Future[Any]] = []
    with pytest.raises(LookupError), Farm(obey, SPEC, workers=1) as farm:  # noqa: PT012 - its exit
        futures += [farm.submit(job) for job in [gate.path, 1, 2, 3, 4, 5, 6]]
        gate.wait_for_worker()
        raise LookupError
    for future in futures:
        assert future.cancelled() or isinstance(future.exception(), shmpool.FarmError)


def test_a_worker_that_ignores_sigterm_is_ended_all_the_same(gate: Gate) -> None:
    """Terminate means now."""
    with Farm(deaf, SPEC, workers=1) as farm:
        future = farm.submit(gate.path)
        gate.wait_for_worker()
        farm.terminate()
        assert isinstance(future.exception(), shmpool.FarmError)


def deaf(job: Any, frame: Frame) -> Any:
    """Ignore SIGTERM, and obey."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return obey(job, frame)


def test_a_stopped_worker_loses_nothing(farm: Farm) -> None:
    """SIGSTOP in the middle, SIGCONT later: every result is there, once."""
    pids, seen = farm._started()[1].pids(), []
    for result in farm.map(range(300), ordered=False):
        seen.append(result.job)
        if result.index in (50, 150):
            os.kill(pids[0], signal.SIGSTOP)
        if result.index in (100, 200):
            os.kill(pids[0], signal.SIGCONT)
        if len(seen) >= 290:
            os.kill(pids[0], signal.SIGCONT)
    assert sorted(seen) == list(range(300))
    assert farm.statistics().replaced == 0


left_running: list[tuple[threading.Event, threading.Thread]] = []


def leave_a_thread(job: int, frame: Frame) -> int:
    """The first leaves a thread that writes to its frame during the second."""
    if left_running:
        go_on, writer = left_running.pop()
        go_on.set()
        writer.join()
    else:
        event = threading.Event()

        def write_late() -> None:
            event.wait()
            frame[...] = 255

        writer = threading.Thread(target=write_late)
        left_running.append((event, writer))
        writer.start()
    return fill(job, frame)


def test_a_thread_that_a_job_left_fails_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    """What it touches late is told by its worker, and reaches nobody."""
    with Farm(leave_a_thread, SPEC, workers=1) as farm:
        found = [(result.value, int(result.array[0, 0])) for result in farm.map([2, 3, 4, 5])]
    assert found == [(4, 2), (9, 3), (16, 4), (25, 5)]
    assert capfd.readouterr().err.count("shmpool.errors.UseAfterReleaseError: ") == 2


def test_a_farm_with_stopped_workers_can_be_closed() -> None:
    """They would never hear that there is no more work: close() lets them go on."""
    with Farm(obey, SPEC, workers=2) as farm:
        assert [result.job for result in farm.map(range(4))] == [0, 1, 2, 3]
        for pid in farm._started()[1].pids():
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def swell(job: int, frame: Frame) -> int:
    """Allocate so many bytes."""
    return len(bytearray(job))


def test_a_job_that_needs_too_much_memory_gets_memory_error() -> None:
    """Private memory; its worker lives on and does the next."""
    with Farm(swell, SPEC, workers=1, memory_limit="600 MiB") as farm:
        errors = [type(r.error) for r in farm.map([10, 1 << 30, 20], on_error="yield")]
        assert errors == [type(None), MemoryError, type(None)]
        assert farm.statistics().replaced == 0
        whole(farm)


def pid_of_worker(job: int, frame: Frame) -> int:
    """Who does it."""
    return os.getpid()


def test_workers_are_replaced_after_their_share() -> None:
    """recycle_after jobs each, none lost, none counted as a death."""
    with Farm(pid_of_worker, SPEC, workers=1, recycle_after=4) as farm:
        pids = [result.value for result in farm.map(range(12))]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [4, 4, 4]
        assert farm.statistics().replaced == 0
        whole(farm)


def refuse() -> None:
    """An initializer that fails."""
    raise_error("no licence left")


def test_an_initializer_that_fails_is_told_with_its_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """FarmError at the first result, by loop and by future; the farm closes."""
    with Farm(fill, SPEC, workers=2, initializer=refuse) as farm:
        with pytest.raises(shmpool.FarmError, match="no licence left") as caught:
            list(farm.map(range(3)))
        assert "in refuse" in str(caught.value)
        with pytest.raises(shmpool.FarmError, match="no licence left"):
            farm.submit(1).result()
    assert "no licence left" in capfd.readouterr().err


def leave() -> None:
    """An initializer that ends its process, as a module without a guard may when imported."""
    sys.exit(0)


def test_workers_that_end_in_good_order_before_they_begin_are_not_hired_for_ever() -> None:
    """Exit code 0 is no better than 1 if nothing was done."""
    with (
        Farm(fill, SPEC, workers=1, initializer=leave) as farm,
        pytest.raises(shmpool.FarmError, match="no worker can work"),
    ):
        list(farm.map(range(3)))


def test_a_worker_that_cannot_be_replaced_ends_the_farm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has no more processes: FarmError says so, and nothing hangs."""

    def no_more(number: int) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with Farm(obey, SPEC, workers=2) as farm:
        monkeypatch.setattr(farm._started()[1], "_hire", no_more)
        with pytest.raises(shmpool.FarmError, match="another cannot be started"):
            list(farm.map([(die,)] * 6))


def test_draining_ends_a_loop_with_what_is_under_way(farm: Farm) -> None:
    """Nothing that was begun is lost; again is no error."""
    seen = []
    for result in farm.map(itertools.count()):
        seen.append(result.job)
        if result.job == 10:
            farm.drain()
            farm.drain()
    assert seen == list(range(len(seen)))
    assert 11 <= len(seen) <= 11 + farm.pool.slots + 1


def speak(job: int, frame: Frame) -> None:
    """By all ways."""
    print("line", job, end="")  # noqa: T201 - the point
    print(" and its end\nunfinished", end="")  # noqa: T201 - likewise
    logging.getLogger("speak").warning("job %d has %s", job, {"a": 1})
    if job == 2:
        logging.getLogger("speak").warning("long %s", "x" * 1_000_000)
        print("é" * 500_000)  # noqa: T201 - likewise


def test_workers_are_heard(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Lines with worker and job before them, records with both as attributes; long ones cut."""
    with Farm(speak, SPEC, workers=1) as farm:
        assert [result.worker for result in farm.map(range(3))] == ["speak-1"] * 3
        whole(farm)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["[speak-1 job 0] line 0 and its end", "[speak-1 job 0] unfinished"]
    assert "(500010 characters)" in lines[-1]
    records = [record for record in caplog.records if record.name == "speak"]
    starts = [record.getMessage()[:9] for record in records]
    assert starts == ["job 0 has", "job 1 has", "job 2 has", "long xxxx"]
    assert (records[0].worker, records[0].job) == ("speak-1", "job 0")  # type: ignore[attr-defined]
    assert "(1000005 characters)" in records[-1].getMessage()


def fork_on_the_way(job: int, frame: Frame) -> int:
    """User code that forks: its child ends, in one of two ways, and the job is done."""
    pid = os.fork()
    if pid == 0:
        os._exit(job)
    os.waitpid(pid, 0)
    return fill(job, frame) + len(subprocess.check_output(["true"]))  # noqa: S607


def test_user_code_that_forks_is_done_once() -> None:
    """Neither the worker's child nor one of the coordinator takes anything along."""
    with Farm(fork_on_the_way, SPEC, workers=2) as farm:
        for result in farm.map(range(20)):
            assert (result.array == result.job).all()
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        assert farm.statistics().jobs == 20
        del result
        whole(farm)


FORGETFUL = """
from farm_jobs import *
if __name__ == "__main__":
    farm = Farm(fill, SPEC, workers=2)
    print([result.value for result in farm.map(range(3))], *farm._started()[1].pids())
"""


def test_a_program_that_forgets_to_close_ends_in_silence() -> None:
    """Exit code 0, nothing on stderr, no worker and no name left."""
    run = run_script(FORGETFUL)
    assert (run.returncode, run.stderr) == (0, "")
    values, *pids = run.stdout.rsplit(maxsplit=2)
    assert values == "[0, 1, 4]"
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_job_whose_workers_were_killed_in_turn_is_done(farm: Farm, tmp_path: Path) -> None:
    """Two deaths are within its retries."""
    assert [r.value for r in farm.map([(die_first, 2, tmp_path)])] == [2]
    assert farm.statistics().requeued == 2


def test_ctrl_c_while_the_last_jobs_are_done_ends_the_farm(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeyboardInterrupt comes out of the `with` block, and nothing is left."""
    original = Pool.close

    def interrupted(pool: Pool) -> None:
        monkeypatch.setattr(Pool, "close", original)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Farm(obey, SPEC, workers=1) as farm:  # noqa: PT012
        assert [result.value for result in farm.map([1])] == [1]
        monkeypatch.setattr(Pool, "close", interrupted)
    assert farm.pool.closed
