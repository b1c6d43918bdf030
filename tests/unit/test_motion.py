"""Two looks made into rates: `shmpool top`'s model. Looks are private copies, changed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shmpool import Pool, _look
from shmpool._layout import State
from shmpool._life import Life
from shmpool._look import Look
from shmpool.cli.motion import EVENTS, SORTS, Ages, motion
from shmpool.cli.portrait import waits_for
from shmpool.errors import CorruptSegmentError

MakePool = Callable[..., Pool]


@pytest.fixture
def before(make_pool: MakePool) -> Look:
    """A look at a pool of eight slots, of which nothing is in use."""
    return _look.look(make_pool(slots=8, members=9, member_name="boss").name)


def later(look: Look, seconds: float = 2.0) -> Look:
    """Another look at the same, in which things can be changed."""
    again = _look.look(look.spec.name)
    return replace(again, when_ns=look.when_ns + int(seconds * 1e9))


def change(look: Look, slot: int, state: State, *, owner: int = 0, queue: int = 0, age: float = 0):
    """What a slot is, and for how long."""
    look.view.slots["word"][slot] = 1 << 16 | owner << 8 | queue << 3 | state
    look.view.slots["since_ns"][slot] = look.when_ns - int(age * 1e9)


def test_a_rate_is_what_a_counter_rose_by_in_a_second(before: Look) -> None:
    """Of each member, and of all."""
    now = later(before)
    now.view.members["acquired"][1] += 10
    now.view.members["got"][1] += 6
    now.view.members["received"][1] += 8192
    now.view.members["waited_ns"][1] += 1_000_000_000
    seen = motion(before, now)
    (boss,) = seen.members
    assert (boss.name, boss.flow.acquired, boss.flow.got, boss.flow.released) == ("boss", 5, 3, 0)
    assert boss.flow.received == 4096
    assert boss.flow.waiting == 0.5  # seconds of waiting in a second
    assert seen.flow == boss.flow
    assert seen.flow.rights == 8
    assert seen.seconds == 2


def test_who_joined_in_between_counts_from_nothing(before: Look) -> None:
    """An index that another had before is not taken for the same member."""
    now = later(before)
    was, new = before.view.members, now.view.members
    was["identity"][2], new["identity"][2] = 4001 << 8 | 2, 4002 << 8 | 2
    was["acquired"][2], new["acquired"][2] = 1000, 4
    assert motion(before, now).members[1].flow.acquired == 2
    new["identity"][2] = was["identity"][2]
    new["acquired"][2] = 1004
    assert motion(before, now).members[1].flow.acquired == 2
    new["joined_ns"][2] = was["joined_ns"][2] + 7  # the number of a process came again
    assert motion(before, now).members[1].flow.acquired == 502


def test_a_counter_that_went_back_is_no_rate(before: Look) -> None:
    """Nobody's counters do; what was written over may."""
    now = later(before)
    before.view.members["put"][1] = 5
    assert motion(before, now).flow.put == 0


def test_one_look_has_no_rates(before: Look) -> None:
    """And no division by nothing."""
    seen = motion(before, before)
    assert seen.seconds == 0
    assert seen.flow.rights == seen.flow.released == 0
    assert [queue.put for queue in seen.queues] == [0, 0]


def test_a_queue_has_what_came_in_and_went_out(before: Look) -> None:
    """By how far its ends moved; and the ages of what waits, by the slots."""
    now = later(before)
    now.view.queue_states["tail"][0] += 9
    now.view.queue_states["head"][0] += 6
    for slot, age in enumerate((1.0, 2.0, 9.0)):
        change(now, slot, State.QUEUED, owner=1, queue=1, age=age)
    change(now, 7, State.QUEUED, owner=1, queue=0, age=30.0)  # detached: in no queue
    seen = motion(before, now)
    one, two = seen.queues
    assert (one.length, one.put, one.got) == (3, 4.5, 3)
    assert (one.ages.count, one.ages.p50, one.ages.oldest) == (3, 2.0, 9.0)
    assert one.ages.p99 == pytest.approx(8.86)
    assert two.ages == Ages(0)
    assert (seen.tickets.count, seen.tickets.oldest) == (4, 30.0)


def test_holds_are_named_longest_first(before: Look) -> None:
    """By owner; what is released and still read, by its readers."""
    now = later(before)
    change(now, 2, State.LEASED, owner=1, queue=2, age=3.0)
    change(now, 5, State.SHARED, owner=1, age=8.0)
    change(now, 6, State.DRAINING, age=5.0)
    now.view.readers[3] = 1
    now.view.slots["readers"][6][0] = 1 << 3
    change(now, 7, State.QUEUED, owner=1, queue=1, age=60.0)
    seen = motion(before, now)
    assert [(hold.slot, hold.age, hold.state) for hold in seen.longest] == [
        (5, 8.0, "shared"), (6, 5.0, "draining"), (2, 3.0, "leased"),
    ]  # fmt: skip
    assert [hold.member for hold in seen.longest] == [1, None, 1]
    assert [hold.holders for hold in seen.longest] == [("boss",)] * 3
    assert seen.longest[2].queue == "b"
    assert (seen.members[0].held, seen.members[0].longest) == (2, 8.0)
    assert (seen.holds.count, seen.holds.oldest) == (3, 8.0)
    assert len(motion(before, now, most=1).longest) == 1
    assert [*seen.states] == [0, 0, 1, 0, 0, 3, 4, 2]
    assert [*seen.owners] == [0, 0, 1, 0, 0, 1, 0, 1]


def test_an_age_is_never_less_than_nothing(before: Look) -> None:
    """The clock of the slots goes in steps, and may be ahead of ours."""
    now = later(before)
    change(now, 0, State.LEASED, owner=1, age=-1.0)
    assert motion(before, now).longest[0].age == 0


def test_events_are_counted_since_the_first_look(before: Look) -> None:
    """And since the pool was made."""
    first, now = later(before), later(before)
    fields = {"sent_to_quarantine": "quarantined"}
    for number, name in enumerate(EVENTS):
        first.view.status[fields.get(name, name)] = 100
        before.view.status[fields.get(name, name)] = 100 + number
        now.view.status[fields.get(name, name)] = 101 + 2 * number
    seen = motion(before, now, first)
    assert [*seen.events.values()] == [101 + 2 * number for number in range(len(EVENTS))]
    assert [*seen.events_seen.values()] == [1 + 2 * number for number in range(len(EVENTS))]


def test_counts_are_those_of_the_pool(make_pool: MakePool) -> None:
    """The same as `Pool.statistics` says."""
    pool = make_pool(max_slots=6)
    with pool.acquire():
        pool.queue("a").put(pool.acquire())
        seen, said = _look.look(pool.name), pool.statistics()
    shown = motion(seen, seen)
    assert shown.by_state == {
        state.name.lower(): getattr(said, state.name.lower()) for state in State
    }
    assert (shown.payload_bytes, shown.slots) == (said.payload_bytes, said.slots)
    pool.queue("a").get().release()


def test_who_waits_is_found_by_what_is_waited_for(before: Look) -> None:
    """For slots of a size, tickets, and room."""
    before.view.class_states["waiting"][0][0] = 1 << 1 | 1 << 2
    before.view.queue_states["waiting"][1][0] = 1 << 2
    before.view.queue_states["waiting_space"][0][0] = 1 << 1
    assert waits_for(before) == {
        1: ["a slot of 4.0 KiB", "room in queue 'a'"], 2: ["a slot of 4.0 KiB", "queue 'b'"],
    }  # fmt: skip
    seen = motion(before, before)
    assert seen.queues[1].waiting == ("",)  # by its name, which an empty entry has not
    assert seen.queues[0].waiting_for_room == ("boss",)


@pytest.mark.parametrize(
    ("status", "named", "life", "state"),
    [
        (1, True, Life.ALIVE, "open"),
        (2, True, Life.ALIVE, "closed"),
        (1, True, Life.DEAD, "orphaned"),
        (1, False, Life.DEAD, "orphaned"),
        (2, True, Life.DEAD, "orphaned"),  # it died over closing: what is left is to be removed
        (2, False, Life.DEAD, "closed"),  # it closed the pool, and then ended
        (1, False, Life.ALIVE, "open"),  # unlinked, and in use
        (77, True, Life.ALIVE, "status 77"),
    ],
)
def test_the_state_is_told_by_status_name_and_coordinator(
    before: Look, status: int, named: bool, life: Life, state: str
) -> None:
    """Closed in good order is not orphaned, though its coordinator has gone."""
    before.view.status["status"] = status
    seen = motion(before, replace(before, named=named, coordinator=life))
    assert seen.state == state


def test_a_member_table_of_nothing_that_can_be_is_an_error(before: Look) -> None:
    """Ours, as everywhere."""
    before.view.members["identity"][3] = 99
    with pytest.raises(CorruptSegmentError):
        motion(before, before)


@pytest.mark.parametrize("order", SORTS)
def test_members_can_be_ordered(before: Look, order: str) -> None:
    """The member that has most of it comes first; of an index, least."""
    now = later(before)
    entries: dict[str, Any] = {"rate": "acquired", "waited": "waited_ns", "stale": "stale"}
    for index in (2, 3):
        now.view.members["identity"][index] = 4000 + index << 8 | 2
    if order in entries:
        now.view.members[entries[order]][3] = 7
    for slot, owner in ((0, 2), (1, 3), (2, 3)):
        change(now, slot, State.LEASED, owner=owner, age=float(owner))
    first = min(motion(before, now).members, key=SORTS[order])
    assert first.index == (1 if order == "index" else 3)


def test_noise_gives_numbers(before: Look) -> None:
    """Words, counters and ages of anything: no warning of overflow, which would be an error."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        now = later(before)
        for table in (now.view.slots, now.view.members, now.view.queue_states):
            raw = table.view(np.uint8)
            raw[:] = rng.integers(0, 256, raw.size, np.uint8)
        now.view.members["identity"] = [0, *(4000 + n << 8 | 2 for n in range(1, 10))]
        seen = motion(before, now)
        assert len(seen.members) == 9
        assert sum(seen.by_state.values()) == 8
