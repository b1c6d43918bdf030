"""Jobs of which one kills its worker, once."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from benchmarks import task

DEADLY = 3


def die_once(place: str, job: int) -> task.Bytes:
    """Kill this process, if it is the first to have the deadly job."""
    if job == DEADLY:
        with suppress(FileExistsError), Path(place).open("x") as file:
            file.write(str(time.monotonic_ns()))
            file.close()
            os.kill(os.getpid(), signal.SIGKILL)
    return task.make(job)


def die_once_in_place(place: str, job: int, frame: task.Bytes) -> None:
    """The same, for those who get a frame."""
    die_once(place, job)
    task.mark(job, frame)
