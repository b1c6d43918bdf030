"""What a benchmark returns: rows of a table, each perhaps with a target."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from benchmarks.measure import Ratio, Series

# Nanoseconds in a unit of time; 1 where samples are in the unit already.
UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


@dataclass(frozen=True, slots=True)
class Target:
    """What one number of a row is to be."""

    of: Literal["median", "p99", "ratio"]
    at_most: float = math.inf
    at_least: float = -math.inf

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
    p999: float = math.nan

    @classmethod
    def of(
        cls, name: str, series: Series, unit: str,
        ratio: Ratio | None = None, target: Target | None = None,
    ) -> Self:  # fmt: skip
        """Sum up samples: nanoseconds where `unit` is one of time, else in that unit."""
        scale = UNITS.get(unit, 1.0)
        median, p5, p99, p999 = (series.percentile(p) / scale for p in (50, 5, 99, 99.9))
        samples = sum(block.size for block in series.blocks)
        return cls(name, median, p5, p99, unit, samples, ratio, target, p999)

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        ratio = math.nan if self.ratio is None else self.ratio.value
        value = {"median": self.median, "p99": self.p99, "ratio": ratio}[self.target.of]
        return self.target.at_least <= value <= self.target.at_most


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one benchmark found."""

    name: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, rows: Iterable[Row], *notes: str) -> Self:
        """Rows in the order of the table, and what a reader has to know of them."""
        return cls(name, tuple(rows), notes)
