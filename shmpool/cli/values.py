"""What options are made of. Each raises ArgumentTypeError, for argparse to say."""

from __future__ import annotations

import json
import re
from argparse import ArgumentTypeError
from collections import Counter
from dataclasses import dataclass
from typing import Any

from shmpool._sizes import parse_size
from shmpool.errors import SizeError

_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


@dataclass(frozen=True, slots=True)
class Frames:
    """Numbers of frames, and how many frames there are in all."""

    numbers: tuple[int, ...]
    total: int


def frames(text: str) -> Frames:
    """Parse `0-239`, `0-100:10`, `5`, `0-9,20-29`, each perhaps of a whole: `20-29/240`.

    >>> frames("0-6:3,9/24")
    Frames(numbers=(0, 3, 6, 9), total=24)
    """
    ranges, slash, whole = text.partition("/")
    numbers = [number for part in ranges.split(",") for number in _range(part)]
    for number, times in Counter(numbers).items():
        if times > 1:
            raise ArgumentTypeError(f"{text}: frame {number} is asked for twice")
    least = max(numbers) + 1
    if not slash:
        return Frames(tuple(numbers), least)
    if not whole.isdigit() or int(whole) < least:
        raise ArgumentTypeError(f"{text}: the whole after / has to be a number, at least {least}")
    return Frames(tuple(numbers), int(whole))


def _range(part: str) -> range:
    match = _RANGE.fullmatch(part.strip())
    if match is None:
        raise ArgumentTypeError(f"{part!r} is no range of frames, such as 0-239, 0-100:10 or 5")
    first = int(match[1])
    last, step = int(match[2] or first), int(match[3] or 1)
    if last < first or step < 1:
        raise ArgumentTypeError(f"{part!r}: the last frame is not before the first, a step is >= 1")
    return range(first, last + 1, step)


def size(text: str) -> tuple[int, int]:
    """Width and height in pixels.

    >>> size("1920x1080")
    (1920, 1080)
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not (int(match[1]) and int(match[2])):
        raise ArgumentTypeError(f"{text!r}: give width x height in pixels, such as 1920x1080")
    return int(match[1]), int(match[2])


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number, 0 or more."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdigit() or int(text) < least:
        raise ArgumentTypeError(f"{text!r}: a whole number, {least} or more")
    return int(text)


def seconds(text: str) -> float:
    """More than none."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"{text!r}: seconds, more than 0")
    return number


def duration(text: str) -> float:
    """Seconds, from a number with its unit.

    >>> duration("5s"), duration("500ms"), duration("2min"), duration("1.5")
    (5.0, 0.5, 120.0, 1.5)
    """
    match = re.fullmatch(r"([\d.]+) ?(ms|s|min|m|h|)", text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is no length of time, such as 5s, 500ms or 2min")
    units = {"ms": 1e-3, "s": 1.0, "": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
    return seconds(match[1]) * units[match[2]]


def memory(text: str) -> int:
    """Bytes, with a unit."""
    try:
        number = parse_size(int(text) if text.isdigit() else text, "memory")
    except SizeError as error:
        raise ArgumentTypeError(str(error)) from None
    if number < 1:
        raise ArgumentTypeError(f"{text!r}: at least a byte")
    return number


def setting(text: str) -> tuple[str, Any]:
    """`name=value`; the value is JSON if it parses as that, else text.

    >>> setting("samples=4"), setting("mood=dark")
    (('samples', 4), ('mood', 'dark'))
    """
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise ArgumentTypeError(f"{text!r}: give name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
