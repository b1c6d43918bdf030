"""Outcomes as a table, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.result import UNITS, Outcome, Row

HEADINGS = ("name", "median", "p5", "p99", "unit", "ratio", "(pairs)", "target", "reached")
_WIDTHS = (50, 9, 9, 9, 5, 6, 12, 16, 7)
_LEFT = {0, 4, 7, 8}


def line(cells: Sequence[str]) -> str:
    """One line of the table."""
    padded = [
        cell.ljust(width) if number in _LEFT else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    ]
    return "  ".join(padded).rstrip()


def lines(outcome: Outcome) -> list[str]:
    """A benchmark's lines of the table, and its notes."""
    words = [f"    {name}: {text}" for name, text in outcome.words]
    notes = [f"    {outcome.name}: {note}" for note in outcome.notes]
    return [line(_cells(row)) for row in outcome.rows] + words + notes


def _cells(row: Row) -> tuple[str, ...]:
    numbers = [number(value) for value in (row.median, row.p5, row.p99)]
    ratio = f"{row.ratio.value:.3f}" if row.ratio else ""
    pairs = f"{row.ratio.low:.2f} .. {row.ratio.high:.2f}" if row.ratio else ""
    reached = {None: "", True: "yes", False: "NO"}[row.reached]
    reached = "BROKEN" if row.broken else reached
    return row.name, *numbers, row.unit, ratio, pairs, str(row.target or ""), reached


def number(value: float) -> str:
    """Three digits, or a whole number."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def amount(value: float, unit: str) -> str:
    """With its unit; a time in whichever unit makes it short.

    >>> amount(0.64, "us"), amount(2413, "ms"), amount(73, "KiB")
    ('640 ns', '2.41 s', '73 KiB')
    """
    if unit not in UNITS:
        return f"{number(value)} {unit}"
    nanoseconds = value * UNITS[unit]
    fitting = [name for name, size in UNITS.items() if abs(nanoseconds) >= size] or ["ns"]
    text = number(nanoseconds / UNITS[fitting[-1]])
    return f"{text} {fitting[-1].replace('u', 'µ')}"


def as_json(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """A benchmark with its rows, and how long it took."""
    rows = [_row_as_json(row) for row in outcome.rows]
    words = [word._asdict() for word in outcome.words]
    return {
        "name": outcome.name, "seconds": seconds, "rows": rows,
        "notes": outcome.notes, "words": words, "axis": outcome.axis,
    }  # fmt: skip


def _row_as_json(row: Row) -> dict[str, Any]:
    target = str(row.target) if row.target else None
    return asdict(row) | {"target": target, "reached": row.reached, "broken": row.broken}
