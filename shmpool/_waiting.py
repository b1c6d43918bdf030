"""Waiting for a slot, a ticket or room: try, then sleep in slices on the doorbell."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from shmpool._attachment import Attachment
from shmpool.errors import ArgumentError

T = TypeVar("T")
Things = tuple[tuple[int, int], ...]

SLICE = 0.1  # seconds: what a wake-up lost to a kill costs at most
PATIENCE = 5.0  # seconds: a wait that is longer is told of
_FOREVER = 2**62  # nanoseconds: 146 years


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
    limit = _FOREVER if timeout is None else int(min(timeout * 1e9, _FOREVER))
    around = _Around(mapping, began, impatient)
    return mapping.doorbell.wait(
        mapping, things, attempt, around.look, began + limit, int(SLICE * 1e9)
    )


class _Around:
    """What a sleeper looks at between two slices of its sleep."""

    def __init__(
        self, mapping: Attachment, began: int, tell: Callable[[float], object] | None
    ) -> None:
        self._mapping = mapping
        self._began = began
        self._tell = tell

    def look(self) -> None:
        """Does the pool still stand? And once, if the wait has become long, tell of it."""
        self._mapping.check()
        waited = (time.monotonic_ns() - self._began) / 1e9
        if self._tell is not None and waited >= PATIENCE:
            tell, self._tell = self._tell, None
            tell(waited)
