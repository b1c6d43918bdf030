"""A worker is killed in the middle of a job: when the job is done by another, or what happens then.

Each library is tried in a fresh program of its own, with an end to its patience: some never return.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import task
from benchmarks.crews import CREWS
from benchmarks.deadly import DEADLY, die_once, die_once_in_place
from benchmarks.measure import Series
from benchmarks.result import Outcome, Row, Words
from benchmarks.task import SIZE, Crew, Run
from shmpool import ArraySpec, Farm

WORKERS, JOBS = 2, 8
_PATIENCE, _LITTLE = 10, 4  # seconds until we say that it hangs


@contextmanager
def _farm(workers: int) -> Iterator[dict[str, Run]]:
    # One farm for each function: a farm has its function from the beginning.
    def run_(function: Callable[[int, task.Bytes], Any], count: int) -> Iterator[Any]:
        spec = ArraySpec((SIZE,), "u1")
        with Farm(function, spec, workers=workers) as farm:
            for result in farm.map(range(count)):
                yield result.array

    yield {"": run_}


FARM = Crew("Farm", "", "", _farm, in_place=True)
_ALL = {crew.name: crew for crew in (FARM, *CREWS)}


# Runs a function for JOBS jobs: what that raises, and when each result came.
Attempt: TypeAlias = Callable[[Callable[..., Any], list[int]], Exception | None]


class HangsError(Exception):
    """Nothing came for too long."""


def run(*, quick: bool) -> Outcome:
    """From the signal until the job's result is in hand, or until somebody is told."""
    kills, patience = (1, _LITTLE) if quick else (9, _PATIENCE)
    rows, words = [], []
    for crew in _ALL.values():
        if reason := crew.missing():
            words.append(Words(crew.name, reason))
            continue
        found = _tried(crew.name, kills, patience)
        words.append(Words(crew.name, found["what"]))
        if found["times"]:
            end = "the job is done" if found["recovers"] else "the program is told"
            side = {True: "ours", False: "peer"}[crew is FARM]
            rows.append(Row.of(f"{crew.name}: until {end}", Series.of(found["times"]), "ms",
                               side=side))  # type: ignore[arg-type]  # fmt: skip
    note = (
        f"job {DEADLY} of {JOBS} kills its worker, one of {WORKERS}, with SIGKILL, the first time; "
        f"after {patience} s without a result it hangs"
    )
    return Outcome.of("recovery", rows, note, words=words)


def _tried(name: str, kills: int, patience: int) -> Mapping[str, Any]:
    """What a program of its own finds, which is ended with all that it has started."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "found"
        command = [sys.executable, "-m", __name__, name, str(kills), str(patience), str(place)]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(
            command, stdout=quiet, stderr=quiet, start_new_session=True
        ) as process:
            try:
                process.wait(timeout=60 + 4 * patience)
            except subprocess.TimeoutExpired:
                process.kill()
            # Workers that nobody ends; the tracker of what lies in /dev/shm survives it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        if place.exists():
            found: Mapping[str, Any] = json.loads(place.read_text())
            return found
        return {"times": [], "recovers": False, "what": "its program did not say"}


def main(name: str, kills: int, patience: int, place: Path) -> None:
    """Write down what becomes of a library's jobs."""
    signal.signal(signal.SIGALRM, _hang)
    crew = _ALL[name]
    with crew.open(WORKERS) as ways:
        found = _findings(crew, partial(_attempt, next(iter(ways.values())), patience), kills)
        place.write_text(json.dumps(found))
        for child in active_children():
            os.kill(child.pid or 0, signal.SIGKILL)  # whom nobody would end, where a job is lost
        # A multiprocessing.Pool that lost one does not end either.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.alarm(5)


def _findings(crew: Crew, attempt: Attempt, kills: int) -> dict[str, Any]:
    times: list[int] = []
    error: Exception | None = None
    with tempfile.TemporaryDirectory() as folder:
        while error is None and len(times) < kills:
            place = f"{folder}/{len(times)}"
            deadly = partial(die_once_in_place if crew.in_place else die_once, place)
            error, took = _killed(attempt, deadly, Path(place))
            times.append(took)
    if isinstance(error, HangsError):
        times = []
    what = "another worker does the job" if error is None else _told(error)
    safe: Callable[..., Any] = task.mark if crew.in_place else task.make
    then = attempt(safe, [])
    end = "the next map works" if then is None else f"the next map: {_told(then)}"
    return {"times": times, "recovers": error is None, "what": f"{what}; {end}"}


def _told(error: Exception) -> str:
    if isinstance(error, task.WrongResultError):
        return "gives wrong results, those of the map before"
    return "hangs" if isinstance(error, HangsError) else f"raises {type(error).__name__}"


def _killed(
    attempt: Attempt, function: Callable[..., Any], place: Path
) -> tuple[Exception | None, int]:
    arrived: list[int] = []
    error = attempt(function, arrived)
    ended = time.monotonic_ns() if error is not None else arrived[DEADLY]
    return error, ended - int(place.read_text())


def _attempt(
    run_: Run, patience: int, function: Callable[..., Any], arrived: list[int]
) -> Exception | None:
    """What a whole map raises; when each result has come is added to `arrived`."""
    signal.alarm(patience)
    try:
        for job, frame in enumerate(run_(function, JOBS)):
            task.check(job, frame)
            arrived.append(time.monotonic_ns())
    except Exception as error:  # noqa: BLE001 - whatever the library raises is what we are after
        return error.with_traceback(None)  # which would keep a generator that is not done
    finally:
        signal.alarm(0)
    return None


def _hang(*_: object) -> None:
    raise HangsError


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
