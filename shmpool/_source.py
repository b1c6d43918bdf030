"""One call of map: its jobs on their way out in order, as slots come free, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Event
from typing import Any

from shmpool._dispatch import Dispatcher, Packed, Run, Sent
from shmpool._envelope import Head
from shmpool._lease import Lease


class Source:
    """Sends jobs in order until there are no more or it is to drain.

    At most `depth` at a time, and so many that it has `most` slots, those of results included.
    """

    def __init__(
        self, dispatcher: Dispatcher, run: Run, jobs: Iterable[Any],
        *, depth: int, most: int, draining: Event,
    ) -> None:  # fmt: skip
        self._dispatcher, self._run = dispatcher, run
        self._depth, self._most, self._draining = depth, most, draining
        self._jobs = enumerate(jobs)
        self._arrived: dict[int, tuple[Lease, Head, Sent]] = {}
        self._error: Exception | None = None
        self._next = self._read()

    def _read(self) -> Packed | None:
        try:
            numbered = next(self._jobs, None) if not self._draining.is_set() else None
            return None if numbered is None else self._dispatcher.pack(*numbered)
        except Exception as error:  # noqa: BLE001 - raised when all before it is done
            self._error = error
            return None

    def unordered(self) -> Iterator[tuple[Lease, Head, Sent]]:
        """As they come."""
        while self._send_what_fits():
            yield self._dispatcher.receive(self._run)
        if self._error is not None:
            raise self._error

    def ordered(self) -> Iterator[tuple[Lease, Head, Sent]]:
        """In the order of the jobs."""
        wanted = 0
        for arrived in self.unordered():
            self._arrived[arrived[1].number] = arrived
            del arrived
            while wanted in self._arrived:
                yield self._arrived.pop(wanted)
                wanted += 1

    def _send_what_fits(self) -> bool:
        """Whether anything is under way then."""
        run, dispatcher = self._run, self._dispatcher
        # Results first, as long as there is plenty to do: each job sent by itself would wake a
        # worker by itself.
        if 2 * len(run.under_way) > self._depth and dispatcher.anything_for(run):
            return True
        most = min(self._depth, self._most - len(self._arrived) - 1)  # one is the caller's
        while self._next is not None and len(run.under_way) < max(most, 1):
            if self._draining.is_set():
                self._next = None
                break
            if not run.under_way:
                dispatcher.send(run, self._next)
            elif not dispatcher.try_send(run, self._next):
                break
            self._next = self._read()
        return bool(run.under_way)

    def forget(self) -> None:
        """Free what has arrived and nobody will look at."""
        for lease, _, _ in self._arrived.values():
            lease.release()
        self._arrived.clear()
