"""A timeline as a picture: members above, slots below, in the same time.

What lasts for much longer than its kind usually does has a colour of its own, so that a stall and
a member that starves are seen before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shmpool._text import printable
from shmpool.cli.chrome import lanes
from shmpool.cli.timeline import PARTED, Span, Timeline, Who, by_member, percentile

# Okabe and Ito's palette, which colour-blind people can tell apart; red for what is too long.
COLOURS = {
    "held": "#0072b2",
    "shared": "#009e73",
    "borrowed": "#56b4e9",
    "draining": "#8fd4bf",
    "queued": "#e6b450",
    "detached": "#f0e442",
    "quarantined": "#cc79a7",
    "waits": "#d9d9d9",
    "held too long": "#c1121f",
    "starving": "#f4796b",
}
_EXPLAINED = {
    "held": "held",
    "shared": "shared, by its owner",
    "borrowed": "borrowed",
    "draining": "released, others still read",
    "queued": "waits in a queue",
    "detached": "ticket under way",
    "quarantined": "in quarantine",
    "waits": "member waits",
    "held too long": "held for {} or longer",
    "starving": "member waits for {} or longer",
}
_LONG = 0.1  # of the whole time, and
_MANY = 8  # times as long as half of its kind are
_FINE = 4000  # dots: parts of the time that are drawn
_OWN = 12  # dots from which on a bar has a line around it
_WIDTH = 13.0  # inches
_MOST_LABELS = 40
_MARKERS = {"died": "X", "left": "|"}

Bar = tuple[int, int]  # nanoseconds


@dataclass(frozen=True, slots=True)
class Limits:
    """Nanoseconds from which on a hold or a wait is too long."""

    hold: float
    wait: float

    @classmethod
    def of(cls, line: Timeline) -> Limits:
        """By what is usual in this trace."""
        whole = line.recording.ended_ns - line.recording.began_ns
        holds = [span.length for span in line.holds()]
        waits = [wait.length for wait in line.waits]
        hold, wait = (max(_LONG * whole, _MANY * percentile(x, 0.5)) for x in (holds, waits))
        # Where there are only a few, the few that are long are half of them.
        few = 0.5 * whole
        return cls(min(hold, few), min(wait, few))


def draw(line: Timeline, path: Path) -> None:
    """Write the picture; the name says as what, .png or .svg."""
    from matplotlib.figure import Figure

    limits = Limits.of(line)
    shown = line.members
    slots = line.recording.spec.slots
    rows = len(shown) * 0.55, min(max(slots * 0.22, 1.5), 10.0)
    figure = Figure(figsize=(_WIDTH, sum(rows) + 1.7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=rows)
    used = _members(upper, line, limits) | _slots(lower, line, limits)
    _title(figure, line)
    lower.set_xlabel("seconds since the trace began")
    lower.set_xlim(0, line.recording.seconds)
    _legend(figure, used, limits)
    figure.savefig(path, dpi=130)


def _title(figure: Any, line: Timeline) -> None:
    recording = line.recording
    title = (
        f"pool {recording.spec.name}: {recording.seconds:.3g} s, {len(recording.events):,} events"
    )
    if lost := sum(recording.lost.values()):
        title += f", {lost:,} lost: there are gaps"
    figure.suptitle(title, fontsize=11)


def _kind(span: Span, limits: Limits) -> str:
    held = span.what in ("held", "shared")
    return "held too long" if held and span.length >= limits.hold else span.what


def _members(axes: Any, line: Timeline, limits: Limits) -> set[str]:
    """Waits in the lower third of a row, what is held above, side by side if it is much."""
    bars: dict[tuple[str, float, float], list[Bar]] = {}
    waits, holds = by_member(line.waits), by_member((*line.holds(), *line.borrows))
    for row, who in enumerate(line.members):
        for wait in waits.get(who, []):
            kind = "starving" if wait.length >= limits.wait else "waits"
            bars.setdefault((kind, row + 0.12, 0.2), []).append((wait.begin, wait.end))
        placed = list(lanes(holds.get(who, [])))
        count = max((lane for lane, _ in placed), default=0) + 1
        for lane, span in placed:
            at = row + 0.36 + 0.56 * lane / count, 0.56 / count
            bars.setdefault((_kind(span, limits), *at), []).append((span.begin, span.end))
    used = _bars(axes, line, bars)
    _partings(axes, line)
    _rows(axes, [_label(line, who) for who in line.members])
    return used


def _label(line: Timeline, who: Who) -> str:
    name = printable(line.name(who))
    return f"{name if len(name) <= 20 else name[:19] + '…'} ({who.pid})"


def _partings(axes: Any, line: Timeline) -> None:
    for mark in line.marks:
        if mark.kind in PARTED:
            row = line.members.index(mark.who)
            when = (mark.when - line.recording.began_ns) / 1e9
            axes.plot(
                [when],
                [row + 0.5],
                marker=_MARKERS[mark.kind],
                color="black",
                markersize=7,
                zorder=3,
            )
            axes.annotate(
                mark.kind, (when, row + 0.5), (7, -3), textcoords="offset points", fontsize=8
            )


def _slots(axes: Any, line: Timeline, limits: Limits) -> set[str]:
    bars: dict[tuple[str, float, float], list[Bar]] = {}
    for span in line.spans:
        at = span.slot + 0.1, 0.8
        bars.setdefault((_kind(span, limits), *at), []).append((span.begin, span.end))
    slots = line.recording.spec.slots
    step = -(-slots // _MOST_LABELS)
    _rows(axes, [f"slot {n}" if n % step == 0 else "" for n in range(slots)])
    return _bars(axes, line, bars)


def _rows(axes: Any, labels: list[str]) -> None:
    shown = [(row + 0.5, label) for row, label in enumerate(labels) if label]
    look: dict[str, Any] = {"fontsize": 8, "parse_math": False}  # a name may have a $ in it
    axes.set_yticks([at for at, _ in shown], [label for _, label in shown], **look)
    axes.set_ylim(len(labels), 0)
    axes.tick_params(axis="y", length=0)
    for row in range(1, len(labels)):
        axes.axhline(row, color="#eeeeee", linewidth=0.6, zorder=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _bars(axes: Any, line: Timeline, bars: dict[tuple[str, float, float], list[Bar]]) -> set[str]:
    """Draw them, what is too long above all else. Which kinds there were."""
    from matplotlib.collections import PolyCollection

    least = _OWN * _dot(line)
    for kind, colour in COLOURS.items():
        drawn = [
            (_corners(line, bar, bottom, height), bar)
            for (what, bottom, height), times in bars.items()
            if what == kind
            for bar in _joined(line, times)
        ]
        above = 2 if kind in ("held too long", "starving") else 1
        # What is shorter than a dot is seen by its edge; the others are told apart by theirs.
        edges = ["white" if end - begin >= least else colour for _, (begin, end) in drawn]
        look: dict[str, Any] = {"facecolors": colour, "edgecolors": edges, "linewidths": 0.4}
        corners = [each for each, _ in drawn]
        axes.add_collection(PolyCollection(corners, zorder=above, **look))
    return {kind for kind, *_ in bars}


def _corners(line: Timeline, bar: Bar, bottom: float, height: float) -> list[tuple[float, float]]:
    begin, end = (max(0, when - line.recording.began_ns) / 1e9 for when in bar)
    top = bottom + height
    return [(begin, bottom), (begin, top), (end, top), (end, bottom)]


def _dot(line: Timeline) -> float:
    """Nanoseconds."""
    return (line.recording.ended_ns - line.recording.began_ns) / _FINE


def _joined(line: Timeline, bars: list[Bar]) -> Iterator[Bar]:
    """Fewer bars that look the same: short ones with less than a dot between them are one."""
    dot = _dot(line)
    yield from (bar for bar in bars if bar[1] - bar[0] >= _OWN * dot)
    short = sorted(bar for bar in bars if bar[1] - bar[0] < _OWN * dot)
    if not short:
        return
    times = np.array(short, dtype=np.int64)
    ends = np.maximum.accumulate(times[:, 1])
    apart = np.flatnonzero(times[1:, 0] - ends[:-1] >= dot)
    first = np.concatenate(([0], apart + 1))
    last = np.concatenate((apart, [len(times) - 1]))
    yield from zip(times[first, 0].tolist(), ends[last].tolist(), strict=True)


def _legend(figure: Any, used: set[str], limits: Limits) -> None:
    from matplotlib.patches import Patch

    least = {"held too long": limits.hold / 1e9, "starving": limits.wait / 1e9}
    handles = [
        Patch(color=colour, label=_EXPLAINED[kind].format(f"{least.get(kind, 0):.2g} s"))
        for kind, colour in COLOURS.items()
        if kind in used
    ]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False
        )
