"""Plain tables, and what the commands that look at pools have in common."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from shmpool._text import printable


def table(head: Sequence[str], rows: Iterable[Sequence[object]], right: str = "") -> str:
    """Columns, aligned; those whose names are in `right` (words) to the right.

    >>> print(table(["NAME", "SLOTS"], [["a", 8], ["other", 16]], right="SLOTS"))
    NAME   SLOTS
    a          8
    other     16
    """
    cells = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    to_right = [name in right.split() for name in head]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, to_right, strict=True)
        ).rstrip()
        for row in cells
    )


def show_json(value: Any) -> None:
    """Print a value as JSON, with text for what JSON does not know."""
    print(json.dumps(known(value, str), default=str, indent=2))


def known(value: Any, odd: Callable[[float], str | None]) -> Any:
    """Without what JSON has not: keys become text, NaN and the infinite what `odd` says.

    >>> known({"x": [1.5, float("nan")], (1, 2): ()}, str)
    {'x': [1.5, 'nan'], '(1, 2)': []}
    """
    if isinstance(value, dict):
        return {_name(name): known(item, odd) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [known(item, odd) for item in value]
    return odd(value) if isinstance(value, float) and not math.isfinite(value) else value


def _name(key: Any) -> Any:
    return key if isinstance(key, (str, int)) else str(key)


def add_parser(commands: Any, name: str, about: str, codes: dict[int, str]) -> Any:
    """A parser of a command whose help ends with its exit codes."""
    epilog = "\n".join(["exit codes:", *(f"  {code:<4} {text}" for code, text in codes.items())])
    parser = commands.add_parser(
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="JSON on stdout")
    return parser
