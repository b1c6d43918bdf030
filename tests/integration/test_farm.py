"""The farm: jobs in order, failures told, dead workers replaced, the film at the end."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import shmpool
from shmpool import ArraySpec, Farm
from workers import crasher, film, whitted

SPEC = ArraySpec((4, 5), np.uint8)


@pytest.fixture
def farm() -> Iterator[Farm]:
    """Two workers that do what their job says."""
    with Farm(crasher.render, SPEC, workers=2) as farm:
        yield farm


def test_results_come_in_job_order_with_their_frames(farm: Farm) -> None:
    """Each result knows its job, value, worker and attempts, and its array is the slot's."""
    for number, result in enumerate(farm.map(range(200))):
        assert (result.index, result.job, result.value, result.attempts) == (
            number,
            number,
            number,
            1,
        )
        assert result.worker.startswith("render-")
        assert (result.array == number % 256).all()
    assert farm.statistics().jobs == 200
    assert farm.statistics().frame_bytes == 200 * 20


def test_jobs_may_be_endless_and_no_more_than_slots_are_under_way(farm: Farm) -> None:
    """The source is read only as far as there are slots; a loop left early takes its jobs back."""
    read = itertools.count()
    for result in farm.map(read):
        if result.index == 20:
            break
    assert next(read) <= 20 + farm.pool.slots + 1
    del result
    assert [int(result.array[0, 0]) for result in farm.map(range(50))] == list(range(50))


def test_a_farm_works_again_after_a_job_failed(farm: Farm) -> None:
    """Its own exception, with the worker's traceback and the job, and the farm goes on."""
    with pytest.raises(LookupError, match="as told") as caught:
        list(farm.map([1, "raise", 2]))
    assert isinstance(caught.value.__cause__, shmpool.RemoteTraceback)
    assert "crasher.py" in str(caught.value.__cause__)
    assert any("job 1 ('raise')" in note for note in caught.value.__notes__)
    assert len([result.index for result in farm.map(range(30))]) == 30


def test_a_job_that_kills_every_worker_is_reported(farm: Farm) -> None:
    """WorkerDiedError with the number of attempts; workers are replaced."""
    with pytest.raises(
        shmpool.WorkerDiedError, match=r"job 1 \('die'\) killed 3 workers"
    ) as caught:
        list(farm.map([1, "die", 2]))
    assert (caught.value.job, caught.value.attempts) == ("die", 3)
    assert len([result.index for result in farm.map(range(30))]) == 30
    assert farm.statistics().replaced >= 2


def die_once(job: Path, frame: np.ndarray[Any, Any]) -> None:
    if not job.exists():
        job.touch()
        crasher.render("die", frame)
    frame[...] = 9


def test_a_job_whose_worker_died_is_done_by_another(tmp_path: Path) -> None:
    """The result says that it took two attempts."""
    with Farm(die_once, SPEC, workers=2) as farm:
        jobs = [tmp_path / str(number) for number in range(3)]
        results = [(result.attempts, int(result.array[0, 0])) for result in farm.map(jobs)]
    assert results == [(2, 9)] * 3


kept: list[np.ndarray[Any, Any]] = []


def keep_or_touch(job: str, frame: np.ndarray[Any, Any]) -> str:
    frame[...] = 9
    if job == "keep":
        kept.append(frame)
    elif job == "touch":
        kept[0][...] = 1
        len(kept)  # a call: where the interpreter looks for what there is to raise
    return job


def test_a_job_that_touches_a_kept_frame_fails() -> None:
    """UseAfterReleaseError is the error of the job that touches; keeping alone is none."""
    with Farm(keep_or_touch, SPEC, workers=1) as farm:
        for job in ("keep", "", ""):
            assert [int(result.array.min()) for result in farm.map([job])] == [9]
        with pytest.raises(shmpool.UseAfterReleaseError, match="after it was put") as caught:
            list(farm.map(["touch"]))
        assert (caught.value.write, caught.value.pool) == (True, farm.pool.name)
        assert any("job 0 ('touch')" in note for note in caught.value.__notes__)
        assert [int(result.array.min()) for result in farm.map([""])] == [9]
        assert farm.statistics().replaced == 0


def test_a_function_that_keeps_its_frame_fails_no_job(farm: Farm) -> None:
    """The kept array is cut off from its slot: other jobs go on as if it were not there."""
    assert list(farm.map(["keep"]))
    shown = [(result.job, int(result.array.min())) for result in farm.map(range(30))]
    assert shown == [(number, number) for number in range(30)]
    assert farm.statistics().replaced == 0


def test_a_value_that_cannot_travel_is_an_error_of_its_job(farm: Farm) -> None:
    """What pickle says comes back."""
    with pytest.raises((AttributeError, TypeError, shmpool.JobError), match=r"pickle|local object"):
        list(farm.map(["unpicklable"]))


def test_a_value_too_big_for_its_room_is_an_error_of_its_job(farm: Farm) -> None:
    """With the size to ask for. The job itself, as big, travels in slots of its own."""
    with pytest.raises(shmpool.JobError, match="job_size=20018"):
        list(farm.map([b"x" * 20_000]))


def test_a_result_is_over_when_the_next_is_taken(farm: Farm) -> None:
    """Its array then raises; a kept lease stays."""
    results = farm.map(range(3))
    first = next(results)
    lease = next(results).keep()
    with pytest.raises(shmpool.StaleTicketError, match="job 0 is over"):
        first.array  # noqa: B018 - the access is the point
    assert int(lease.array()[0, 0]) == 1
    lease.release()
    results.close()


def test_an_array_that_the_loop_still_names_is_not_overwritten(farm: Farm) -> None:
    """It holds its slot until the name is bound anew: kept frames are never silently replaced."""
    kept = []
    for result in farm.map(range(farm.pool.slots - 2)):
        kept.append(result.array)
    del result
    assert [int(array[0, 0]) for array in kept] == list(range(farm.pool.slots - 2))


def test_keeping_every_slot_is_an_error_that_says_so(farm: Farm) -> None:
    """Not a hang: nothing could ever come back."""
    with pytest.raises(shmpool.FarmError, match="that you keep hold all 6 slots"):
        [result.keep() for result in farm.map(range(100))]


def cannot_begin(job: int, frame: np.ndarray[Any, Any]) -> None:
    """Only here to be removed from what is importable."""


def test_workers_that_cannot_begin_are_not_hired_for_ever(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A function that children cannot import is a FarmError, not an endless loop."""
    monkeypatch.setattr(cannot_begin, "__module__", "crasher_not_there", raising=True)
    monkeypatch.setitem(sys.modules, "crasher_not_there", sys.modules[__name__])
    told = pytest.raises(shmpool.FarmError, match="can they import the function")
    with Farm(cannot_begin, SPEC, workers=2) as farm, told:
        list(farm.map(range(10)))
    assert "crasher_not_there" in capfd.readouterr().err


@pytest.mark.parametrize("workers", [0, -1])
def test_a_farm_has_at_least_one_worker(workers: int) -> None:
    """Told at once."""
    with pytest.raises(shmpool.SizeError):
        Farm(crasher.render, SPEC, workers=workers)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": 1.5}, r"workers is 1\.5: give a whole number, at least 1"),
        ({"retries": 0.5}, r"retries is 0\.5: give a whole number, at least 0"),
        ({"depth": 0}, "depth=0: at least 1"),
        ({"recycle_after": -1}, "recycle_after=-1: 0 or more"),
        ({"memory_limit": -5}, "memory_limit=-5: 0 or more bytes"),
        ({"job_size": -1}, r"job_size=-1: at least 1\.0 KiB"),
        ({"job_size": "1000 B"}, r"job_size='1000 B': at least 1\.0 KiB"),
    ],
)
def test_a_number_that_is_out_of_range_is_told_by_its_name(
    options: dict[str, Any], told: str
) -> None:
    """Before anything is made of it."""
    with pytest.raises(shmpool.SizeError, match=told):
        Farm(crasher.render, SPEC, **options)


@pytest.mark.parametrize(
    ("shape", "kind", "told"),
    [
        ((-1, 4), shmpool.SizeError, r"shape is \(-1, 4\): each side is 0 or more"),
        ((2.5, 4), shmpool.ArgumentError, r"shape is \(2\.5, 4\): give whole numbers"),
        ("ab", shmpool.ArgumentError, "shape is 'ab'"),
        (None, shmpool.ArgumentError, "shape is None"),
    ],
)
def test_a_shape_that_no_array_has_is_told(shape: Any, kind: type[Exception], told: str) -> None:
    """When the spec is made."""
    with pytest.raises(kind, match=told):
        ArraySpec(shape, np.uint8)


def test_a_shape_may_be_a_number_as_numpys() -> None:
    """Or anything that yields whole numbers."""
    assert ArraySpec(4, np.uint8) == ArraySpec((4,), np.uint8)  # type: ignore[arg-type]
    assert ArraySpec(np.array([2, 3]), np.uint8).shape == (2, 3)  # type: ignore[arg-type]


def raise_much(_job: Any, _frame: Any) -> None:
    """An error that is longer than what its room may be, in characters of four bytes."""
    raise LookupError("\U0001f600" * 5000)


def test_an_error_is_told_by_a_farm_with_as_little_room_as_there_may_be() -> None:
    """Cut, but never as the death of a worker."""
    with Farm(raise_much, SPEC, workers=1, job_size=1024) as farm:
        (result,) = farm.map([0], on_error="yield")
    assert isinstance(result.error, shmpool.JobError)
    assert str(result.error).startswith("LookupError: \U0001f600")


def test_a_farm_has_no_more_workers_than_its_pool_has_members() -> None:
    """Of all stages; else the last ones could not begin, and the farm would end for it."""
    with pytest.raises(shmpool.SizeError, match="255 workers: at most 254"):
        Farm(crasher.render, SPEC, workers=200).then(crasher.render, workers=55)


def test_a_frame_that_is_none_is_told_as_such() -> None:
    """Not as a function."""
    with pytest.raises(shmpool.ArgumentError, match=r"frame is \(4, 5\): give an ArraySpec"):
        Farm(crasher.render, (4, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["todo", "done", "stage-2"])
def test_a_queue_of_the_farms_own_is_nobody_elses(name: str) -> None:
    """It would have lost its limit of attempts, or its results."""
    with pytest.raises(shmpool.ArgumentError, match=f"'{name}', which the farm has itself"):
        Farm(crasher.render, SPEC, queues=(name,))


def test_nothing_is_submitted_to_a_farm_that_is_closed() -> None:
    """Told at once, also if nothing was submitted before it was closed."""
    with Farm(crasher.render, SPEC, workers=1) as farm:
        assert [result.job for result in farm.map([1])] == [1]
    with pytest.raises(shmpool.FarmError, match="the farm is closed"):
        farm.submit(1)


def test_a_farm_that_is_closed_is_not_used_again() -> None:
    """Neither by a loop nor by a second `with`: it says so, not its pool."""
    farm = Farm(crasher.render, SPEC, workers=1)
    with farm:
        assert [result.job for result in farm.map([1])] == [1]
    with pytest.raises(shmpool.FarmError, match=r"^the farm is closed$"):
        next(farm.map([1]))
    with pytest.raises(shmpool.FarmError, match=r"^the farm is closed$"), farm:
        pass
    farm.close()


def decode(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_film_shows_every_frame_in_order(tmp_path: Path) -> None:
    """Decoded again, each frame is the one rendered by itself, but for what H.264 loses."""
    path, size = tmp_path / "film.mp4", (160, 90)
    summary = film.film(str(path), 12, size, 2, 24, lambda: None)
    assert (summary.frames, summary.zero_copy_bytes) == (12, 2 * 12 * 160 * 90 * 3)
    shown = decode(path)
    assert len(shown) == 12
    for shot, frame in zip(whitted.shots(12), shown, strict=True):
        rendered = np.empty((90, 160, 3), np.uint8)
        whitted.render(shot, rendered)
        difference = np.abs(frame.astype(int) - rendered).mean()
        others = [np.abs(f.astype(int) - rendered).mean() for f in shown if f is not frame]
        assert difference < min(others)


def test_an_encoder_that_fails_ends_the_film_with_its_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A path that cannot be written: no hang, exit code and reason, and nothing on stderr."""
    with pytest.raises(RuntimeError, match=r"exit code 1: .*No such file"):
        film.film(str(tmp_path / "no" / "film.mp4"), 40, (32, 18), 2, 24, lambda: None)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--size", "5x5"], "even"),
        (["--frames", "0"], "at least 1"),
        (["--workers", "-1"], "at least 1"),
    ],
)
def test_the_film_command_tells_bad_arguments_before_it_starts(
    arguments: list[str], told: str
) -> None:
    """Exit code 2, and what was wrong."""
    run = command(*arguments)
    assert run.returncode == 2
    assert told in run.stderr


def test_the_film_command_ends_with_a_summary(tmp_path: Path) -> None:
    """Frames, seconds, bytes and waits."""
    run = command("--frames", "4", "--size", "64x36", str(tmp_path / "film.mp4"))
    assert run.returncode == 0, run.stderr
    for part in ("4 frames in", "without a copy", "waited", "film.mp4"):
        assert part in run.stdout


def test_ctrl_c_leaves_a_playable_film_of_what_was_done(tmp_path: Path) -> None:
    """SIGINT to the whole group, as a terminal sends it: exit code 130, no traceback."""
    path = tmp_path / "film.mp4"
    line = [sys.executable, "-m", "workers.film", "--frames", "400", "--size", "64x36", str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        line, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert "rendered 50 of 400" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, err) == (130, "")
    assert out.endswith("stopped\n")
    assert len(decode(path)) >= 50


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the film command."""
    line = [sys.executable, "-m", "workers.film", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)
