"""One call of map: its jobs on their way out in order, as slots come free, and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

from shmpool._dispatch import Arrived, Dispatcher, Run, Sent


class Drain:
    """Whether to begin no more jobs. No Event: each job looks at it, signal handlers set it."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


# Where the next job is there at once. Others may block: who sleeps is told of each job before.
_AT_HAND = (list, tuple, range, deque, dict, set, frozenset)
_SMALL = 4096  # bytes: jobs that take no time to be pickled, as far as can be told
_BRIEFLY = 0.0005  # seconds that workers may sleep on while there is something to do


class Source:
    """Sends jobs in order until there are no more or it is to drain.

    At most `depth` at a time, and so many that it has `most` slots, those of results included.
    While more than `plenty` are under way, results come first.
    """

    def __init__(
        self, dispatcher: Dispatcher, run: Run, jobs: Iterable[Any],
        *, depth: int, most: int, plenty: int, drain: Drain,
    ) -> None:  # fmt: skip
        self._dispatcher, self._run = dispatcher, run
        self._depth, self._most, self._plenty, self._drain = depth, most, plenty, drain
        self._at_hand = type(jobs) in _AT_HAND and not dispatcher.asks_for_frames
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
            while run.arrived and len(run.under_way) > self._plenty:
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

    def _send_what_fits(self) -> bool:
        """Whether anything is under way then."""
        run, under_way = self._run, self._run.under_way
        # Results first, and then many jobs: each that is sent by itself wakes a worker by itself.
        if len(under_way) > self._plenty and self._dispatcher.anything_for(run):
            return True
        # One is the caller's.
        most = max(min(self._depth, self._most - len(self._arrived) - 1), 1)
        unheard, since = 0, monotonic()  # jobs that sleeping workers are not told of yet
        while self._next is not None and len(under_way) < most:
            soon = self._at_hand and len(self._next.data) <= _SMALL
            if not self._send_next(self._next):
                break
            unheard += 1
            if not soon or monotonic() - since > _BRIEFLY:
                self._dispatcher.wake(unheard)
                unheard, since = 0, monotonic()
            self._next = self._read()
        if unheard:
            self._dispatcher.wake(unheard)
        return bool(under_way)

    def _send_next(self, job: Sent) -> bool:
        if self._drain.begun:
            self._next = None
            return False
        if self._run.under_way:
            return self._dispatcher.try_send(self._run, job)
        self._dispatcher.send(self._run, job)
        return True

    def forget(self) -> None:
        """Free what has arrived and nobody will look at."""
        for lease, _, _ in self._arrived.values():
            lease.release()
        self._arrived.clear()
