"""Jobs that are submitted one by one: a thread sends them, and sets their futures."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from shmpool._dispatch import Dispatcher, Packed, Sent
from shmpool._envelope import Head
from shmpool._lease import Lease
from shmpool._result import Result
from shmpool.errors import FarmError

Open = Callable[[Lease, Head, Sent], Result]


class FutureDesk:
    """Takes jobs from any thread; one thread of its own does the rest."""

    def __init__(self, dispatcher: Dispatcher, open_result: Open) -> None:
        self._dispatcher, self._open = dispatcher, open_result
        self._run = dispatcher.begin()
        self._waiting: deque[tuple[Packed, Future[Any]]] = deque()
        self._futures: dict[int, Future[Any]] = {}
        self._count = 0
        self._closing = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="shmpool-futures", daemon=True)
        self._thread.start()

    def submit(self, job: Any) -> Future[Any]:
        """A future of the job's Result. Raises what pickle says."""
        future: Future[Any] = Future()
        with self._news:
            if self._closing:
                raise FarmError("cannot submit: the farm is closed")
            packed = self._dispatcher.pack(self._count, job)
            self._count += 1
            self._waiting.append((packed, future))
            self._news.notify()
        return future

    def close(self, *, cancel: bool) -> None:
        """Do what was submitted, or cancel what nobody has begun; then stop. Idempotent."""
        with self._news:
            self._closing = True
            while cancel and self._waiting:
                self._waiting.pop()[1].cancel()
            self._news.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            while self._wait_for_work():
                self._send_what_fits()
                if self._run.under_way:
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
        while self._waiting:
            packed, future = self._waiting[0]
            if future.cancelled() or self._send(packed, future):
                self._waiting.popleft()
            else:
                return

    def _send(self, packed: Packed, future: Future[Any]) -> bool:
        try:
            if self._run.under_way:
                sent = self._dispatcher.try_send(self._run, packed)
            else:  # nothing will come back: wait for whoever has the slots
                self._dispatcher.send(self._run, packed)
                sent = True
        except Exception as error:  # noqa: BLE001 - of this job alone
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
            return True
        if sent and future.set_running_or_notify_cancel():
            self._futures[packed.index] = future
        return sent

    def _receive(self) -> None:
        lease, head, sent = self._dispatcher.receive(self._run)
        future = self._futures.pop(head.number, None)
        try:
            result = self._open(lease, head, sent)
        except BaseException as error:  # noqa: BLE001 - what the job raised
            if future is not None:
                future.set_exception(error)
            return
        if future is None:
            result.release()  # cancelled just before it was sent
        else:
            future.set_result(result)

    def _fail_all(self, error: BaseException) -> None:
        with self._news:
            self._closing = True
            left = [future for _, future in self._waiting] + list(self._futures.values())
            self._waiting.clear()
        for future in left:
            with suppress(Exception):  # it may have been cancelled
                future.set_exception(error)
