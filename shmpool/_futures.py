"""Jobs that are submitted one by one: a thread takes their results, and sets their futures."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from shmpool._dispatch import Arrived, Dispatcher, Sent
from shmpool._process import start_thread
from shmpool.errors import FarmError

Open = Callable[[Arrived], Any]

_SOON = 0.1  # seconds between two looks for a slot that somebody else has given back


class FutureDesk:
    """Takes jobs from any thread, and sends them if there are slots; its own does the rest."""

    def __init__(self, dispatcher: Dispatcher, open_result: Open, depth: int) -> None:
        self._dispatcher, self._open, self._depth = dispatcher, open_result, depth
        self._run = dispatcher.begin(thread=None)
        self._waiting: deque[tuple[Sent, Future[Any]]] = deque()
        self._futures: dict[int, Future[Any]] = {}
        self._numbers = itertools.count()
        self._closing = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="shmpool-futures", daemon=True)
        start_thread(self._thread)

    def submit(self, job: Any) -> Future[Any]:
        """A future of what `open_result` makes of it. Raises what pickle says."""
        future: Future[Any] = Future()
        packed = self._dispatcher.pack(next(self._numbers), job)
        with self._news:
            if self._closing:
                raise FarmError("cannot submit: the farm is closed")
            # Not left to the thread: it may be waiting for a job that takes an hour.
            if self._waiting or not self._sent(packed, future):
                self._waiting.append((packed, future))
            self._news.notify()
        return future

    def close(self, *, cancel: bool) -> None:
        """Do what was submitted, or cancel what nobody has begun; then stop. Idempotent."""
        with self._news:
            self._closing = True
            while cancel and self._waiting:
                _cancel(self._waiting.popleft()[1])
            self._news.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            while self._wait_for_work():
                self._send_what_fits()
                self._receive()
        except BaseException as error:  # noqa: BLE001 - whoever waits for a future has to know
            self._fail_all(error)
        finally:
            self._dispatcher.end(self._run)

    def _wait_for_work(self) -> bool:
        with self._news:
            while not self._waiting and not self._run.under_way:
                if self._closing:
                    return False
                self._news.wait()
        return True

    def _send_what_fits(self) -> None:
        # Results first, as in Source.
        if 2 * len(self._run.under_way) > self._depth and self._dispatcher.anything_for(self._run):
            return
        with self._news:
            while self._waiting and self._sent(*self._waiting[0]):
                self._waiting.popleft()
            # Will nothing come back? Then wait for whoever has the slots.
            stuck = bool(self._waiting) and not self._run.under_way
            first = self._waiting.popleft() if stuck else None
        if first is not None:
            self._send(*first)

    def _sent(self, packed: Sent, future: Future[Any]) -> bool:
        """Whether nothing is left to do for it: it is sent, cancelled, or cannot be sent."""
        if future.cancelled():
            _cancel(future)
            return True
        if len(self._run.under_way) >= self._depth:
            return False
        try:
            if not self._dispatcher.try_send(self._run, packed):
                return False
            self._dispatcher.wake(1)
        except Exception as error:  # noqa: BLE001 - of this job alone
            _fail(future, error)
            return True
        if future.set_running_or_notify_cancel():
            self._futures[packed.index] = future
        return True

    def _send(self, packed: Sent, future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        self._futures[packed.index] = future
        try:
            self._dispatcher.send(self._run, packed)
            self._dispatcher.wake(1)
        except Exception as error:  # noqa: BLE001 - likewise
            self._futures.pop(packed.index).set_exception(error)

    def _receive(self) -> None:
        if not self._run.under_way:
            return
        arrived = self._dispatcher.receive_within(self._run, _SOON)
        if arrived is None:
            return
        with self._news:  # whoever sends it has said by then whose it is
            future = self._futures.pop(arrived[1].number, None)
        try:
            result = self._open(arrived)
        except BaseException as error:  # noqa: BLE001 - what the job raised
            if future is not None:
                future.set_exception(error)
            return
        if future is not None:  # else cancelled just before it was sent
            future.set_result(result)

    def _fail_all(self, error: BaseException) -> None:
        with self._news:
            self._closing = True
            left = [future for _, future in self._waiting] + list(self._futures.values())
            self._waiting.clear()
        for future in left:
            _fail(future, error)


def _fail(future: Future[Any], error: BaseException) -> None:
    with suppress(Exception):  # it may have been cancelled
        future.set_exception(error)


def _cancel(future: Future[Any]) -> None:
    """And tell `concurrent.futures.wait`, to which one that is merely cancelled is not done."""
    if future.cancel():
        future.set_running_or_notify_cancel()
