"""What a benchmark returns: rows of a table, each perhaps with a target."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from benchmarks.measure import Ratio, Series
from benchmarks.sides import Side, side_of

# Nanoseconds in a unit of time; 1 where samples are in the unit already.
UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


@dataclass(frozen=True, slots=True)
class Target:
    """What one number of a row is to be."""

    of: Literal["median", "p99", "ratio"]
    at_most: float = math.inf
    at_least: float = -math.inf
    # What the worst run on the busiest machine still shows; beyond it something is broken.
    surely: float | None = None

    def missed(self, value: float) -> bool:
        """Whether a value is on the wrong side of what is sure."""
        if self.surely is None:
            return False
        return value > self.surely if self.at_least == -math.inf else not value >= self.surely

    def __str__(self) -> str:
        if self.at_most == math.inf:
            return f"{self.of} >= {self.at_least:g}"
        if self.at_least == -math.inf:
            return f"{self.of} <= {self.at_most:g}"
        return f"{self.of} {self.at_least:g} .. {self.at_most:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a distribution, its ratio to another in the same run, and its target."""

    name: str
    median: float
    p5: float
    p99: float
    unit: str
    samples: int
    ratio: Ratio | None = None
    target: Target | None = None
    side: Side = "ours"
    line: str = ""  # of a sweep: which curve the row is on, and where
    at: float | None = None
    p999: float = math.nan

    @classmethod
    def of(
        cls, name: str, series: Series, unit: str,
        ratio: Ratio | None = None, target: Target | None = None, *,
        side: Side | None = None, line: str = "", at: float | None = None,
    ) -> Self:  # fmt: skip
        """Sum up samples: nanoseconds where `unit` is one of time, else in that unit."""
        scale = UNITS.get(unit, 1.0)
        median, p5, p99, p999 = (series.percentile(p) / scale for p in (50, 5, 99, 99.9))
        samples = sum(block.size for block in series.blocks)
        side = side or side_of(name)
        return cls(name, median, p5, p99, unit, samples, ratio, target, side, line, at, p999)

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.target.at_least <= self._aimed(self.target) <= self.target.at_most

    @property
    def broken(self) -> bool:
        """Whether not even that holds which holds on every machine."""
        return self.target is not None and self.target.missed(self._aimed(self.target))

    def _aimed(self, target: Target) -> float:
        ratio = math.nan if self.ratio is None else self.ratio.value
        return {"median": self.median, "p99": self.p99, "ratio": ratio}[target.of]


class Words(NamedTuple):
    """What no number says: what became of a peer, or why it was skipped."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one benchmark found."""

    name: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    words: tuple[Words, ...] = ()
    axis: str = ""  # of a sweep: what `Row.at` counts

    @classmethod
    def of(
        cls, name: str, rows: Iterable[Row], *notes: str,
        words: Iterable[Words] = (), axis: str = "",
    ) -> Self:  # fmt: skip
        """Rows in the order of the table, and what a reader has to know of them."""
        return cls(name, tuple(rows), notes, tuple(words), axis)
