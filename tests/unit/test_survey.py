"""Counting slots by arrays: the same as looking at word after word."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shmpool import Pool, PoolStatistics, _look
from shmpool._layout import Columns, State, Word

MakePool = Callable[..., Pool]


def test_columns_are_the_fields_of_each_word() -> None:
    """For any 64 bits."""
    words = np.random.default_rng(3).integers(0, 1 << 64, 500, np.uint64, endpoint=False)
    columns = Columns.unpack(words)
    assert [*zip(*(field.tolist() for field in columns), strict=True)] == [
        tuple(Word.unpack(word)) for word in words.tolist()
    ]


def counted(words: list[Word], *, first: int, count: int) -> tuple[int, int]:
    """Free slots of a class and those without memory, one by one."""
    states = [word.state for word in words[first : first + count]]
    return states.count(State.FREE), states.count(State.UNCOMMITTED)


def check(statistics: PoolStatistics, words: list[Word]) -> None:
    """Every number that follows from words."""
    for state in State:
        count = sum(word.state is state for word in words)
        assert getattr(statistics, state.name.lower()) == count
    first = 0
    for of in statistics.classes:
        assert (of.free, of.uncommitted) == counted(words, first=first, count=of.slots)
        first += of.slots
    for member in statistics.members:
        owned = (State.LEASED, State.SHARED)
        held = sum(word.owner == member.index and word.state in owned for word in words)
        assert member.held == held


@pytest.mark.parametrize("seed", range(5))
def test_statistics_are_those_of_words_one_by_one(make_pool: MakePool, seed: int) -> None:
    """Whatever the words say, of owners too that are no members."""
    rng = np.random.default_rng(seed)
    sizes = {"slots": None, "slot_size": None, "classes": [(64, 30), (256, 10, 40), (8192, 7)]}
    seen = _look.look(make_pool(**sizes, members=9).name)
    for index in range(1, 10):  # a copy: nobody joins
        seen.view.members["identity"][index] = 4000 + index << 8 | int(rng.integers(0, 5))
    seen.view.slots["word"] = rng.integers(0, 1 << 64, 77, np.uint64) & np.uint64(0xFFFF0FFF)
    statistics = seen.statistics()
    check(statistics, seen.view.unpacked())
    active = [i for i in range(1, 10) if seen.view.members["identity"][i] & 255 == 2]
    assert [member.index for member in statistics.members] == active
