"""The pool against a model of plain Python, and round trips of everything that is encoded."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import shmpool
from shmpool import Borrow, Lease, Pool, Ticket, _description
from shmpool._layout import State, Word
from shmpool._sizes import parse_size, show_size

SIZES = (128, 4096)  # of the two classes; only the larger ones can be trimmed
QUEUES = ("a", "b")
Right = tuple[int, int]  # slot, generation


@dataclass
class Model:
    """What a pool is, in dicts and lists."""

    firsts: tuple[int, int]  # number of the first slot of each class
    free: set[int]
    uncommitted: set[int]
    generation: dict[int, int]
    pattern: dict[int, int] = field(default_factory=dict)  # byte with which a slot is filled
    queues: dict[str, deque[Right]] = field(
        default_factory=lambda: {name: deque() for name in QUEUES}
    )
    past: list[Right] = field(default_factory=list)
    draining: set[int] = field(default_factory=set)
    readers: Counter[int] = field(default_factory=Counter)  # borrows of a slot

    @property
    def queued(self) -> int:
        """How many tickets wait in queues."""
        return sum(map(len, self.queues.values()))

    def class_of(self, slot: int) -> int:
        """Number of a slot's class."""
        return int(slot >= self.firsts[1])

    def size(self, slot: int) -> int:
        """Bytes of a slot."""
        return SIZES[self.class_of(slot)]

    def of_class(self, slots: set[int], number: int) -> set[int]:
        """Those of a class."""
        return {slot for slot in slots if self.class_of(slot) == number}

    def candidates(self, smallest: int) -> tuple[set[int], set[int]]:
        """(all that an acquire may take, of them those that are free): empty if it is in vain."""
        for number in range(smallest, len(SIZES)):
            free = self.of_class(self.free, number)
            if free:
                return free, free
            uncommitted = self.of_class(self.uncommitted, number)
            if uncommitted:
                return uncommitted, free
        return set(), set()


class PoolMachine(RuleBasedStateMachine):
    """One process that does everything one can do with slots, in any order."""

    @initialize(
        small=st.integers(0, 3),
        large=st.integers(0, 2),
        more=st.tuples(st.integers(1, 2), st.integers(1, 2)),
        reuse=st.sampled_from(["warm", "cold"]),
        views=st.sampled_from(["fence", "raise"]),
    )
    def make(self, small: int, large: int, more: tuple[int, int], reuse: str, views: str) -> None:
        """A pool of two classes that can grow, and its model."""
        counts = (small, small + more[0]), (large, large + more[1])
        classes = [(size, *count) for size, count in zip(SIZES, counts, strict=True)]
        self.pool = Pool.create(classes=classes, queues=QUEUES, reuse=reuse, views=views)
        self.views = views
        self.cut: list[Any] = []  # views of rights that ended under them
        self.held: list[Lease] = []
        self.shared: list[Lease] = []
        self.borrows: list[Borrow] = []
        self.tickets: list[Ticket] = []
        words = self.words()
        second = counts[0][1]
        free = {*range(small), *range(second, second + large)}
        generations = {i: word.generation for i, word in enumerate(words)}
        uncommitted = set(range(self.pool.slots)) - free
        self.model = Model((0, second), free, uncommitted, generations)
        self.reuse = reuse
        # Most of what can be done takes leases, of which a random walk has few at first.
        for pattern in range(3):
            self.lease(pattern, None)

    def teardown(self) -> None:
        """Everything goes back, and the pool is whole at the end."""
        if not hasattr(self, "pool"):
            return
        self.cut.clear()
        with self.pool:
            for right in self.held + self.shared + self.borrows:
                right.release()
            for ticket in self.tickets:
                self.pool.claim(ticket).release()
            for name in QUEUES:
                while self.pool.queue(name).qsize():
                    self.pool.queue(name).get_nowait().release()
            counts = self.pool.audit()
            assert counts["free"] + counts["uncommitted"] == self.pool.slots
            assert counts["uncommitted"] == len(self.model.uncommitted)

    def words(self) -> list[Word]:
        """Every slot's word."""
        return self.pool._mapping.view().unpacked()

    def take(self, data: st.DataObject, things: list[Any]) -> Any:
        """Any one of them, no longer in the list."""
        return things.pop(self.index(data, things))

    def index(self, data: st.DataObject, things: list[Any]) -> int:
        """Place of any one of them: hypothesis would keep a lease that it drew alive."""
        return data.draw(st.integers(0, len(things) - 1), label="which")

    def check_pattern(self, right: Lease | Borrow) -> None:
        """The slot holds what was written into it last."""
        size = self.model.size(right.slot)
        assert right.nbytes == size
        assert bytes(memoryview(right)) == bytes([self.model.pattern[right.slot]]) * size

    def over(self, right: Right) -> None:
        """A lease has ended for good: generation gone; slot free, unless it is still read."""
        slot, _ = right
        (self.model.draining if self.model.readers[slot] else self.model.free).add(slot)
        self.model.past.append(right)

    def came(self, lease: Lease, right: Right) -> None:
        """A lease has come by ticket or queue: the same right, with what the sender wrote."""
        assert lease.slot == right[0]
        assert lease.live
        self.moved(right, lease)
        self.check_pattern(lease)
        self.held.append(lease)

    def moved(self, right: Right, lease: Lease) -> None:
        """Generations never go back."""
        assert lease.generation >= right[1]
        if lease.generation != right[1]:
            self.model.past.append(right)
        self.model.generation[lease.slot] = lease.generation

    def taken(self, lease: Lease, smallest: int) -> None:
        """A slot was leased: of the class, and with the generation, that the model foretells."""
        candidates, free = self.model.candidates(smallest)
        assert lease.slot in candidates
        if free and self.reuse == "warm":
            assert lease.slot == min(free)
        assert lease.nbytes == self.model.size(lease.slot)
        assert lease.generation >= self.model.generation[lease.slot]
        assert (lease.slot, lease.generation) not in self.model.past
        self.model.free.discard(lease.slot)
        self.model.uncommitted.discard(lease.slot)
        self.model.generation[lease.slot] = lease.generation

    @rule(pattern=st.integers(0, 255), nbytes=st.sampled_from([None, 0, 1, 128, 129, 4096, 4097]))
    def acquire(self, pattern: int, nbytes: int | None) -> None:
        """A free slot with a new generation, or PoolExhaustedError if there is none."""
        self.lease(pattern, nbytes)

    def lease(self, pattern: int, nbytes: int | None) -> None:
        """Acquire, or be refused, as the model foretells; what came is filled."""
        if nbytes == 4097:
            with pytest.raises(shmpool.SizeError):
                self.pool.acquire_nowait(nbytes)
            return
        smallest = int((nbytes or 0) > SIZES[0])
        arguments = () if nbytes is None else (nbytes,)
        if not self.model.candidates(smallest)[0]:
            with pytest.raises(shmpool.PoolExhaustedError):
                self.pool.acquire_nowait(*arguments)
            return
        lease = self.pool.acquire_nowait(*arguments)
        self.taken(lease, smallest)
        self.model.pattern[lease.slot] = pattern
        lease.array((lease.nbytes,), "u1")[:] = pattern
        self.held.append(lease)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["release", "with", "drop"]))
    def end(self, data: st.DataObject, how: str) -> None:
        """A lease ends by release, by `with` or by collection, with its pattern intact."""
        lease = self.take(data, self.held)
        self.check_pattern(lease)
        self.over((lease.slot, lease.generation))
        if how == "release":
            lease.release()
        elif how == "with":
            with lease:
                pass
        else:
            del lease  # the last reference
            return
        self.check_over(lease)

    def check_over(self, lease: Lease) -> None:
        """A lease that has ended refuses everything."""
        assert not lease.live
        uses: list[Callable[[], Any]] = [
            lease.release, lease.detach, lease.array, lambda: memoryview(lease),
            lambda: lease.array((1,), "u1"), lambda: self.pool.queue("a").put(lease),
        ]  # fmt: skip
        for use in uses:
            with pytest.raises(shmpool.StaleTicketError):
                use()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), name=st.sampled_from(QUEUES))
    def put(self, data: st.DataObject, name: str) -> None:
        """A lease goes to the end of a queue."""
        lease = self.take(data, self.held)
        generation = lease.generation
        self.pool.queue(name).put(lease)
        word = self.pool._mapping.view().word(lease.slot)
        self.model.queues[name].append((lease.slot, word.generation))
        self.model.generation[lease.slot] = word.generation
        if word.generation != generation:
            self.model.past.append((lease.slot, generation))
        self.check_over(lease)

    @rule(name=st.sampled_from(QUEUES))
    def get(self, name: str) -> None:
        """The oldest of a queue, or QueueEmpty."""
        if not self.model.queues[name]:
            with pytest.raises(shmpool.QueueEmpty):
                self.pool.queue(name).get_nowait()
            return
        self.came(self.pool.queue(name).get_nowait(), self.model.queues[name].popleft())

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        """A lease becomes a ticket."""
        lease = self.take(data, self.held)
        ticket = lease.detach()
        assert ticket.slot == lease.slot
        assert ticket.generation >= lease.generation
        if ticket.generation != lease.generation:
            self.model.past.append((lease.slot, lease.generation))
        self.model.generation[lease.slot] = ticket.generation
        self.tickets.append(ticket)
        self.check_over(lease)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), as_number=st.booleans())
    def claim(self, data: st.DataObject, *, as_number: bool) -> None:
        """A ticket becomes a lease, once."""
        ticket = self.take(data, self.tickets)
        lease = self.pool.claim(int(ticket) if as_number else ticket)
        self.came(lease, (ticket.slot, ticket.generation))
        with pytest.raises(shmpool.AlreadyClaimedError):
            self.pool.claim(ticket)

    @precondition(lambda self: self.model.past)
    @rule(data=st.data())
    def use_a_past_right(self, data: st.DataObject) -> None:
        """Whatever right is over stays over, and the error names it."""
        slot, generation = data.draw(st.sampled_from(self.model.past), label="past right")
        for use in (self.pool.claim, self.pool.borrow, self.pool.peek):
            with pytest.raises(shmpool.StaleTicketError) as caught:
                use(Ticket.of(slot, generation))
            assert (caught.value.slot, caught.value.generation) == (slot, generation)

    @rule(data=st.data())
    def use_a_right_that_is_no_ticket(self, data: st.DataObject) -> None:
        """Leases in hand, tickets in queues and slots beyond the end cannot be claimed."""
        rights = [(lease.slot, lease.generation) for lease in self.held + self.shared]
        rights += [right for queue in self.model.queues.values() for right in queue]
        rights += [(self.pool.slots, 1), (65_535, (1 << 48) - 1), (0, 0), (0, (1 << 48) - 1)]
        with pytest.raises(shmpool.StaleTicketError):
            self.pool.claim(Ticket.of(*data.draw(st.sampled_from(rights), label="right")))

    @precondition(lambda self: self.held or self.tickets or self.model.draining)
    @rule(data=st.data())
    def borrow_what_is_not_shared(self, data: st.DataObject) -> None:
        """Leases in hand, tickets on their way and slots that nobody has cannot be borrowed."""
        words = self.words()
        rights = [(lease.slot, lease.generation) for lease in self.held]
        rights += [(ticket.slot, ticket.generation) for ticket in self.tickets]
        rights += [right for queue in self.model.queues.values() for right in queue]
        idle = self.model.free | self.model.uncommitted | self.model.draining
        rights += [(slot, words[slot].generation) for slot in sorted(idle)]
        rights += [(self.pool.slots, 1), (0, 0), (0, (1 << 48) - 1)]
        with pytest.raises(shmpool.StaleTicketError):
            self.pool.borrow(Ticket.of(*data.draw(st.sampled_from(rights), label="right")))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), pattern=st.integers(0, 255))
    def rewrite(self, data: st.DataObject, pattern: int) -> None:
        """A holder writes into its slot and nobody else's."""
        lease = self.held[self.index(data, self.held)]
        memoryview(lease).cast("B")[:] = bytes([pattern]) * lease.nbytes
        self.model.pattern[lease.slot] = pattern

    @precondition(lambda self: self.held and self.views == "fence")
    @rule(data=st.data(), how=st.sampled_from(["release", "with"]))
    def end_under_a_view(self, data: st.DataObject, how: str) -> None:
        """The lease ends, and its array never sees the slot again, whoever holds it."""
        lease = self.take(data, self.held)
        right = (lease.slot, lease.generation)
        self.cut.append(lease.array())
        lease.release() if how == "release" else lease.__exit__(None, None, None)
        self.over(right)
        self.check_over(lease)

    @precondition(lambda self: self.cut)
    @rule(data=st.data(), write=st.booleans())
    def touch(self, data: st.DataObject, *, write: bool) -> None:
        """A view that is cut off is told of each time it is touched; no slot is, nor is it lost."""
        array = self.cut[self.index(data, self.cut)]
        with pytest.raises(shmpool.UseAfterReleaseError):
            array.fill(255) if write else array.sum()
        for right in self.held + self.shared + self.borrows:
            self.check_pattern(right)

    @precondition(lambda self: self.cut)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """A view that was cut off dies, and nothing else happens."""
        self.take(data, self.cut)

    @precondition(lambda self: self.held and self.views == "raise")
    @rule(data=st.data())
    def release_under_a_view(self, data: st.DataObject) -> None:
        """While an array lives the lease goes on, whatever is tried."""
        lease = self.held[self.index(data, self.held)]
        array = lease.array()
        queue = self.pool.queue("a")
        ends: list[Callable[[], Any]] = [lease.release, lease.detach, lambda: queue.put(lease)]
        for end in ends:
            with pytest.raises(shmpool.ViewsAliveError):
                end()
        assert lease.live
        assert (array == self.model.pattern[lease.slot]).all()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        """A lease becomes read-only, for good, under the generation it has."""
        lease = self.take(data, self.held)
        right = (lease.slot, lease.generation)
        if self.views == "raise":
            with memoryview(lease), pytest.raises(shmpool.ViewsAliveError):
                lease.share()
        ticket = lease.share()
        assert (ticket.slot, ticket.generation) == right
        assert lease.share() == ticket
        self.shared.append(lease)
        queue = self.pool.queue("a")
        uses: list[Callable[[], Any]] = [lease.detach, lease.writer, lambda: queue.put(lease)]
        for use in uses:
            with pytest.raises(shmpool.SharedLeaseError):
                use()

    @precondition(lambda self: self.shared)
    @rule(data=st.data(), many=st.integers(1, 3), back=st.booleans())
    def borrow(self, data: st.DataObject, *, many: int, back: bool) -> None:
        """What is shared can be borrowed, as often as one likes, and given back one by one."""
        ticket = self.shared[self.index(data, self.shared)].ticket
        for _ in range(many):
            borrow = self.pool.borrow(ticket)
            assert borrow.ticket == ticket
            self.check_pattern(borrow)
            self.model.readers[ticket.slot] += 1
            self.borrows.append(borrow)
        if back:
            self.borrows.pop().release()
            self.model.readers[ticket.slot] -= 1
        me = self.pool._mapping.me
        readers = [me] if self.model.readers[ticket.slot] else []
        assert self.pool._mapping.view().readers_of(ticket.slot) == readers

    @precondition(lambda self: self.shared)
    @rule(data=st.data(), how=st.sampled_from(["release", "with", "drop"]))
    def end_shared(self, data: st.DataObject, how: str) -> None:
        """The owner is done: the slot drains while it is read, and is free if it is not."""
        lease = self.take(data, self.shared)
        self.check_pattern(lease)
        ticket = lease.ticket
        self.over((ticket.slot, ticket.generation))
        if how == "release":
            lease.release()
        elif how == "with":
            with lease:
                pass
        if how == "drop":
            del lease
        else:
            self.check_over(lease)
        with pytest.raises(shmpool.StaleTicketError):
            self.pool.borrow(ticket)

    @precondition(lambda self: self.borrows)
    @rule(data=st.data(), how=st.sampled_from(["release", "with", "drop", "under a view"]))
    def give_back(self, data: st.DataObject, how: str) -> None:
        """The last borrow of a slot that its owner released frees it."""
        borrow = self.take(data, self.borrows)
        slot = borrow.slot
        self.check_pattern(borrow)
        if how == "under a view":
            view = memoryview(borrow)
            if self.views == "raise":
                with pytest.raises(shmpool.ViewsAliveError):
                    borrow.release()
                assert borrow.live
            del borrow
            self.agrees()
            del view
        elif how == "drop":
            del borrow
        else:
            borrow.release() if how == "release" else borrow.__exit__(None, None, None)
            uses: list[Callable[[], Any]] = [borrow.release, borrow.array, borrow.reader]
            for use in uses:
                with pytest.raises(shmpool.AlreadyEndedError):
                    use()
        self.model.readers[slot] -= 1
        if slot in self.model.draining and not self.model.readers[slot]:
            self.model.draining.remove(slot)
            self.model.free.add(slot)

    @precondition(lambda self: self.shared or self.tickets or self.model.queued)
    @rule(data=st.data())
    def peek(self, data: st.DataObject) -> None:
        """Whatever is on its way, or shared, can be copied; nothing else."""
        good = [(lease.slot, lease.generation) for lease in self.shared]
        good += [(ticket.slot, ticket.generation) for ticket in self.tickets]
        good += [right for queue in self.model.queues.values() for right in queue]
        words = self.words()
        idle = self.model.free | self.model.uncommitted | self.model.draining
        bad = [(slot, words[slot].generation) for slot in sorted(idle)]
        bad += [(lease.slot, lease.generation) for lease in self.held]
        right = data.draw(st.sampled_from(good + bad + [(self.pool.slots, 1)]), label="right")
        if right not in good:
            with pytest.raises(shmpool.StaleTicketError):
                self.pool.peek(Ticket.of(*right))
            return
        got = self.pool.peek(Ticket.of(*right))
        assert got.tolist() == [self.model.pattern[right[0]]] * self.model.size(right[0])

    @precondition(lambda self: self.model.uncommitted)
    @rule(slots=st.integers(0, 3), nbytes=st.sampled_from([None, *SIZES]))
    def grow(self, slots: int, nbytes: int | None) -> None:
        """Uncommitted slots of one class become free, as many as asked for or there are."""
        number = int(nbytes == SIZES[1])
        there = self.model.of_class(self.model.uncommitted, number)
        expected = min(slots, len(there))
        assert self.pool.grow(slots, nbytes) == expected
        free = {slot for slot, word in enumerate(self.words()) if word.state is State.FREE}
        grown = free - self.model.free
        assert len(grown) == expected
        assert grown <= there
        self.model.free |= grown
        self.model.uncommitted -= grown

    @precondition(lambda self: self.model.free)
    @rule()
    def trim(self) -> None:
        """The free slots of whole pages have no memory any more, and another generation."""
        words = self.words()
        trimmed = self.model.of_class(self.model.free, 1)
        if self.views == "fence":  # every slot has whole pages
            trimmed = set(self.model.free)
        assert self.pool.trim() == len(trimmed) * SIZES[1]
        for slot in trimmed:
            self.model.past.append((slot, words[slot].generation))
            self.model.generation[slot] = words[slot].generation + 1
        self.model.free -= trimmed
        self.model.uncommitted |= trimmed

    @precondition(lambda self: self.held)
    @rule(data=st.data(), pattern=st.integers(0, 255))
    def outgrow(self, data: st.DataObject, pattern: int) -> None:
        """A writer moves a lease on to a larger slot, or overflows and leaves it as it was."""
        lease = self.held[self.index(data, self.held)]
        slot, generation = lease.slot, lease.generation
        room = self.model.candidates(1)[0] if self.model.class_of(slot) == 0 else set()
        content = bytes([pattern]) * SIZES[1]
        if not room:
            with pytest.raises(shmpool.SlotOverflowError):
                lease.writer().write(content + b"x" * self.model.class_of(slot))
            assert (lease.slot, lease.generation) == (slot, generation)
            return
        with lease.writer() as file:
            file.write(content[: SIZES[0]])
            assert lease.slot == slot
            file.write(content[SIZES[0] :])
        self.taken(lease, 1)
        self.over((slot, generation))
        self.model.pattern[lease.slot] = pattern
        assert lease.array().tolist() == list(content)

    @invariant()
    def agrees(self) -> None:
        """Pool and model tell the same, whichever way one asks."""
        if not hasattr(self, "pool"):
            return
        model, pool = self.model, self.pool
        counts = {
            "free": len(model.free),
            "leased": len(self.held),
            "queued": model.queued + len(self.tickets),
            "shared": len(self.shared),
            "draining": len(model.draining),
            "uncommitted": len(model.uncommitted),
        }
        assert {state: n for state, n in pool.audit().items() if n} == {
            state: n for state, n in counts.items() if n
        }
        snapshot = pool.statistics()
        assert {state: getattr(snapshot, state) for state in counts} == counts
        for number, c in enumerate(snapshot.classes):
            assert c.free == len(model.of_class(model.free, number))
            assert c.uncommitted == len(model.of_class(model.uncommitted, number))
        assert snapshot.queues == {name: len(queue) for name, queue in model.queues.items()}
        assert snapshot.members[0].held == len(self.held) + len(self.shared)
        for name, queue in model.queues.items():
            assert pool.queue(name).qsize() == len(queue)
            assert pool.queue(name).empty() == (not queue)
        for right in self.held + self.shared + self.borrows:
            assert right.live
            self.check_pattern(right)


# A right that is collected is one of the ways in which it ends; test_leaks.py has the warning.
TestPoolModel = pytest.mark.filterwarnings("ignore::shmpool.LeakWarning")(PoolMachine.TestCase)
TestPoolModel.settings = settings(max_examples=100, stateful_step_count=40)


# Round trips.

ROUND = settings(max_examples=200)


@ROUND
@given(slot=st.integers(0, 65_535), generation=st.integers(0, (1 << 48) - 1))
def test_a_ticket_packs_and_unpacks(slot: int, generation: int) -> None:
    """Every slot and generation comes back from one 64-bit integer, in the same order."""
    ticket = Ticket.of(slot, generation)
    assert 0 <= ticket < 1 << 64
    assert (ticket.slot, ticket.generation) == (slot, generation)
    assert Ticket(int(ticket)) == ticket
    assert str(ticket) == f"{slot}@{generation}"


@ROUND
@given(value=st.integers())
def test_an_integer_is_a_ticket_or_an_argument_error(value: int) -> None:
    """64 bits are a ticket, anything else is refused."""
    if 0 <= value < 1 << 64:
        assert Ticket.of(Ticket(value).slot, Ticket(value).generation) == value
        return
    with pytest.raises(shmpool.ArgumentError):
        Ticket(value)


UNITS = {"B": 1, "KiB": 1024, "KB": 1000, "MiB": 1 << 20, "MB": 10**6, "GiB": 1 << 30, "T": 1 << 40}


@ROUND
@given(number=st.integers(0, 4096), unit=st.sampled_from(sorted(UNITS)), blanks=st.integers(0, 3))
def test_a_size_is_read_in_any_unit(number: int, unit: str, blanks: int) -> None:
    """Number and unit, with any blanks between and in any case."""
    for text in (f"{number}{' ' * blanks}{unit}", f" {number}{unit.lower()} "):
        assert parse_size(text) == number * UNITS[unit]


@ROUND
@given(size=st.integers(0, 1 << 50))
def test_a_size_that_is_shown_is_read_again(size: int) -> None:
    """Within the one decimal that is shown."""
    again = parse_size(show_size(size))
    assert abs(again - size) <= max(size / 1024, 0.05 * size if size >= 1024 else 0)


@ROUND
@given(text=st.text(max_size=30))
def test_any_text_is_a_size_or_a_size_error(text: str) -> None:
    """Nothing else comes out of a text."""
    try:
        assert parse_size(text) >= 0
    except shmpool.SizeError as error:
        assert repr(text) in str(error)  # noqa: PT017


SCALARS = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?"),
    npst.complex_number_dtypes(endianness="?"),
    npst.byte_string_dtypes(max_len=9),
    npst.unicode_string_dtypes(max_len=9),
    npst.datetime64_dtypes(),
    npst.timedelta64_dtypes(),
)
DTYPES = st.one_of(
    SCALARS,
    npst.array_dtypes(SCALARS, max_size=3, allow_subarrays=True),
    npst.nested_dtypes(SCALARS, max_leaves=4),
)
SHAPES = npst.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=1 << 20)


@ROUND
@given(shape=SHAPES, dtype=DTYPES)
def test_a_description_is_read_as_it_was_written(shape: tuple[int, ...], dtype: Any) -> None:
    """Any dtype that fits on the sheet, structured ones too, under any shape."""
    dtype = np.dtype(dtype)
    try:
        sheet = _description.encode(shape, dtype)
    except shmpool.ShapeError as error:
        assert "112" in str(error)  # noqa: PT017 - a dtype in so many words
        return
    again, kind = _description.decode(sheet)
    assert again == shape
    assert kind == dtype
    assert kind.itemsize == dtype.itemsize


@ROUND
@given(sheet=st.binary(min_size=192, max_size=192))
def test_any_bytes_are_a_description_or_corrupt(sheet: bytes) -> None:
    """Nothing but CorruptSegmentError comes out of nonsense."""
    try:
        shape, dtype = _description.decode(sheet)
    except shmpool.CorruptSegmentError:
        return
    assert len(shape) <= 8
    assert not dtype.hasobject


@ROUND
@given(text=st.text(alphabet="'[](),<>|fiuSVOM8421 -ns\\\"0", max_size=40))
def test_any_text_is_a_dtype_or_corrupt(text: str) -> None:
    """Text that nearly is a dtype does no more harm than bytes that are none."""
    good = bytearray(_description.encode((2,), np.dtype("f8")))
    data = text.encode()
    good[4:8] = len(data).to_bytes(4, "little")
    good[80:] = data.ljust(112, b"\0")
    try:
        _, dtype = _description.decode(bytes(good))
    except shmpool.CorruptSegmentError:
        return
    assert not dtype.hasobject
