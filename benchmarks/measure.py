"""Interleaved measuring: A B A B, so that whatever else the machine does meets every side alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Block: TypeAlias = Callable[[], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one side, block by block."""

    blocks: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> Series:
        """All samples as one block."""
        return cls((np.asarray(samples, np.float64),))

    @classmethod
    def each(cls, samples: Sequence[float]) -> Series:
        """Each sample as a block of its own."""
        return cls(tuple(np.asarray([sample], np.float64) for sample in samples))

    @property
    def all(self) -> list[float]:
        """The samples of all blocks."""
        samples: list[float] = np.concatenate(self.blocks).tolist()
        return samples

    def percentile(self, percent: float) -> float:
        """Of all samples of all blocks."""
        return float(np.percentile(np.concatenate(self.blocks), percent))

    def map(self, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Series:
        """Each block's samples changed, as into another unit."""
        return Series(tuple(change(block) for block in self.blocks))

    def less(self, amount: float) -> Series:
        """The same samples, each without a cost that is not theirs."""
        return self.map(lambda block: block - amount)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One side's median by another's, and how far single pairs of blocks strayed from it."""

    value: float
    low: float  # 5th percentile of the ratios of the medians of neighbouring blocks
    high: float  # 95th


def interleave(rounds: int, *sides: Block) -> list[Series]:
    """Run one block of each side in turn, `rounds` times, after a round that does not count."""
    for side in sides:
        side()
    blocks = [[np.asarray(side(), np.float64) for side in sides] for _ in range(rounds)]
    return [Series(side) for side in zip(*blocks, strict=True)]


def compare(side: Series, other: Series) -> Ratio:
    """How many times as much `side` takes as `other`, measured in the same rounds."""
    pairs = zip(side.blocks, other.blocks, strict=True)
    ratios = [float(np.median(mine) / np.median(theirs)) for mine, theirs in pairs]
    low, high = np.percentile(ratios, [5, 95])
    return Ratio(side.percentile(50) / other.percentile(50), float(low), float(high))


def extra(side: Series, other: Series) -> float:
    """How much more `side` takes: the median of the differences of neighbouring blocks."""
    pairs = zip(side.blocks, other.blocks, strict=True)
    return float(np.median([np.median(mine) - np.median(theirs) for mine, theirs in pairs]))
