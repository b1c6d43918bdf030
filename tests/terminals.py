"""A terminal for a command: what it shows is read, keys are typed, its settings looked at."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


Process = subprocess.Popen[bytes]


class Terminal:
    """A pseudo-terminal of some size. Reading blocks until what is waited for is there."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.theirs)
        self.seen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._started: list[Process] = []

    def start(self, *command: str, stdin: Any = None, **environment: str) -> Process:
        """Start a command whose terminal this is."""
        settings = {"TERM": "xterm-256color", "PATH": os.environ["PATH"], "PYTHONUTF8": "1"}
        process = subprocess.Popen(
            command, stdin=self.theirs if stdin is None else stdin, stdout=self.theirs,
            stderr=self.theirs, start_new_session=True, cwd=ROOT, env=settings | environment,
            preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one thread
        )  # fmt: skip
        self._started.append(process)
        return process

    def top(self, *arguments: str, **options: Any) -> Process:
        """Start `shmpool top`, and wait for its first picture."""
        command = [sys.executable, "-m", "shmpool", "top", *arguments]
        process = self.start(*command, **options)
        self.wait_for("quit")
        return process

    def type(self, keys: str) -> None:
        """As if at its keyboard."""
        os.write(self.ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Whoever is in the foreground gets SIGWINCH."""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait_for(self, text: str, *, times: int = 1) -> str:
        """All that is shown from now on, until a text has come so often."""
        shown = ""
        while shown.count(text) < times:
            assert self._will_say_more(), plain(shown)
            shown += self._read()
        return shown

    def _will_say_more(self) -> bool:
        """Wait until there is something to read, or nobody is left to write."""
        with ExitStack() as stack:
            running = [process for process in self._started if process.returncode is None]
            pidfds = [os.pidfd_open(process.pid) for process in running]
            for pidfd in pidfds:
                stack.callback(os.close, pidfd)
            while pidfds:
                ready = select.select([self.ours, *pidfds], [], [])[0]
                if self.ours in ready:
                    return True
                pidfds = [pidfd for pidfd in pidfds if pidfd not in ready]
            return bool(select.select([self.ours], [], [], 0)[0])

    def end(self, process: Process) -> int:
        """The exit code of a command, and all that it has shown besides."""
        over = os.pidfd_open(process.pid)
        while over not in select.select([self.ours, over], [], [])[0]:
            self._read()  # it may have more to say than a terminal holds
        os.close(over)
        while select.select([self.ours], [], [], 0)[0]:
            self._read()
        return process.wait()

    def _read(self) -> str:
        more = self._decoder.decode(os.read(self.ours, 65536))
        self.seen += more
        return more

    def check_given_back(self) -> None:
        """Its settings are as before; the screen is the first one, and the cursor is seen."""
        assert termios.tcgetattr(self.theirs) == self.before
        assert self.seen.count("\x1b[?1049h") <= self.seen.count("\x1b[?1049l")
        assert self.seen.rindex("\x1b[?1049l") > self.seen.rindex("\x1b[?1049h")
        assert self.seen.rindex("\x1b[?25h") > self.seen.rindex("\x1b[?25l")

    def close(self) -> None:
        """End what still runs on it."""
        for process in self._started:
            process.kill()
            process.wait()
        for end in (self.ours, self.theirs):
            if end >= 0:
                os.close(end)

    def hang_up(self) -> None:
        """Close our end: who has it gets SIGHUP."""
        os.close(self.ours)
        self.ours = -1


def plain(shown: str) -> str:
    """Without what moves and colours."""
    return _CODE.sub("", shown)
