"""Lines of a width that is known: columns, bars, and numbers that fit into them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from shmpool._sizes import show_age
from shmpool._text import printable

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_STEPS = "▁▂▃▄▅▆▇█"
DIM, GOOD, WARN, BAD = "bright_black", "#4fae72", "#e3b341", "#ff7b72"
Cell = str | tuple[str, str]  # a text, and its style


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    width: int
    right: bool = True
    grows: bool = False  # takes what is left of the line, with others that do
    from_width: int = 0  # of the screen: on a narrower one it is left out


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], width: int) -> Iterator[Text]:
    """A line of titles, then one a row, none longer than `width`."""
    kept = [n for n, column in enumerate(columns) if column.from_width <= width]
    fixed = sum(columns[n].width for n in kept) + len(kept)
    growing = [n for n in kept if columns[n].grows]
    spare = max(0, width - fixed) // max(1, len(growing))
    laid = [replace(columns[n], width=columns[n].width + spare * columns[n].grows) for n in kept]
    yield _line(laid, [(column.title, f"bold {DIM}") for column in laid], width)
    for row in rows:
        yield _line(laid, [row[n] for n in kept], width)


def _line(columns: Sequence[Column], cells: Sequence[Cell], width: int) -> Text:
    line = Text()
    for column, cell in zip(columns, cells, strict=True):
        text, style = (cell, "") if isinstance(cell, str) else cell
        line.append(" ")
        line.append(fit(text, column.width, right=column.right), style or None)
    return cut(line, width)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Exactly `width` columns of a terminal.

    >>> fit("worker", 8), fit("8", 4, right=True), fit("a long name", 6)
    ('worker  ', '   8', 'a lon…')
    """
    text = printable(text)
    spare = width - cell_len(text)
    if spare < 0:
        return set_cell_size(text, width - 1) + "…" if width else ""
    return " " * spare + text if right else text + " " * spare


def cut(line: Text, width: int) -> Text:
    """A line that does not go beyond `width`."""
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True  # or rich looks for words
    return line


def rule(title: str, note: str, width: int) -> Text:
    """The line above a section."""
    line = Text("─ ", style=DIM)
    line.append(title, "bold default")
    line.append(f": {printable(note)} " if note else " ", DIM)
    line.append("─" * max(0, width - line.cell_len), DIM)
    return cut(line, width)


def bar(share: float, width: int) -> str:
    """A part of a whole, in eighths of a column; what is more than nothing is seen.

    >>> bar(0.5, 8), bar(0.0001, 8), bar(0, 8)
    ('████    ', '▏       ', '        ')
    """
    eighths = round(min(1.0, share) * width * 8)
    whole, rest = divmod(max(eighths, int(share > 0)), 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)[:width]


def spark(values: Sequence[float]) -> str:
    """What a number was, one column each, the largest at full height.

    >>> spark([0, 1, 4, 8])
    '▁▁▄█'
    """
    most = max(values, default=0) or 1
    return "".join(_STEPS[max(0, -int(-value * 8 // most) - 1)] for value in values)


def short(number: float) -> str:
    """A number in five columns.

    >>> [short(n) for n in (0, 0.04, 4.5, 48, 12345, 999_960, 3e12)]
    ['0', '0.04', '4.5', '48', '12.3k', '1.00M', '3.00T']
    """
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            part = number / size
            return f"{part:.{0 if part >= 99.95 else 1 if part >= 9.995 else 2}f}{unit}"
    return f"{number:.0f}" if number >= 9.95 or not number else f"{number:.2g}"


def brief(seconds: float | None) -> str:
    """A time in seven columns.

    >>> brief(None), brief(0.0123), brief(61), brief(7300), brief(200000)
    ('-', '12.3 ms', '1m01s', '2h01m', '2d07h')
    """
    if seconds is None:
        return "-"
    if seconds >= 100 * 86400:
        return f"{seconds // 86400:.0f}d"
    for large, small, unit, lesser in (
        (86400, 3600, "d", "h"),
        (3600, 60, "h", "m"),
        (60, 1, "m", "s"),
    ):
        if seconds >= large:
            return f"{seconds // large:.0f}{unit}{seconds % large // small:02.0f}{lesser}"
    return show_age(seconds)
