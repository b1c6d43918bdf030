"""Stdout as a command finds it: closed, of a narrow encoding, or on a disk that is full."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path


def settle() -> None:
    """Let everything be printable: closed it is nowhere, and what it cannot encode is `?`."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the exit
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def is_broken() -> bool:
    """Whether it cannot be written to: a line more shows it, also where nothing is buffered."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return True
    return False


def give_up() -> None:
    """Send what is left of it nowhere: else the interpreter tells of it once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
