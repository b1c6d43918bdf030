"""Peers beside us, A B A B, where one that fails is told and left out from there on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from benchmarks.measure import Series
from benchmarks.stage import FailedError

# Samples of one block, by what was measured.
Samples: TypeAlias = Mapping[str, Sequence[float]]
Side: TypeAlias = Callable[[], Samples]


@dataclass
class Contest:
    """The series of each side that went the whole way, and why others did not."""

    series: dict[str, dict[str, Series]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, side: str, measure: str) -> Series:
        """Of a side that cannot fail."""
        return self.series[side][measure]


def contest(rounds: int, sides: Mapping[str, Side], must: Sequence[str] = ()) -> Contest:
    """A block of each side in turn, so many times. Raises FailedError of those in `must`."""
    found, blocks = Contest(), {name: list[Samples]() for name in sides}
    for number in range(rounds):
        for name in list(blocks):
            _progress(f"round {number + 1} of {rounds}: {name}")
            try:
                blocks[name].append(sides[name]())
            except FailedError as error:
                if name in must:
                    raise
                found.notes.append(f"{name} failed in round {number + 1}: {error}")
                del blocks[name]
    _progress("")
    found.series = {name: _series(each) for name, each in blocks.items()}
    return found


def _series(blocks: Sequence[Samples]) -> dict[str, Series]:
    return {
        measure: Series(tuple(np.asarray(block[measure], np.float64) for block in blocks))
        for measure in blocks[0]
    }


def _progress(what: str) -> None:
    """On a terminal, in place; nowhere else."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)
