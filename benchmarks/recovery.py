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
from typing import Any

from benchmarks import task
from benchmarks.crews import CREWS
from benchmarks.deadly import DEADLY, die_once, die_once_in_place
from benchmarks.measure import Series
from benchmarks.result import Outcome, Row, Words
from benchmarks.task import SIZE, Crew, Run
from shmpool import ArraySpec, Farm

WORKERS, JOBS = 2, 8
_PATIENCE = 10  # seconds until we say that it hangs


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


class HangsError(Exception):
    """Nothing came for too long."""


def run(*, quick: bool) -> Outcome:
    """From the signal until the job's result is in hand, or until somebody is told."""
    kills = 1 if quick else 9
    rows, words = [], []
    for crew in _ALL.values():
        if reason := crew.missing():
            words.append(Words(crew.name, reason))
            continue
        found = _tried(crew.name, kills)
        words.append(Words(crew.name, found["what"]))
        if found["times"]:
            end = "the job is done" if found["recovers"] else "somebody is told"
            side = {True: "ours", False: "peer"}[crew is FARM]
            rows.append(Row.of(f"{crew.name}: until {end}", Series.of(found["times"]), "ms",
                               side=side))  # type: ignore[arg-type]  # fmt: skip
    note = (
        f"job {DEADLY} of {JOBS} kills its worker, one of {WORKERS}, with SIGKILL, the first time; "
        f"after {_PATIENCE} s without a result it hangs"
    )
    return Outcome.of("recovery", rows, note, words=words)


def _tried(name: str, kills: int) -> Mapping[str, Any]:
    """What a program of its own finds, which is ended with all that it has started."""
    command = [sys.executable, "-m", __name__, name, str(kills)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            text, _ = process.communicate(timeout=60 + 4 * _PATIENCE)
            found: Mapping[str, Any] = json.loads(text.splitlines()[-1])
        except (subprocess.TimeoutExpired, IndexError, ValueError):
            found = {"times": [], "recovers": False, "what": "its program did not end"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # the tracker of resources survives that
    return found


def main(name: str, kills: int) -> None:
    """Print what becomes of a library's jobs."""
    signal.signal(signal.SIGALRM, _hang)
    crew = _ALL[name]
    with crew.open(WORKERS) as ways:
        print(json.dumps(_findings(crew, next(iter(ways.values())), kills)), flush=True)
        for child in active_children():
            child.kill()  # whom nobody would end, where a job is lost
        # A multiprocessing.Pool that lost one does not end either.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.alarm(5)


def _findings(crew: Crew, run_: Run, kills: int) -> dict[str, Any]:
    times: list[int] = []
    error: BaseException | None = None
    with tempfile.TemporaryDirectory() as folder:
        while error is None and len(times) < kills:
            place = f"{folder}/{len(times)}"
            deadly = partial(die_once_in_place if crew.in_place else die_once, place)
            error, took = _killed(run_, deadly, Path(place))
            times.append(took)
    if isinstance(error, HangsError):
        times = []
    what = "another worker does the job" if error is None else _told(error)
    safe: Callable[..., Any] = task.mark if crew.in_place else task.make
    then = _attempt(run_, safe)
    end = "the next map works" if then is None else f"the next map: {_told(then)}"
    return {"times": times, "recovers": error is None, "what": f"{what}; {end}"}


def _told(error: BaseException) -> str:
    return "hangs" if isinstance(error, HangsError) else f"raises {type(error).__name__}"


def _killed(
    run_: Run, function: Callable[..., Any], place: Path
) -> tuple[BaseException | None, int]:
    arrived: list[int] = []
    error = _attempt(run_, function, arrived)
    ended = time.monotonic_ns() if error is not None else arrived[DEADLY]
    return error, ended - int(place.read_text())


def _attempt(
    run_: Run, function: Callable[..., Any], arrived: list[int] | None = None
) -> BaseException | None:
    """What a whole map raises; when each result has come is added to `arrived`."""
    signal.alarm(_PATIENCE)
    try:
        for job, frame in enumerate(run_(function, JOBS)):
            task.check(job, frame)
            if arrived is not None:
                arrived.append(time.monotonic_ns())
    except Exception as error:  # noqa: BLE001 - whatever the library raises is what we are after
        return error
    finally:
        signal.alarm(0)
    return None


def _hang(*_: object) -> None:
    raise HangsError


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
