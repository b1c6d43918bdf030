"""What workers print and log, brought to the coordinator: one datagram each, by a socket pair.

A datagram is whole or not there, whoever is killed; no lock is shared. The coordinator prints
lines with the worker's name and job before them, and hands records to its own loggers with
`worker` and `job` as attributes.
"""

from __future__ import annotations

import io
import logging
import pickle
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_MOST = 60_000  # bytes of a datagram
_BUFFER = 1 << 20

log = logging.getLogger("shmpool.farm")


class Outlet(io.TextIOBase):
    """A worker's end: its stdout, and the way of its log records."""

    def __init__(self, end: socket.socket, worker: str) -> None:
        self._end = end
        self._worker = worker
        self._line = ""
        self.job = ""

    def install(self, level: int) -> None:
        """Become sys.stdout, and the root logger's handler."""
        sys.stdout = self
        root = logging.getLogger()
        root.addHandler(_Sender(self))
        root.setLevel(level)

    def write(self, text: str, /) -> int:
        """Send whole lines on."""
        self._line += text
        *lines, self._line = self._line.split("\n")
        for line in lines:
            self.send("line", line[:_MOST])
        return len(text)

    def flush(self) -> None:
        """Send what there is of a line."""
        if self._line:
            self.send("line", self._line[:_MOST])
            self._line = ""

    def writable(self) -> bool:
        """It is."""
        return True

    def send(self, kind: str, what: Any) -> None:
        """Send something to the coordinator, unless that is gone."""
        try:
            data = pickle.dumps((kind, self._worker, self.job, what))
        except Exception as error:  # noqa: BLE001 - whatever a record's arguments raise
            data = pickle.dumps((kind, self._worker, self.job, repr(error)))
        with suppress(OSError):
            self._end.send(data[: _MOST * 3])


class _Sender(logging.Handler):
    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, its message made and its traceback written here."""
        fields = dict(record.__dict__, msg=record.getMessage(), args=None)
        if record.exc_info:
            fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
        fields["exc_info"] = None
        self._outlet.send("record", fields)


class Intake:
    """The coordinator's end: a thread that prints and logs what workers send."""

    def __init__(self, show: Callable[[str], object] = print) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._show = show
        self.failures: list[str] = []  # tracebacks of workers that could not begin
        self._thread = threading.Thread(target=self._run, name="shmpool-relay", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Take what is still on its way, and stop. Idempotent."""
        with suppress(OSError):
            self.theirs.send(b"")
        if self._thread.ident is not None:
            self._thread.join()
        self.theirs.close()
        self._ours.close()

    def _run(self) -> None:
        while data := self._ours.recv(_MOST * 4):
            try:
                self._take(*pickle.loads(data))  # noqa: S301 - from our own workers
            except Exception:  # whatever one sends: the others are heard
                log.exception("a worker sent what cannot be read")

    def _take(self, kind: str, worker: str, job: str, what: Any) -> None:
        if kind == "line":
            self._show(f"[{worker}{f' {job}' if job else ''}] {what}")
        elif kind == "failure":
            self.failures.append(what)
        elif isinstance(what, dict):
            record = logging.makeLogRecord(what | {"worker": worker, "job": job})
            logging.getLogger(record.name).handle(record)
