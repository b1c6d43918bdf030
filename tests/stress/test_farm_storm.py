"""A farm while workers are killed, stopped and kept waiting, and memory is short: nothing is lost.

Scaled for every run; with SHMPOOL_PROVE=1 ten times as long.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from farm_jobs import Frame, stay, whole

import shmpool
from shmpool import ArraySpec, Farm

PROVE = os.environ.get("SHMPOOL_PROVE") == "1"
JOBS = 10_000 if PROVE else 1000
INTERRUPTS = 60 if PROVE else 10
EVERY = 50  # results between two blows: however fast or slow a machine is, as many of them
SPEC = ArraySpec((256, 256), np.uint8)
SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is

pytestmark = pytest.mark.timeout(600)


def picture(job: int) -> Frame:
    """What is to be seen in the end."""
    line = np.arange(256, dtype=np.uint32)
    return ((line[:, None] * job + line * line * 7 + job) >> 2).astype(np.uint8)


def draw(job: int, frame: Frame) -> int:
    """Line by line, so that a death leaves half of it; some 1 ms."""
    whole_picture = picture(job)
    for line in range(256):
        frame[line] = whole_picture[line]
        for _ in range(2):
            frame[line] ^= 255
    return job


def draw_or_hang(job: tuple[int, Path], frame: Frame) -> int:
    """Hang the first time that a marked job is seen."""
    number, folder = job
    if number % 250 == 249:
        with suppress(FileExistsError):
            (folder / str(number)).touch(exist_ok=False)
            stay()
    return draw(number, frame)


def check_all(
    farm: Farm,
    results: Iterator[shmpool.Result],
    numbers: list[int],
    blow: Callable[[], None] | None = None,
) -> None:
    """Every job once, in order, with every pixel; every now and then somebody strikes."""
    seen = []
    for result in results:
        seen.append(result.value)
        assert (result.array == picture(result.value)).all(), f"job {result.value}"
        result.release()
        if blow is not None and len(seen) % EVERY == 0:
            blow()
    assert seen == numbers
    whole(farm)


def strike(pids: list[int], number: signal.Signals) -> None:
    if pids:
        with suppress(ProcessLookupError):
            os.kill(random.choice(pids), number)


def test_jobs_survive_a_worker_killed_every_moment() -> None:
    """Each is in the output once, pixels as without kills; a job may meet any number of them."""
    with Farm(draw, SPEC, workers=2, retries=1000) as farm:
        crew = farm._started()[1]
        check_all(
            farm, farm.map(range(JOBS)), list(range(JOBS)),
            lambda: strike(crew.pids(), signal.SIGKILL),
        )  # fmt: skip
        assert farm.statistics().jobs == JOBS
        assert farm.statistics().replaced >= 1


@contextmanager
def tormented(blow: Callable[[], None]) -> Iterator[None]:
    """A thread strikes every now and then, whether there are results or not."""
    over = threading.Event()

    def torment() -> None:
        while not over.wait(0.3):
            blow()

    thread = threading.Thread(target=torment)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_jobs_survive_workers_that_stop_and_go_on() -> None:
    """Nobody dies of it, nothing is done twice."""
    with Farm(draw, SPEC, workers=2) as farm:
        pids = farm._started()[1].pids()
        stopped: list[int] = []

        def stop_or_continue() -> None:
            if stopped:
                os.kill(stopped.pop(), signal.SIGCONT)
            else:
                stopped.append(random.choice(pids))
                os.kill(stopped[0], signal.SIGSTOP)

        with tormented(stop_or_continue):
            check_all(farm, farm.map(range(JOBS)), list(range(JOBS)))
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        assert farm.statistics().replaced == farm.statistics().requeued == 0


def test_jobs_survive_time_outs(tmp_path: Path) -> None:
    """One in 250 hangs in its first worker; the second does it."""
    numbers = list(range(JOBS))
    with Farm(draw_or_hang, SPEC, workers=2, job_timeout=0.5) as farm:
        check_all(farm, farm.map((number, tmp_path) for number in numbers), numbers)
        assert farm.statistics().overdue >= JOBS // 250


@contextmanager
def no_shared_memory() -> Iterator[None]:
    """Fill /dev/shm to the last page, for a while."""
    path = SHM / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            for size in (1 << 24, 1 << 16, 1 << 12):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
            yield
        finally:
            path.unlink()


def work_with_full_memory() -> None:
    """To be run where /dev/shm may be filled."""
    with Farm(draw, SPEC, workers=2, retries=1000) as farm:
        crew = farm._started()[1]
        results = farm.map(range(JOBS // 4))
        with no_shared_memory():
            try:
                shmpool.Pool.create(slots=64, slot_size="1 MiB")
            except shmpool.OutOfSharedMemoryError:
                print("full")  # noqa: T201 - to the test
            for pid in crew.pids():  # the rest is done by new ones, or not at all
                strike([pid], signal.SIGKILL)
            check_all(
                farm, results, list(range(JOBS // 4)),
                lambda: strike(crew.pids(), signal.SIGKILL),
            )  # fmt: skip
        print(farm.statistics().replaced, "replaced")  # noqa: T201 - likewise


FILLED = """
from test_farm_storm import work_with_full_memory
if __name__ == "__main__":
    work_with_full_memory()
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a /dev/shm of its own")
def test_jobs_survive_a_full_dev_shm() -> None:
    """A farm has its memory from the start: with none left, workers are still replaced."""
    mount = 'mount -t tmpfs -o size=32m,mode=1777 tmpfs /dev/shm && exec "$@"'
    line = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", FILLED]
    run = subprocess.run(line, capture_output=True, text=True, check=False, env=environment())
    assert run.returncode == 0, run.stderr
    full, replaced, _ = run.stdout.split()
    assert full == "full"
    assert int(replaced) >= 1


def environment() -> dict[str, str]:
    """In which programs find what is importable here."""
    path = [*sys.path, str(Path(__file__).parent)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


PROGRAM = """
import itertools, sys
from farm_jobs import *
from test_farm_storm import SPEC, draw
def main():
    kept = []
    with Farm(draw, SPEC, workers=2) as farm:
        print("begun", flush=True)
        futures = [farm.submit(number) for number in range(4)]
        for result in farm.map(itertools.count()):
            if result.job % 50 == 0:
                print(result.job, flush=True)
            if result.job == 100:
                for future in futures:
                    future.result().release()
if __name__ == "__main__":
    print("here", flush=True)
    main()
"""


@pytest.mark.parametrize("seed", range(INTERRUPTS))
def test_ctrl_c_at_any_moment_leaves_nothing(seed: int) -> None:
    """To the whole group, as a terminal sends it: the program ends, no worker and no name is left.

    From its first lines, while it starts, to the middle of the work.
    """
    before = {entry.name for entry in SHM.iterdir()}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(), start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for _ in range(1 + seed % 3):
            process.stdout.readline()
        # Any moment will do; every other time one at which workers are being started.
        time.sleep(random.Random(seed).random() * (0.04 if seed % 2 else 0.3))
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == -signal.SIGINT, err
    assert "KeyboardInterrupt" in err
    assert err.count("Traceback") == 1, err
    while members(process.pid):  # the helper of multiprocessing ends a moment later
        pass
    assert {entry.name for entry in SHM.iterdir()} <= before, err


def members(session: int) -> list[str]:
    """Processes of a session, the zombies apart."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(stat.parent.name)
    return found
