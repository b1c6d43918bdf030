"""What ^C and SIGTERM ask for: first to finish what is under way, then to stop at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from shmpool.cli.exits import INTERRUPTED, TERMINATED


class Stops:
    """Answers SIGINT and SIGTERM for the length of a block.

    The first calls `drain`; one more raises KeyboardInterrupt, once, while `armed`.
    A SIGINT that was ignored, as in a script's background jobs, stays so.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.code = 0  # to exit with, once asked
        self.armed = False
        self.drain: Callable[[], object] = lambda: None
        self._say = say
        self._asked = self._ignored = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        self._ignored = self._before[signal.SIGINT] is signal.SIG_IGN
        signal.signal(signal.SIGTERM, self._terminated)
        if not self._ignored:
            signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _terminated(self, _number: int, _frame: FrameType | None) -> None:
        self.code = self.code or TERMINATED
        if self._ignored:
            self._ask()
        else:
            # By way of SIGINT, which is held back where half of something would be left.
            signal.raise_signal(signal.SIGINT)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        self._ask()

    def _ask(self) -> None:
        again, self.code = bool(self._asked), self.code or INTERRUPTED
        self._asked = True
        if not again:
            self.drain()
            self._say("stopping: what is under way is finished first; once more stops at once")
        elif self.armed:
            self.armed = False
            self._say("stopping at once")
            raise KeyboardInterrupt
