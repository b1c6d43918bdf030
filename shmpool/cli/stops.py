"""What ^C, SIGTERM and SIGHUP ask for: first to finish what is under way, then to stop at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from shmpool.cli.exits import HUNG_UP, INTERRUPTED, TERMINATED

_ANSWERED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stops:
    """Answers SIGINT, SIGTERM and SIGHUP for the length of a block.

    The first calls `drain`; one more raises KeyboardInterrupt, once, while `armed`.
    A SIGINT that was ignored, as in a script's background jobs, stays so; so does a SIGHUP, of
    nohup.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.code = 0  # to exit with, once asked
        self.armed = False
        self.drain: Callable[[], object] = lambda: None
        self._say = say
        self._asked = self._ignored = False
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> Self:
        self._before = {n: signal.getsignal(n) for n in _ANSWERED}
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]
        self._ignored = self._before[signal.SIGINT] is signal.SIG_IGN
        signal.signal(signal.SIGTERM, self._terminated)
        if not self._ignored:
            signal.signal(signal.SIGINT, self._interrupted)
        if self._before[signal.SIGHUP] is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._hung_up)
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

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self.code = self.code or HUNG_UP
        # What is gone is not written to: that would be an error in the midst of the work.
        for fd in self._terminals:
            if not os.isatty(fd):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, fd)
                os.close(null)
        if not self._asked:  # the kernel sends it, and then the shell sends it to its jobs
            self._terminated(number, frame)

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
