"""The worker processes of a farm, each replaced when it dies, and killed when it takes too long."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, util
from multiprocessing.process import BaseProcess

from shmpool import _exits
from shmpool._envelope import Envelope
from shmpool._farm_worker import Stage, work
from shmpool._layout import State
from shmpool._process import start_thread
from shmpool._relay import Intake, log
from shmpool.errors import FarmError, PoolClosedError
from shmpool.pool import Pool

# One thread in each numeric library: the farm is what fills the cores. And a malloc that keeps
# the arrays of the last frame for the next one, instead of faulting them in again (mallopt(3)).
_ENVIRONMENT = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
_ENVIRONMENT |= dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(1 << 28))
_MOMENT = 5.0  # seconds within which the death of a process is seen by whoever waits for it
_PATIENCE = 2  # deaths more than the retries of all jobs, with no result between them


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended that held a job."""

    worker: str
    pid: int
    exitcode: int
    overdue: bool

    def __str__(self) -> str:
        return f"{self.worker} (pid {self.pid}) {self.how}"

    @property
    def how(self) -> str:
        """In words."""
        if self.overdue:
            return "was killed for taking too long"
        if self.exitcode < 0:
            return f"was killed by {_signal_name(-self.exitcode)}"
        return f"ended with exit code {self.exitcode}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(slots=True)
class _Hired:
    process: BaseProcess
    stage: int
    pidfd: int | None
    overdue: bool = False

    @property
    def end(self) -> int:
        """A descriptor that becomes readable at its death."""
        return self.process.sentinel if self.pidfd is None else self.pidfd

    def see_off(self) -> None:
        """Wait for it to end. Stopped (SIGSTOP), it would never hear that it may: it goes on."""
        if self.process.is_alive():
            os.kill(self.process.pid or 0, signal.SIGCONT)
        self.collect()

    def collect(self) -> None:
        """It has ended, or is about to."""
        self.process.join()
        pidfd, self.pidfd = self.pidfd, None
        if pidfd is not None:
            os.close(pidfd)


def _pidfd(process: BaseProcess, start_method: str) -> int | None:
    """Of a child. Its sentinel is a pipe that what a job has started, as by `&`, holds open.

    Where a server is its parent, that tells by the sentinel when it is collected, not before.
    """
    with suppress(OSError):  # dead and collected already, or there is no descriptor left
        if start_method != "forkserver":
            return os.pidfd_open(process.pid or 0)
    return None


class Crew:
    """Worker processes of all stages, and the thread that waits for one to die."""

    def __init__(
        self, pool: Pool, stages: Sequence[Stage], envelope: Envelope,
        retries: int, job_timeout: float | None, start_method: str,
    ) -> None:  # fmt: skip
        self.replaced = self.recycled = self.overdue = 0
        self.names: dict[int, str] = {}  # by pid, of the dead too
        self._deaths_of: dict[int, Death] = {}  # by pid
        self._news = threading.Condition()
        self._pool = pool
        self._view = pool._mapping.view()
        self._stages = stages
        self._sources = [pool.queue(stage.source)._number for stage in stages]
        self._envelope = envelope
        self._job_timeout = job_timeout
        self._context = get_context(start_method)
        self._started: Counter[str] = Counter()
        # More deaths than this without a result between them are no poison jobs.
        self._patience = pool.slots * (retries + 1) + _PATIENCE
        self._deaths = 0
        self._failure: FarmError | None = None
        self._dismissed, self._stopped = threading.Event(), threading.Event()
        self._collecting = threading.Lock()
        self._workers: list[_Hired] = []
        self._thread: threading.Thread | None = None
        self._wake, self._woken = connection.Pipe(duplex=False)
        self._intake = Intake()
        # Before the pool's own, after which workers would end, and others be hired.
        self._at_exit = util.Finalize(None, self.terminate, exitpriority=20)
        self._start()

    def _start(self) -> None:
        try:
            self._intake.start()
            for number, stage in enumerate(self._stages):
                for _ in range(stage.workers):
                    self._workers.append(self._hire(number))
            thread = threading.Thread(target=self._watch, name="shmpool-farm", daemon=True)
            start_thread(thread)
            self._thread = thread
        except BaseException:
            self.terminate()
            self.dismiss()
            raise

    def _hire(self, number: int) -> _Hired:
        stage = self._stages[number]
        self._started[stage.name] += 1
        name = f"{stage.name}-{self._started[stage.name]}"
        arguments = (
            self._pool,
            stage,
            self._envelope,
            self._intake.theirs,
            log.getEffectiveLevel(),
        )
        # daemon: a program that forgets to close its farm still ends.
        process = self._context.Process(  # type: ignore[attr-defined]
            target=work, args=arguments, name=name, daemon=True
        )
        with _worker_environment():
            process.start()
        self.names[process.pid] = name
        return _Hired(process, number, _pidfd(process, self._context.get_start_method()))

    def progress(self) -> None:
        """A job has come back: whoever dies, dies of something else."""
        self._deaths = 0

    def death_of(self, pid: int) -> Death | None:
        """How a worker died whose slot has come back; None if nobody saw. Blocks for that.

        The pool's reaper may be a moment faster than we.
        """
        with self._news:
            while pid in self.names and pid not in self._deaths_of:
                if self._dismissed.is_set() or not self._news.wait(_MOMENT):
                    return None
            return self._deaths_of.get(pid)

    def failure(self) -> FarmError:
        """Why there will be no more results."""
        return self._failure or FarmError("the farm was closed while jobs were under way")

    # Watching.

    def _watch(self) -> None:
        timeout = self._job_timeout
        pause = None if timeout is None else max(0.02, min(1.0, timeout / 8))
        while not self._stopped.is_set():
            self._wait_for_a_death(pause)
            if timeout is not None:
                self._kill_overdue(timeout)

    def _wait_for_a_death(self, pause: float | None) -> None:
        if self._dismissed.is_set():  # whoever waits for them to end collects them
            connection.wait([self._wake], pause)
            self._heard()
            return
        ends = [hired.end for hired in self._workers]
        connection.wait([*ends, self._wake], pause)
        self._heard()
        with self._collecting:
            if not self._dismissed.is_set():
                dead = [w for w in self._workers if not w.process.is_alive()]
                # All are counted before one is told: whoever waits for it may look at the numbers.
                for hired, death, hopeless in [self._collect(hired) for hired in dead]:
                    self._replace(hired, death, hopeless=hopeless)

    def _heard(self) -> None:
        while self._wake.poll():  # else the next wait would be none
            self._wake.recv_bytes()

    def _kill_overdue(self, timeout: float) -> None:
        by_pid = {hired.process.pid: hired for hired in self._workers}
        for slot, word in enumerate(self._view.unpacked()):
            if word.state is not State.LEASED or word.queue not in self._sources:
                continue
            held = (time.monotonic_ns() - int(self._view.slots["since_ns"][slot])) / 1e9
            hired = by_pid.get(self._view.pid(word.owner))
            # Still the same? It may have finished, and taken the next, since we looked.
            if held > timeout and hired and self._view.word(slot) == word and not hired.overdue:
                hired.overdue = True
                self.overdue += 1
                hired.process.kill()

    def _collect(self, hired: _Hired) -> tuple[_Hired, Death, bool]:
        """How it died, and whether there is no hope for the next."""
        worker = hired.process
        self._workers.remove(hired)
        hired.collect()
        death = Death(worker.name, worker.pid or 0, worker.exitcode or 0, hired.overdue)
        self._deaths += not self._is_recycled(death, hired.stage)
        # One that ends in good order before it begins, by a sys.exit() say, is no better.
        cannot_begin = death.exitcode in (0, 1) and not self._began(death)
        hopeless = self._deaths > self._patience or cannot_begin
        if not hopeless:
            self._count(death, hired.stage)
        return hired, death, hopeless

    def _replace(self, hired: _Hired, death: Death, *, hopeless: bool) -> None:
        with self._news:
            self._deaths_of[death.pid] = death
            self._news.notify_all()
        if hopeless:
            self._give_up(death)
            return
        try:
            self._workers.append(self._hire(hired.stage))
        except OSError as error:
            self._fail(FarmError(f"{death}, and another cannot be started: {error}"))

    def _count(self, death: Death, stage: int) -> None:
        if self._is_recycled(death, stage):
            self.recycled += 1
            return
        self.replaced += 1
        extra = {
            "pool": self._pool.name, "worker": death.worker, "pid": death.pid,
            "exitcode": death.exitcode, "overdue": death.overdue,
        }  # fmt: skip
        log.warning("%s", death, extra=extra)

    def _is_recycled(self, death: Death, stage: int) -> bool:
        return death.exitcode == 0 and self._stages[stage].recycle_after > 0

    def _began(self, death: Death) -> bool:
        if death.worker not in self._intake.begun:
            self._intake.settle()
        return death.worker in self._intake.begun

    def _give_up(self, death: Death) -> None:
        self._intake.settle()
        why = "".join(f"\n{text}" for text in self._intake.failures[-1:])
        message = (
            f"{death.worker} ended with exit code {death.exitcode}, {self._deaths} in a row with "
            f"no result: no worker can work (can they import the function? see their stderr){why}"
        )
        self._fail(FarmError(message, exitcode=death.exitcode))

    def _fail(self, failure: FarmError) -> None:
        self._failure = failure
        self._dismissed.set()
        self._pool.queue("done").close()

    # Ending.

    def dismiss(self) -> None:
        """Wait for all workers to end; their queues are closed."""
        self._hire_no_more()
        for hired in self._workers:
            hired.see_off()
        self._workers.clear()
        self._at_exit.cancel()
        self._stopped.set()
        if self._thread is not None and self._thread.is_alive():
            self._woken.send_bytes(b"!")
            self._thread.join()
        self._intake.close()

    def dismiss_stage(self, number: int) -> None:
        """Wait for the workers of one stage to end, so that nothing more comes out of it."""
        self._hire_no_more()
        for hired in self._workers:
            if hired.stage == number:
                hired.see_off()

    def terminate(self) -> None:
        """Kill all workers now, the stopped ones and those that handle SIGTERM too."""
        self._hire_no_more()
        for hired in self._workers:
            hired.process.kill()
        with suppress(PoolClosedError):
            self._pool.queue("done").close()

    def _hire_no_more(self) -> None:
        with self._collecting:
            self._dismissed.set()
        if self._thread is not None and self._thread.is_alive():
            self._woken.send_bytes(b"!")  # those that take too long are still killed

    def holding(self) -> dict[int, int]:
        """What each worker does: the slot in its hands, by pid."""
        return {
            self._view.pid(word.owner): slot
            for slot, word in enumerate(self._view.unpacked())
            if word.state is State.LEASED and word.queue in self._sources
        }

    def pids(self) -> list[int]:
        """Of the workers there are."""
        return [hired.process.pid for hired in self._workers if hired.process.pid]


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Children begun here get _ENVIRONMENT, but for what the user has set otherwise.

    SIGINT is blocked for them: Ctrl-C reaches the whole group, and is the coordinator's to answer.
    """
    missing = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        with _exits.blocked(signal.SIGINT):
            yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
