"""Exit codes."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
BROKEN = 3
UNWRITTEN = 74  # stdout: EX_IOERR of sysexits.h
HUNG_UP = 129
INTERRUPTED = 130
PIPE = 141
TERMINATED = 143

EXPLAINED = {
    DONE: "all jobs are done",
    FAILED: "some jobs failed",
    USAGE: "wrong arguments; nothing was started",
    BROKEN: "the farm could not work, or its output could not be written",
    UNWRITTEN: "stdout cannot be written",
    HUNG_UP: "the terminal is gone (SIGHUP)",
    INTERRUPTED: "interrupted (^C)",
    TERMINATED: "terminated (SIGTERM)",
}


class UsageError(Exception):
    """The arguments are wrong: told before any process starts."""
