"""Ctrl-C, and errors of touched fences, held back where they would leave half of something."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shmpool import _core


@contextmanager
def held_back() -> Iterator[None]:
    """Let SIGINT and our own errors wait for the end of the block.

    Python raises them in the main thread only, so elsewhere there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _core.hold_touches(True)  # noqa: FBT003 - as C takes it
    try:
        with _ctrl_c_held_back():
            yield
    finally:
        _core.hold_touches(False)  # noqa: FBT003


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Let SIGINT wait, and then do what it would have done."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        yield
        return
    caught: list[Any] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[-1])
