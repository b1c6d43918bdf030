"""Waiting for a slot, a ticket or room: try, then sleep in slices on the doorbell."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

from shmpool._attachment import Attachment
from shmpool.errors import ArgumentError

T = TypeVar("T")
Things = tuple[tuple[int, int], ...]

SLICE = 0.1  # seconds: what a wake-up lost to a kill costs at most
PATIENCE = 5.0  # seconds: a wait that is longer is told of


def check_timeout(timeout: float | None) -> None:
    """Raise ArgumentError for a time-out that is no time, as `queue.Queue` does."""
    if timeout is not None and not timeout >= 0:
        raise ArgumentError(f"timeout is {timeout!r}: give seconds >= 0, or None to wait for ever")


def wait_for(
    mapping: Attachment,
    things: Things,
    attempt: Callable[[], T | None],
    timeout: float | None,
    impatient: Callable[[float], object] | None = None,
) -> T | None:
    """Call `attempt` until it returns something: that, or None when the time is up.

    `things` are what is waited for: each (_core.FOR_SLOT, class), (FOR_TICKET, queue) or
    (FOR_SPACE, queue). `impatient` is called once, with the seconds so far, if it takes longer
    than PATIENCE. Raises PoolClosedError and CoordinatorDiedError, also in the
    middle of a wait, and whatever `attempt` or `impatient` raises. Ctrl-C ends it at once.
    """
    check_timeout(timeout)
    mapping.check()
    found = attempt()
    if found is not None or timeout == 0:
        return found
    began = time.monotonic_ns()
    deadline = None if timeout is None or timeout == math.inf else began + int(timeout * 1e9)
    try:
        return _sleep_for(mapping, things, attempt, deadline, _Patience(began, impatient))
    finally:
        mapping.count_wait(time.monotonic_ns() - began)


class _Patience:
    """Tells once of a wait that has become long."""

    def __init__(self, began: int, tell: Callable[[float], object] | None) -> None:
        self._began = began
        self._tell = tell

    def look(self) -> None:
        """Tell, if it is time to."""
        waited = (time.monotonic_ns() - self._began) / 1e9
        if self._tell is not None and waited >= PATIENCE:
            tell, self._tell = self._tell, None
            tell(waited)


def _sleep_for(
    mapping: Attachment,
    things: Things,
    attempt: Callable[[], T | None],
    deadline: int | None,
    patience: _Patience,
) -> T | None:
    bell, rested = mapping.doorbell, False
    try:
        bell.begin(things)
        while True:
            # The bit first, then the look: whoever makes one available does the opposite.
            for thing in things:
                mapping.wait_begin(*thing)
            found = attempt()
            if found is not None:
                return found
            if rested:
                mapping.check()
                patience.look()
            seconds = SLICE if deadline is None else (deadline - time.monotonic_ns()) / 1e9
            if seconds <= 0:
                return None
            bell.sleep(min(seconds, SLICE))
            rested = True
    finally:
        bell.end(things, mapping)
