"""How far it is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from shmpool import Farm, ShmpoolError
from shmpool._lines import put_line

if TYPE_CHECKING:
    from rich.console import Group

_REFRESH = 4  # times a second
_ROWS = 12  # of workers: a bar on 24 lines leaves some for what workers print
_ACROSS = 3
_LINES = 8  # in all, where there is no terminal

Number = Callable[[int], int]  # of a job, by its index in the farm


class Display(Protocol):
    """Shows what is done."""

    def showing(self, farm: Farm, number: Number) -> Any:
        """A context manager: show it for the length of a block."""

    def advance(self, *, failed: bool) -> None:
        """A job came back."""

    def say(self, text: str) -> None:
        """Something else happened. May be called from a signal handler."""


def choose(title: str, total: int, skipped: int) -> Display:
    """The bar if stdout is a terminal and rich is installed."""
    if sys.stdout.isatty() and find_spec("rich") is not None:
        return Bar(title, total, skipped)
    return Lines(total, skipped)


class Lines:
    """Plain lines, at every eighth of what is to be done."""

    def __init__(self, total: int, skipped: int) -> None:
        self._total, self._skipped, self._done = total, skipped, 0

    @contextmanager
    def showing(self, _farm: Farm, _number: Number) -> Iterator[None]:
        """Say what was done before."""
        if self._skipped:
            put_line(f"{self._skipped} of {self._total} frames were done before")
        yield

    def advance(self, *, failed: bool) -> None:
        """A failure does not count as rendered; it is told at the end."""
        self._done += not failed
        there, todo = self._done, self._total - self._skipped
        if not failed and (there * _LINES % todo < _LINES or there == todo):
            put_line(f"rendered {there + self._skipped} of {self._total} frames")

    def say(self, text: str) -> None:
        """By a system call: a handler may have come in the middle of a print."""
        os.write(2, f"{text}\n".encode())


class Bar:
    """A bar, the workers, and what is in the pool. Lines that are printed go above it."""

    def __init__(self, title: str, total: int, skipped: int) -> None:
        self._title, self._total, self._skipped = title, total, skipped
        self._done = self._failed = 0
        self._note = ""
        self._began = time.monotonic()
        self._farm: Farm | None = None
        self._number: Number = lambda index: index

    @contextmanager
    def showing(self, farm: Farm, number: Number) -> Iterator[None]:
        """Draw, at most four times a second, by a thread of rich's."""
        from rich.live import Live

        self._farm, self._number, self._began = farm, number, time.monotonic()
        with Live(get_renderable=self._draw, refresh_per_second=_REFRESH):
            yield

    def advance(self, *, failed: bool) -> None:
        """Seen at the next refresh."""
        self._failed += failed
        self._done += not failed

    def say(self, text: str) -> None:
        """Likewise."""
        self._note = text

    def _draw(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [Text(self._title, style="bold", overflow="ellipsis", no_wrap=True)]
        parts.append(self._progress())
        with suppress(ShmpoolError):  # it is being closed
            parts += [self._workers(), Text(self._pool(), style="dim")]
        if self._note:
            parts.append(Text(self._note, style="yellow"))
        return Group(*parts)

    def _progress(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        there, taken = self._done + self._skipped, time.monotonic() - self._began
        rate = self._done / taken if taken else 0.0
        left = self._total - there - self._failed
        eta = _clock(left / rate) if rate else "--:--"
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(ratio=1)
        for _ in range(3):
            row.add_column(justify="right", no_wrap=True)
        bar = ProgressBar(total=self._total, completed=there + self._failed)
        row.add_row(bar, f"{there}/{self._total}", f"{rate:.1f} frames/s", f"ETA {eta}")
        return row

    def _workers(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        assert self._farm is not None  # noqa: S101 - it is shown
        grid = Table.grid(padding=(0, 3))
        workers = self._farm.activity()
        shown = workers[: _ROWS * _ACROSS]
        cells = [
            Text(f"{w.worker} waits", style="dim")
            if w.job is None
            else Text(f"{w.worker} job {self._number(w.job)}")
            for w in shown
        ]
        for first in range(0, len(cells), _ACROSS):
            grid.add_row(*cells[first : first + _ACROSS])
        if len(workers) > len(shown):
            grid.add_row(f"and {len(workers) - len(shown)} more")
        return grid

    def _pool(self) -> str:
        assert self._farm is not None  # noqa: S101 - it is shown
        pool, seen = self._farm.pool.statistics(), self._farm.statistics()
        stale = sum(member.stale for member in pool.members)
        return (
            f"{pool.free} of {pool.slots} slots free, {self._failed} failed, {seen.requeued} "
            f"retries, {seen.replaced} workers replaced, {stale} stale rights"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Above the bar, if there is one."""
        put_line(f"{record.levelname.lower()}: {self.format(record)}")


@contextmanager
def warnings_shown() -> Iterator[None]:
    """What the farm and its workers log is printed."""
    handler, root = _Warnings(), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
