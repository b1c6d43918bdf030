"""From nothing to a slot in hand, each time in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.measure import Series, compare, interleave
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

SLOTS, SIZE = 8, 6 << 20

_BEGIN = """
import sys, time
times, began = [], time.perf_counter_ns()
def lap():
    global began
    times.append(time.perf_counter_ns() - began)
    began = time.perf_counter_ns()
"""
_END = "\nprint(times)\n"


class _Steps(NamedTuple):
    """A program, and what each of its laps is."""

    program: str
    laps: tuple[str, ...]
    argument: str = ""


_NUMPY = _Steps("import numpy; lap()", ("import numpy",))
_OURS = _Steps(
    f"""
import shmpool; lap()
pool = shmpool.Pool.create({SLOTS}, {SIZE}); lap()
lease = pool.acquire(); lap()
lease.array((8,), "u1")[:] = 1; lap()
lease.release()
pool.close()
""",
    ("import shmpool", "Pool.create", "the first lease", "its first array, a page written"),
)
_ATTACH = _Steps(
    """
import shmpool; began = time.perf_counter_ns()
pool = shmpool.Pool.attach(sys.argv[1]); lap()
pool.close()
""",
    ("Pool.attach",),
)
_SHARED = _Steps(
    f"""
from multiprocessing.shared_memory import SharedMemory; began = time.perf_counter_ns()
memory = SharedMemory(create=True, size={SLOTS * SIZE}); lap()
memory.buf[0] = 1; lap()
memory.close()
memory.unlink()
""",
    ("SharedMemory(create=True)", "its first page written"),
)


def run(*, quick: bool) -> Outcome:
    """Each program in turn; the times are taken inside, without the interpreter's own start."""
    with Pool.create(SLOTS, SIZE) as pool:
        attach = _ATTACH._replace(argument=pool.name)
        programs = (_NUMPY, _OURS, attach, _SHARED)
        found = interleave(2 if quick else 25, *(partial(_time, steps) for steps in programs))
    numpy, ours, attached, shared = map(_laps, found)
    over = ours[0].less(numpy[0].percentile(50))
    rows = [
        Row.of("floor: import numpy", numpy[0], "ms"),
        Row.of("import shmpool", ours[0], "ms", compare(ours[0], numpy[0])),
        Row.of("import shmpool, less numpy's", over, "ms", target=Target("median", 30)),
        Row.of(f"Pool.create, {SLOTS} slots of 6 MiB", ours[1], "ms"),
        Row.of("SharedMemory(create=True), as many bytes", shared[0], "ms", side="peer"),
        Row.of("Pool.attach", attached[0], "ms"),
        Row.of(_OURS.laps[2], ours[2], "ms"),
        Row.of(_OURS.laps[3], ours[3], "ms"),
        Row.of(f"SharedMemory: {_SHARED.laps[1]}", shared[1], "ms", side="peer"),
    ]
    notes = (
        "a pool makes sure that its memory is there; SharedMemory finds out when it is written",
        "Pool.create imports multiprocessing; what SharedMemory imports of it is not timed",
        "the interpreter is warm: its files are in the page cache, and compiled",
    )
    return Outcome.of("cold_start", rows, *notes)


def _time(steps: _Steps) -> list[float]:
    command = [sys.executable, "-c", _BEGIN + steps.program + _END, steps.argument]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_compiled())
    times: list[float] = json.loads(done.stdout)
    return times


def _compiled() -> dict[str, str]:
    """An environment in which the round that does not count leaves compiled modules behind."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _laps(series: Series) -> list[Series]:
    """One series for each lap, block by block."""
    return [Series.each(laps) for laps in np.array(series.blocks).T.tolist()]
