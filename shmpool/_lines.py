"""A line on stdout from one of several threads: whole, and at once."""

from __future__ import annotations

import sys


def put_line(text: str) -> None:
    """Write a line by one call, and flush it, also into a pipe.

    Not by `print`: that writes the end of the line by a call of its own, so another thread's line
    may come between; and older Pythons do not keep `sys.stdout` alive meanwhile,
    which another thread may replace (https://github.com/python/cpython/issues/130163).
    """
    stdout = sys.stdout
    stdout.write(f"{text}\n")
    stdout.flush()
