"""What it costs a pool to be looked at: leases beside a live `shmpool top`, and without."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Series, compare, interleave
from benchmarks.result import Outcome, Row
from shmpool import Pool

_SLOTS, _QUEUES = 4096, 31
_TURNS = 10_000
_HZ = 4


def run(*, quick: bool) -> Outcome:
    """Batches of leases, while a screen is drawn four times a second, and while it stands still."""
    rounds, seconds = (2, 0.3) if quick else (40, 1.0)
    queues = tuple(f"queue-{number}" for number in range(_QUEUES))
    with Pool.create(_SLOTS, 64, queues=queues, members=255, views="raise") as pool:
        held = [pool.acquire() for _ in range(_SLOTS // 2)]
        with _top(pool.name) as screen:
            busy: list[float] = []

            def alone() -> list[float]:
                os.kill(screen, signal.SIGSTOP)
                return _leases(pool, seconds)

            def looked_at() -> list[float]:
                os.kill(screen, signal.SIGCONT)
                began, spent = time.perf_counter_ns(), _cpu_ns(screen)
                samples = _leases(pool, seconds)
                elapsed = time.perf_counter_ns() - began
                busy.append(100 * (_cpu_ns(screen) - spent) / elapsed)
                return samples

            without, beside = interleave(rounds, alone, looked_at)
        for lease in held:
            lease.release()
    ratio = compare(beside, without)
    rows = (
        Row.of("pool.acquire().release(), nobody looks", without, "ns"),
        Row.of(f"the same beside shmpool top at {_HZ} Hz", beside, "ns", ratio),
        Row.of("shmpool top itself", Series.each(busy[1:]), "% of a CPU"),
    )
    note = f"{_SLOTS:,} slots, half of them leased, {_QUEUES} queues, a screen of 120 x 40"
    return Outcome.of("looked_at", rows, note)


def _leases(pool: Pool, seconds: float) -> list[float]:
    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter_ns()
        for _ in range(_TURNS):
            pool.acquire().release()
        samples.append((time.perf_counter_ns() - began) / _TURNS)
    return samples


def _cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


@contextmanager
def _top(name: str) -> Iterator[int]:
    """The pid of a live screen, after its first picture."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "shmpool", "top", name, f"--interval={1 / _HZ}"]
    settings = os.environ | {"TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, env=settings)
    os.close(theirs)
    shown = threading.Event()
    reader = threading.Thread(target=_read_all, args=(ours, shown))
    reader.start()
    try:
        shown.wait()
        yield process.pid
    finally:
        process.kill()
        process.wait()
        reader.join()
        os.close(ours)


def _read_all(terminal: int, shown: threading.Event) -> None:
    try:
        while os.read(terminal, 65536):
            shown.set()
    except OSError:  # nobody writes to it any more
        shown.set()
