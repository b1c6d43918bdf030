"""The worker processes of a farm, each replaced when it dies."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess

from shmpool._envelope import Envelope
from shmpool._farm_worker import Function, work
from shmpool._process import start_thread
from shmpool.errors import FarmError
from shmpool.pool import Pool

# One thread in each numeric library: the farm is what fills the cores. And a malloc that keeps
# the arrays of the last frame for the next one, instead of faulting them in again (mallopt(3)).
_ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_ENVIRONMENT |= dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(1 << 28))


class Crew:
    """Worker processes, and the thread that waits for one to die."""

    def __init__(
        self, pool: Pool, function: Function, envelope: Envelope,
        count: int, retries: int, start_method: str,
    ) -> None:  # fmt: skip
        self.replaced = 0
        self._pool = pool
        self._context = get_context(start_method)
        self._arguments = (pool, function, envelope)
        self._started = 0
        # More deaths than this without a result between them are nobody's poison job.
        self._patience = count * (retries + 1) + 2
        self._deaths = 0
        self._failure: FarmError | None = None
        self._dismissed = threading.Event()
        self._workers: list[BaseProcess] = []
        self._thread: threading.Thread | None = None
        try:
            self._wake, self._woken = connection.Pipe(duplex=False)
            for _ in range(count):
                self._workers.append(self._hire())
            thread = threading.Thread(target=self._watch, name="shmpool-farm", daemon=True)
            start_thread(thread)
            self._thread = thread
        except BaseException:
            self.terminate()
            self.dismiss()
            pool.close()
            raise

    def _hire(self) -> BaseProcess:
        self._started += 1
        # daemon: a program that forgets to close its farm still ends.
        process = self._context.Process(  # type: ignore[attr-defined]
            target=work, args=self._arguments, name=f"render-{self._started}", daemon=True
        )
        with _worker_environment():
            process.start()
        hired: BaseProcess = process
        return hired

    def progress(self) -> None:
        """A job has come back: whoever dies, dies of something else."""
        self._deaths = 0

    def failure(self) -> FarmError:
        """Why there will be no more results."""
        return self._failure or FarmError("the farm was closed while jobs were under way")

    def _watch(self) -> None:
        while not self._dismissed.is_set():
            sentinels = [worker.sentinel for worker in self._workers]
            connection.wait([*sentinels, self._wake])
            for worker in [w for w in self._workers if not w.is_alive()]:
                if not self._dismissed.is_set():
                    self._replace(worker)

    def _replace(self, worker: BaseProcess) -> None:
        self._workers.remove(worker)
        worker.join()
        self._deaths += worker.exitcode != 0
        # What a job raises is sent home: exit code 1 is a worker that could not begin.
        if worker.exitcode == 1 or self._deaths > self._patience:
            self._give_up(worker)
            return
        self.replaced += 1
        self._workers.append(self._hire())

    def _give_up(self, worker: BaseProcess) -> None:
        message = (
            f"{worker.name} ended with exit code {worker.exitcode}, {self._deaths} in a row with "
            f"no result: no worker can work (can they import the function? see their stderr)"
        )
        self._failure = FarmError(message, exitcode=worker.exitcode)
        self._dismissed.set()
        self._pool.queue("done").close()

    def dismiss(self) -> None:
        """Wait for all workers to end; their queue is closed."""
        self._stop_watching()
        for worker in self._workers:
            worker.join()
        self._workers.clear()

    def terminate(self) -> None:
        """End all workers now."""
        self._stop_watching()
        for worker in self._workers:
            worker.terminate()

    def _stop_watching(self) -> None:
        self._dismissed.set()
        if self._thread is not None and self._thread.is_alive():
            self._woken.send_bytes(b"!")
            self._thread.join()


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Children begun here get _ENVIRONMENT, but for what the user has set otherwise.

    SIGINT is blocked for them: Ctrl-C reaches the whole group, and is the coordinator's to answer.
    """
    missing = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(missing)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name in missing:
            os.environ.pop(name, None)
