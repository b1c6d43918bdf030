"""What there is to do: jobs, each with a number that stills are named by."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shmpool.cli.exits import UsageError
from shmpool.cli.target import Target
from shmpool.cli.values import Frames

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs in order. A job's place is its index here; its number is what people call it."""

    numbers: Sequence[int]
    values: Sequence[Any]

    def __len__(self) -> int:
        return len(self.values)

    def digest(self, place: int) -> str:
        """Names what a job is: equal in another process that was given the same."""
        text = json.dumps(self.values[place], sort_keys=True, default=_described)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _described(thing: Any) -> list[str]:
    return [type(thing).__qualname__, pickle.dumps(thing, 5).hex()]


def of_frames(target: Target, frames: Frames, settings: dict[str, Any]) -> Jobs:
    """What the renderer's module makes of frame numbers.

    `shots(total, **settings)` of the module if there is one, else the number, or with settings
    a dict of them and the number as `frame`. Raises UsageError.
    """
    shots = getattr(target.module, "shots", None)
    if not callable(shots):
        values = [{"frame": n, **settings} if settings else n for n in frames.numbers]
        return Jobs(frames.numbers, values)
    name = f"{target.module.__name__}.shots({frames.total})"
    try:
        made = list(shots(frames.total, **settings))
    except Exception as error:
        message = f"{name} with {settings or 'no settings'}: {type(error).__name__}: {error}"
        raise UsageError(message) from error
    if len(made) < frames.total:
        raise UsageError(f"{name} made {len(made)} jobs, not {frames.total}")
    return Jobs(frames.numbers, [made[n] for n in frames.numbers])


def of_lines(path: str) -> Jobs:
    """A JSON value a line, of a file or of stdin. Raises UsageError."""
    values = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        try:
            values += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise UsageError(f"{path}, line {number} is no JSON value: {error}") from None
    if not values:
        raise UsageError(f"{path} has no jobs")
    return Jobs(range(len(values)), values)


def _text(path: str) -> str:
    try:
        return _stdin() if path == STDIN else Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"jobs cannot be read from {path}: {error}") from None


def _stdin() -> str:
    """All of it, as a file would be read."""
    if sys.stdin is None:
        raise OSError("it is closed")
    return sys.stdin.buffer.read().decode("utf-8-sig")
