"""The counts that are kept, and what has grown since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Counts: TypeAlias = Mapping[str, float]  # instructions of one turn, by operation

FILE = Path(__file__).with_name("instructions.json")
SIDES = ("core", "python")
TOLERANCE = 0.02  # by how much a count may grow without being written down
WIDE = 0.15  # and the core's with a compiler of which nothing is kept
ADD = "python -m benchmarks.instructions --write"


@dataclass(frozen=True, slots=True)
class Change:
    """One operation's count, kept and found: None where there is none."""

    operation: str
    kept: float | None
    found: float | None

    @property
    def growth(self) -> float:
        """0.01 for one percent more; 0 where there is nothing to compare."""
        if self.kept is None or self.found is None or not self.kept:
            return 0.0
        return self.found / self.kept - 1

    def is_fine(self, tolerance: float) -> bool:
        """Whether it is kept, and has not grown beyond that."""
        if self.kept is None or self.found is None:
            return False
        return self.found <= self.kept * (1 + tolerance)

    def __str__(self) -> str:
        kept, found = (_number(count) for count in (self.kept, self.found))
        growth = f"{self.growth:+9.1%}" if abs(self.growth) >= 0.0005 else ""
        return f"{self.operation:42}{kept:>12}{found:>12}{growth}"


class Table:
    """All that is kept: for each side the counts, by what they depend on."""

    def __init__(self, rows: dict[str, dict[str, dict[str, float]]]) -> None:
        self._rows = rows

    @classmethod
    def load(cls, file: Path = FILE) -> Table:
        """Read it; an empty one if there is none."""
        return cls(json.loads(file.read_text()) if file.exists() else {side: {} for side in SIDES})

    def save(self, file: Path = FILE) -> None:
        """Write it."""
        file.write_text(json.dumps(self._rows, indent=2) + "\n")

    def of(self, side: str, name: str) -> Counts:
        """The counts kept for one name; none if it has none."""
        return self._rows[side].get(name, {})

    def put(self, side: str, name: str, counts: Counts) -> None:
        """Keep these counts, rounded to hundredths, instead of those before."""
        self._rows[side][name] = {key: round(count, 2) for key, count in counts.items()}

    def bound(self, side: str, name: str) -> tuple[Counts, float]:
        """What counts are held against, and how far they may be above it.

        For the core by a compiler of which nothing is kept: the largest of those by others, for
        the same processor. No counts where there is nothing to hold them against.
        """
        if name in self._rows[side] or side != "core":
            return self.of(side, name), TOLERANCE
        processor = name.rpartition(", ")[2]
        rows = [row for key, row in self._rows[side].items() if key.endswith(f", {processor}")]
        keys = dict.fromkeys(key for row in rows for key in row)
        return {key: max(row[key] for row in rows if key in row) for key in keys}, WIDE


def changes(kept: Counts, found: Counts) -> list[Change]:
    """Every operation that one of the two has."""
    keys = dict.fromkeys((*found, *kept))
    return [Change(key, kept.get(key), found.get(key)) for key in keys]


def complaints(kept: Counts, found: Counts, tolerance: float) -> list[Change]:
    """What has grown beyond the tolerance, is not kept, or is no more."""
    return [change for change in changes(kept, found) if not change.is_fine(tolerance)]


def _number(count: float | None) -> str:
    return "-" if count is None else f"{count:,.0f}"
