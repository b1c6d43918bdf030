"""Sizes in bytes, as people write them: 4096, "4 KiB", "1.5 GiB", "6MB". And ages."""

from __future__ import annotations

import math
import re
from numbers import Integral

from shmpool.errors import SizeError

_UNITS: dict[str, int] = {"": 1, "B": 1} | {
    (prefix + end).upper(): base**power
    for power, prefix in enumerate("KMGT", start=1)
    for end, base in (("iB", 1024), ("B", 1000), ("", 1024))
}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_size(size: int | str, what: str = "size") -> int:
    """Bytes from an int or a text with a unit (KiB = 1024, KB = 1000, a bare K = 1024).

    >>> parse_size("6 MiB"), parse_size("1.5 KB"), parse_size(42)
    (6291456, 1500, 42)
    """
    if isinstance(size, bool) or not isinstance(size, (Integral, str)):
        message = f"{what} is {size!r}: give bytes as an int, or a text such as '6 MiB'"
        raise SizeError(message)
    if not isinstance(size, str):
        return int(size)
    match = _PATTERN.fullmatch(size)
    unit = _UNITS.get(match[2].upper()) if match else None
    if not match or not unit:
        message = f"{what} is {size!r}: give a number and a unit, such as '6 MiB' or '512 KB'"
        raise SizeError(message)
    number = float(match[1]) * unit
    if number == math.inf:
        raise SizeError(f"{what} is {size[:40]!r}…: no memory has so many bytes")
    return round(number)


def show_size(size: float) -> str:
    """Bytes as people read them.

    >>> show_size(512), show_size(6291456), show_size(1536)
    ('512 B', '6.0 MiB', '1.5 KiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def show_age(seconds: float) -> str:
    """A time as people read it, in three digits; none is less than nothing.

    >>> show_age(0.00075), show_age(0.0021), show_age(12.5), show_age(3600)
    ('750 us', '2.10 ms', '12.5 s', '3600 s')
    """
    for unit, least in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= least:
            return f"{_three_digits(seconds / least)} {unit}"
    return f"{_three_digits(max(0.0, seconds * 1e6))} us"


def _three_digits(number: float) -> str:
    return f"{number:.{0 if number >= 99.95 else 1 if number >= 9.995 else 2}f}"
