"""Pictures of results: medians with whiskers from p5 to p99, log scales, floors as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.report import amount
from benchmarks.result import UNITS

Found: TypeAlias = Mapping[str, Any]  # a row, or a benchmark, as a results file has it

OURS, PEER, FLOOR = "#0b63a5", "#c4611b", "#6b6b6b"
_COLOURS = {"ours": OURS, "peer": PEER, "floor": FLOOR}
_NAMES = {"ours": "shmpool", "peer": "others", "floor": "floor"}
# Of curves, the first that is ours in our own colour.
_CURVES = (
    OURS, "#c4611b", "#2a9d8f", "#7b4fa3", "#d08c00", "#b5395b", "#5c8a2e", "#8c564b", "#c77eb5",
    "#3b9ab2", "#303030",
)  # fmt: skip
_MARKS = "os^vDPX<>ph"
_STYLE = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "svg.hashsalt": "shmpool",  # the same numbers make the same file
    "svg.fonttype": "none",
}


def draw(benchmark: Found, folder: Path, form: str = "svg") -> list[Path]:
    """A picture for each unit that at least two rows of a benchmark share."""
    paths = pictures(benchmark, folder, form)
    for rows, path in zip(_groups(benchmark["rows"]), paths, strict=True):
        _save(benchmark, rows, path)
    return paths


def pictures(benchmark: Found, folder: Path, form: str = "svg") -> list[Path]:
    """Where `draw` puts them."""
    stems = [benchmark["name"], *(f"{benchmark['name']}-{number}" for number in range(2, 20))]
    return [folder / f"{stem}.{form}" for stem in stems[: len(_groups(benchmark["rows"]))]]


def _groups(rows: Sequence[Found]) -> list[list[Found]]:
    units: dict[str, list[Found]] = {}
    for row in rows:
        if row["median"] > 0:  # what is left of a subtraction may not be; no log scale has it
            units.setdefault("ns" if row["unit"] in UNITS else row["unit"], []).append(row)
    return [group for group in units.values() if len(group) > 1]


def _save(benchmark: Found, rows: list[Found], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    sweep = all(row.get("at") is not None for row in rows)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, 4.2 if sweep else 1.1 + 0.3 * len(rows)))
        if sweep:
            _curves(axes, rows, benchmark.get("axis", ""))
        else:
            _dots(axes, rows)
        axes.set_title(benchmark["name"])
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=110, metadata=about, bbox_inches="tight")
        plt.close(figure)


def _scaled(row: Found) -> tuple[float, float, float]:
    """Median and whiskers; nanoseconds where it is a time."""
    scale = UNITS.get(row["unit"], 1.0)
    median, low, high = (row[name] * scale for name in ("median", "p5", "p99"))
    return median, min(max(low, median / 100), median), max(high, median)


def _unit(rows: Sequence[Found]) -> str:
    return "ns" if rows[0]["unit"] in UNITS else rows[0]["unit"]


def _whiskers(axes: Any, at: Any, values: Any, *, across: bool, **how: Any) -> None:
    medians, lows, highs = zip(*values, strict=True)
    below = [median - low for median, low in zip(medians, lows, strict=True)]
    above = [high - median for median, high in zip(medians, highs, strict=True)]
    how |= {"elinewidth": 1.1, "capsize": 2.5, "markersize": 5.5}
    if across:
        axes.errorbar(medians, at, xerr=[below, above], **how)
    else:
        axes.errorbar(at, medians, yerr=[below, above], **how)


def _dots(axes: Any, rows: list[Found]) -> None:
    """A line for each row, in the order of the table; floors also from top to bottom."""
    places = [-number for number in range(len(rows))]
    for side, colour in _COLOURS.items():
        chosen = [n for n, row in enumerate(rows) if _side(row) == side]
        if not chosen:
            continue
        at, values = [places[n] for n in chosen], [_scaled(rows[n]) for n in chosen]
        _whiskers(axes, at, values, across=True, fmt="o", color=colour, label=_NAMES[side])
        if side == "floor":
            for median, *_ in values:
                axes.axvline(median, color=colour, linestyle="--", linewidth=0.9, zorder=0)
    axes.set_yticks(places, [row["name"] for row in rows])
    for place, row in zip(places, rows, strict=True):
        axes.annotate(
            amount(row["median"], row["unit"]), (1.01, place), xycoords=("axes fraction", "data"),
            va="center", color=_COLOURS[_side(row)],
        )  # fmt: skip
    axes.set_ylim(places[-1] - 0.6, 0.6)
    axes.tick_params(axis="y", length=0)
    _log_axis(axes.xaxis, axes.set_xscale, _unit(rows))
    if len({_side(row) for row in rows}) > 1:
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False,
            borderaxespad=0, handletextpad=0.3, columnspacing=1.2,
        )  # fmt: skip


def _side(row: Found) -> str:
    return str(row.get("side", "ours"))


def _curves(axes: Any, rows: list[Found], label: str) -> None:
    """A curve for each line of a sweep; the legend names them from top to bottom, as they end."""
    lines: dict[str, list[Found]] = {}
    for row in sorted(rows, key=lambda row: row["at"]):
        lines.setdefault(row["line"], []).append(row)
    looks = _looks({line: _side(chosen[0]) for line, chosen in lines.items()})
    for line in sorted(lines, key=lambda line: -lines[line][-1]["median"]):
        at, values = [row["at"] for row in lines[line]], [_scaled(row) for row in lines[line]]
        _whiskers(axes, at, values, across=False, label=line, **looks[line])
    ticks = sorted({row["at"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(label)
    _log_axis(axes.yaxis, axes.set_yscale, _unit(rows))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _looks(sides: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Of each line: "how: who" looks like another of the same who, but for its dashes."""
    parts = {line: line.rpartition(": ")[::2] for line in sides}
    # Ours first, whose colour is the first one; in the order of the rows otherwise.
    ours_first = sorted(sides, key=lambda line: sides[line] != "ours")
    people = list(dict.fromkeys(parts[line][1] for line in ours_first))
    ways = list(dict.fromkeys(how for how, _ in parts.values()))
    looks = {}
    for line, (how, who) in parts.items():
        number, mine = people.index(who), sides[line] == "ours"
        looks[line] = {
            "color": FLOOR if sides[line] == "floor" else _CURVES[number % len(_CURVES)],
            "marker": _MARKS[number % len(_MARKS)],
            "linestyle": ("-", "--", ":")[ways.index(how) % 3],
            "linewidth": 2.4 if mine else 1.3,
            "zorder": 3 if mine else 2,
        }
    return looks


def _log_axis(axis: Any, set_scale: Any, unit: str) -> None:
    from matplotlib import ticker  # noqa: PLC0415

    set_scale("log")
    low, high = axis.get_view_interval()
    # Within one decade the powers of ten are too few to read a value by.
    subs = (1, 2, 5) if high / low < 100 else (1,)
    log = ticker.LogLocator(base=10, subs=subs, numticks=12)
    axis.set_major_locator(log if high / low > 10 else ticker.MaxNLocator(6, steps=(1, 2, 5, 10)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: amount(value, unit)))
    axis.set_minor_locator(ticker.NullLocator())
    axis.grid(visible=True, which="major", color="#dddddd", linewidth=0.8)
    axis.axes.set_axisbelow(True)
