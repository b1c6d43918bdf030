"""What the tests of the farm have workers do, and gates that hold them there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from shmpool import ArraySpec, Farm

SPEC = ArraySpec((4, 5), np.uint8)
Frame = np.ndarray[Any, Any]


class Gate:
    """A named pipe: a worker that opens it waits there until it is let through."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._end: int | None = None

    def wait_for_worker(self) -> None:
        """Until somebody stands there."""
        self._end = os.open(self.path, os.O_WRONLY)

    def open(self) -> None:
        """Let through whoever stands there."""
        if self._end is None:
            self.wait_for_worker()
        self.close()

    def close(self) -> None:
        """Nobody waits there any more."""
        if self._end is not None:
            os.close(self._end)
        self._end = None


def fill(job: int, frame: Frame) -> int:
    """The job's number into the frame, and its square back."""
    frame[...] = job % 256
    return job * job


def obey(job: Any, frame: Frame) -> Any:
    """A path: stand at that gate. A function and its arguments: call it. A number: fill."""
    match job:
        case Path():
            with job.open("rb") as gate:
                gate.read()
        case (function, *arguments):
            return function(*arguments)
        case int():
            return fill(job, frame)
    return str(job)


def die_first(times: int, folder: Path) -> int:
    """Kill as many workers as told, then be done; how many there were."""
    died = len(list(folder.iterdir()))
    if died < times:
        (folder / str(died)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return died


def die(number: int = signal.SIGKILL) -> None:
    """By a signal."""
    os.kill(os.getpid(), number)


def stay() -> None:
    """Until killed."""
    while True:
        signal.pause()


def stay_first(times: int, folder: Path) -> int:
    """Take too long in as many workers as told, then be done."""
    seen = len(list(folder.iterdir()))
    if seen < times:
        (folder / str(seen)).touch()
        stay()
    return seen


def raise_error(text: str) -> None:
    """What a function may do."""
    raise LookupError(text)


def checksum(data: bytes) -> int:
    """Of a big job."""
    return sum(data[::4096])


def whole(farm: Farm) -> None:
    """Nothing is missing: every slot comes back, and every invariant of the pool holds."""
    dispatcher = farm._started()[2]
    while farm.pool.statistics().free < farm.pool.slots:
        dispatcher.collect()
    farm.pool.audit()
    assert dispatcher.under_way == 0


def run_script(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, with what is importable here; `body` runs as its main module."""
    line = [sys.executable, "-c", body, *arguments]
    path = os.pathsep.join(sys.path)
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
