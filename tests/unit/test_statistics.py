"""`Pool.statistics`: what each queue has, and who waits at it; frozen, as of one moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

import shmpool
from shmpool import Pool, QueueOptions, _core, _look

MakePool = Callable[..., Pool]


def of_queue(pool: Pool, name: str) -> shmpool.QueueStatistics:
    return next(q for q in pool.statistics().queue_statistics if q.name == name)


def test_an_empty_queue_has_nothing_old(pool: Pool) -> None:
    """In the order in which they were named."""
    rows = pool.statistics().queue_statistics
    assert [(q.name, q.length, q.oldest, q.maxsize, q.closed) for q in rows] == [
        ("a", 0, None, 0, False), ("b", 0, None, 0, False),
    ]  # fmt: skip
    assert all((q.waiting, q.waiting_for_room) == (0, 0) for q in rows)


def test_a_queue_has_the_age_of_its_oldest_ticket(make_pool: MakePool) -> None:
    """Not of what others have, and not of what was taken."""
    pool = make_pool(slots=5, queues={"a": QueueOptions(maxsize=3), "b": QueueOptions()})
    for name in ("a", "a", "b"):
        pool.queue(name).put(pool.acquire())
    lease = pool.acquire()
    since = pool._mapping.view().slots["since_ns"]
    since[:4] = since[:4].max() - [int(age * 1e9) for age in (7, 5, 60, 90)]
    rows = pool.statistics().queue_statistics
    assert [(q.length, q.maxsize, int(q.oldest or 0)) for q in rows] == [(2, 3, 7), (1, 0, 60)]
    assert pool.statistics().queues == {"a": 2, "b": 1}
    with pool.queue("a").get():
        assert int(of_queue(pool, "a").oldest or 0) == 5
    for right in (lease, pool.queue("a").get(), pool.queue("b").get()):
        right.release()


@pytest.mark.parametrize("kind", ["FOR_TICKET", "FOR_SPACE"])
def test_whoever_waits_at_a_queue_is_counted(pool: Pool, kind: str) -> None:
    """For a ticket and for room; each member once."""
    waits = getattr(_core, kind), 2
    expected = (1, 0) if kind == "FOR_TICKET" else (0, 1)
    for _ in range(2):
        pool._mapping.wait_begin(*waits)
    row = of_queue(pool, "b")
    pool._mapping.wait_end(*waits)
    assert (row.waiting, row.waiting_for_room) == expected
    assert (of_queue(pool, "a").waiting, of_queue(pool, "b").waiting) == (0, 0)


def test_a_closed_queue_is_said_to_be(pool: Pool) -> None:
    """The other is open."""
    pool.queue("b").close()
    assert [q.closed for q in pool.statistics().queue_statistics] == [False, True]


def test_a_look_from_outside_says_the_same(pool: Pool) -> None:
    """But for ages, which are of the moment of the look, whenever it is asked."""
    pool.queue("a").put(pool.acquire())
    seen = _look.look(pool.name)
    assert seen.statistics() == seen.statistics()
    here, there = _look.glance(pool._mapping).statistics(), seen.statistics()
    assert without_ages(here) == without_ages(there) == without_ages(pool.statistics())
    pool.queue("a").get().release()


def without_ages(statistics: shmpool.PoolStatistics) -> dict[str, Any]:
    values = dataclasses.asdict(statistics)
    assert [queue.pop("oldest") is None for queue in values["queue_statistics"]] == [False, True]
    return values


def test_statistics_are_frozen(pool: Pool) -> None:
    """The whole, and every part of it."""
    said = pool.statistics()
    for record in (said, said.members[0], said.classes[0], said.queue_statistics[0]):
        name = dataclasses.fields(record)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, None)
