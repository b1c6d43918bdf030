"""One call of map: its jobs on their way out in order, as slots come free, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from shmpool._dispatch import Arrived, Dispatcher, Run, Sent


class Drain:
    """Whether to begin no more jobs. No Event: each job looks at it, signal handlers set it."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


class Source:
    """Sends jobs in order until there are no more or it is to drain.

    At most `depth` at a time, and so many that it has `most` slots, those of results included.
    """

    def __init__(
        self, dispatcher: Dispatcher, run: Run, jobs: Iterable[Any],
        *, depth: int, most: int, drain: Drain,
    ) -> None:  # fmt: skip
        self._dispatcher, self._run = dispatcher, run
        self._depth, self._most, self._drain = depth, most, drain
        self._jobs = enumerate(jobs)
        self._arrived: dict[int, Arrived] = {}
        self._error: Exception | None = None
        self._next = self._read()

    def _read(self) -> Sent | None:
        try:
            numbered = None if self._drain.begun else next(self._jobs, None)
            if numbered is None:
                return None
            number, job = numbered
            return self._dispatcher.pack(number, job)
        except Exception as error:  # noqa: BLE001 - raised when all before it is done
            self._error = error
            return None

    def unordered(self) -> Iterator[Arrived]:
        """As they come."""
        run, receive = self._run, self._dispatcher.receive
        while self._send_what_fits():
            yield receive(run)
            while run.arrived and self._plenty():
                yield receive(run)
        if self._error is not None:
            raise self._error

    def ordered(self) -> Iterator[Arrived]:
        """In the order of the jobs."""
        wanted, waiting = 0, self._arrived
        for arrived in self.unordered():
            waiting[arrived[1].number] = arrived
            del arrived
            while wanted in waiting:
                yield waiting.pop(wanted)
                wanted += 1

    def _plenty(self) -> bool:
        """Whether there is so much to do that results come first.

        Each job sent by itself would wake a worker by itself.
        """
        return 2 * len(self._run.under_way) > self._depth

    def _send_what_fits(self) -> bool:
        """Whether anything is under way then."""
        run, dispatcher, under_way = self._run, self._dispatcher, self._run.under_way
        if self._plenty() and dispatcher.anything_for(run):
            return True
        # One is the caller's.
        most = max(min(self._depth, self._most - len(self._arrived) - 1), 1)
        while self._next is not None and len(under_way) < most:
            if self._drain.begun:
                self._next = None
                break
            if not under_way:
                dispatcher.send(run, self._next)
            elif not dispatcher.try_send(run, self._next):
                break
            self._next = self._read()
        return bool(under_way)

    def forget(self) -> None:
        """Free what has arrived and nobody will look at."""
        for lease, _, _ in self._arrived.values():
            lease.release()
        self._arrived.clear()
