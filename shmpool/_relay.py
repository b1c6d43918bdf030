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

from shmpool._lines import put_line
from shmpool._process import start_thread

_MOST = 180_000  # bytes of a datagram, less than what a socket takes at once
_TEXT = 30_000  # characters of a line, of a log record's message, and of its traceback
_BUFFER = 1 << 20

log = logging.getLogger("shmpool.farm")


class Outlet(io.TextIOBase):
    """A worker's end: its stdout, and the way of its log records."""

    def __init__(self, end: socket.socket, worker: str) -> None:
        self._end = end
        self._worker = worker
        self._line = ""
        self.number: int | None = None  # of the job that is, or was last, done

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
            self.send("line", line)
        return len(text)

    def flush(self) -> None:
        """Send what there is of a line."""
        if self._line:
            self.send("line", self._line)
            self._line = ""

    def writable(self) -> bool:
        """It is."""
        return True

    def send(self, kind: str, what: Any) -> None:
        """Send something to the coordinator, unless that is gone. The start of a long text."""
        if isinstance(what, str):
            what = _cut(what)
        job = "" if self.number is None else f"job {self.number}"
        try:
            data = pickle.dumps((kind, self._worker, job, what))
        except Exception as error:  # noqa: BLE001 - whatever a record's fields raise
            data = pickle.dumps(("line", self._worker, job, f"cannot be sent: {error!r:.999}"))
        if len(data) > _MOST:
            story = f"cannot be sent: {len(data)} bytes of {kind}"
            data = pickle.dumps(("line", self._worker, job, story))
        with suppress(OSError):
            self._end.send(data)


def _cut(text: str) -> str:
    if len(text) <= _TEXT:
        return text
    return f"{text[:_TEXT]}... ({len(text)} characters)"


class _Sender(logging.Handler):
    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, its message made and its traceback written here."""
        fields = dict(record.__dict__, msg=_cut(record.getMessage()), args=None)
        if record.exc_info:
            fields["exc_text"] = _cut(logging.Formatter().formatException(record.exc_info))
        fields["exc_info"] = None
        self._outlet.send("record", fields)


class Intake:
    """The coordinator's end: a thread that prints and logs what workers send."""

    def __init__(self, show: Callable[[str], object] | None = None) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._show = show or put_line
        self.failures: list[str] = []  # tracebacks of workers that ended with one
        self.begun: set[str] = set()  # workers that were ready for jobs
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shmpool-relay", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        start_thread(self._thread)

    def settle(self) -> None:
        """Wait until all that the dead have sent is taken."""
        self._settled.clear()
        self.theirs.send(pickle.dumps(("settle", "", "", None)))
        self._settled.wait()

    def close(self) -> None:
        """Take what is still on its way, and stop. Idempotent."""
        with suppress(OSError):
            self.theirs.send(b"")
        if self._thread.ident is not None:
            self._thread.join()
        self.theirs.close()
        self._ours.close()

    def _run(self) -> None:
        while data := self._ours.recv(_MOST):
            try:
                self._take(*pickle.loads(data))  # noqa: S301 - from our own workers
            except Exception:  # whatever one sends: the others are heard
                log.exception("a worker sent what cannot be read")

    def _take(self, kind: str, worker: str, job: str, what: Any) -> None:
        if kind == "line":
            with suppress(OSError):  # of a stdout that is full: who owns it hears of it, too
                self._show(f"[{worker}{f' {job}' if job else ''}] {what}")
        elif kind == "failure":
            self.failures.append(what)
        elif kind == "begun":
            self.begun.add(worker)
        elif kind == "settle":
            self._settled.set()
        elif isinstance(what, dict):
            record = logging.makeLogRecord(what | {"worker": worker, "job": job})
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):  # handle() asks nobody
                logger.handle(record)
