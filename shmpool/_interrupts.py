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
    """Let SIGINT wait for the end of the block, and then do what it would have done.

    Python runs handlers in the main thread only, so elsewhere there is nothing to hold back.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    caught: list[Any] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    _core.hold_touches(True)  # noqa: FBT003 - as C takes it
    try:
        yield
    finally:
        _core.hold_touches(False)  # noqa: FBT003
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[-1])
