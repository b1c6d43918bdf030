"""Pools at work over memory that somebody else turns over, for test_hostile.py.

    python hostile_pool.py SEED POOLS

Each pool has tickets, leases and a second member; then a few places of its shared memory are
set to something else, again before each of a number of operations in random order. Exits with
0, or with what was raised that is no error of shmpool.
"""

from __future__ import annotations

import faulthandler
import logging
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import shmpool
from shmpool import Borrow, Lease, Pool, QueueOptions, Ticket, _core

SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
HANG = 100  # seconds
OPERATIONS = 40


class NothingInHandError(Exception):
    """The operation needs a lease or a ticket, and there is none."""


@dataclass
class Hand:
    """A member, and what it holds."""

    pool: Pool
    rng: random.Random
    leases: list[Lease] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    borrows: list[Borrow] = field(default_factory=list)

    def queue(self) -> shmpool.Queue:
        """One of the queues."""
        return self.pool.queue(self.rng.choice(("jobs", "letters")))

    def lease(self) -> Lease:
        """One of the leases, still held."""
        if not self.leases:
            raise NothingInHandError
        return self.rng.choice(self.leases)

    def spent(self) -> Lease:
        """One of the leases, to be ended."""
        lease = self.lease()
        self.leases.remove(lease)
        return lease

    def ticket(self) -> Ticket | int:
        """A ticket that was detached, or a number that never was one."""
        wild = self.rng.getrandbits(64), self.rng.randrange(80) << 48 | self.rng.randrange(4)
        return self.rng.choice([*self.tickets, *wild])


def write_file(lease: Lease) -> None:
    """Write a slot by way of a file object."""
    with lease.writer() as file:
        file.write(b"hostile" * 5)


def set_header(lease: Lease) -> None:
    """Write the slot's record, and read it."""
    lease.header.number = 7
    repr(lease.header)


def look_at(lease: Lease) -> None:
    """All that can be asked of a lease."""
    repr((str(lease), lease, lease.ticket, lease.attempts, lease.nbytes, lease.live))
    if not lease.shared:
        memoryview(lease)[:8] = b"hostile!"


def attach_again(pool: Pool) -> None:
    """Another member comes, and goes."""
    Pool.attach(pool.name).close()


CALLS: list[Callable[[Hand], object]] = [
    lambda hand: hand.leases.append(hand.pool.acquire(timeout=0)),
    lambda hand: hand.leases.append(hand.pool.acquire_nowait()),
    lambda hand: hand.leases.append(hand.pool.acquire(40, timeout=0)),
    lambda hand: hand.leases.append(hand.queue().get(timeout=0)),
    lambda hand: hand.leases.append(hand.queue().get_nowait()),
    lambda hand: hand.leases.extend(hand.queue().get_many(3, timeout=0)),
    lambda hand: hand.leases.append(hand.pool.claim(hand.ticket())),
    lambda hand: hand.queue().put(hand.spent(), timeout=0),
    lambda hand: hand.queue().put_nowait(hand.spent()),
    lambda hand: hand.tickets.append(hand.spent().detach()),
    lambda hand: hand.spent().release(),
    lambda hand: hand.spent(),  # collected
    lambda hand: hand.lease().array((4,), "<u2").sum(),
    lambda hand: hand.lease().array().sum(),
    lambda hand: hand.lease().reader().read(),
    lambda hand: write_file(hand.lease()),
    lambda hand: set_header(hand.lease()),
    lambda hand: look_at(hand.lease()),
    lambda hand: (hand.queue().qsize(), hand.queue().empty(), hand.queue().closed),
    lambda hand: repr((hand.queue(), hand.pool, hand.pool.closed)),
    lambda hand: hand.tickets.append(hand.lease().share()),
    lambda hand: hand.borrows.append(hand.pool.borrow(hand.ticket())),
    lambda hand: hand.borrows.pop(0).release() if hand.borrows else None,
    lambda hand: hand.borrows and repr((hand.borrows[-1], hand.borrows[-1].array().sum())),
    lambda hand: hand.pool.peek(hand.ticket()),
    lambda hand: [hand.pool.peek(q.ticket) for q in hand.pool.quarantined()],
    lambda hand: hand.pool.grow(2),
    lambda hand: hand.pool.trim(),
    lambda hand: hand.leases.append(hand.pool.acquire(5000, timeout=0)),
    lambda hand: hand.lease().reason,
    lambda hand: hand.pool.statistics(),
    lambda hand: hand.pool.audit(),
    lambda hand: attach_again(hand.pool),
]
LAST: list[Callable[[Hand], object]] = [
    lambda hand: hand.queue().close(),
    lambda hand: hand.pool.close(),
]


class Tampering:
    """A few places of a pool's shared memory, what stood there, and what is to stand there."""

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        self._file = (SHM / pool.name).open("r+b", buffering=0)
        at = _core.layout(pool._spec.counts)
        count = rng.choice((1, 1, 2, 4, 16))
        words = range(at["static_size"], at["total_size"], 8)
        # Tables that decide are small: half of the places are in them.
        small = [*range(at["status"], at["readers"], 8), *range(at["rings"], at["sheets"], 8)]
        places = rng.sample(words, count) + rng.sample(small, count)
        self.turned = {place: self._turned(self._read(place), rng) for place in places}
        self.sound: dict[int, int] = {}

    def _read(self, place: int) -> int:
        self._file.seek(place)
        return int.from_bytes(self._file.read(8), "little")

    def _write(self, numbers: dict[int, int]) -> None:
        for place, number in numbers.items():
            self._file.seek(place)
            self._file.write(number.to_bytes(8, "little"))

    def _turned(self, number: int, rng: random.Random) -> int:
        ways = (
            number ^ 1 << rng.randrange(64),
            number & ~(255 << (byte := rng.randrange(8) * 8)) | rng.randrange(256) << byte,
            rng.getrandbits(64),
            (number + rng.randint(-3, 3)) % (1 << 64),
        )
        return rng.choice(ways)

    def do(self) -> None:
        """Turn all places."""
        if not self.sound:
            self.sound = {place: self._read(place) for place in self.turned}
        self._write(self.turned)

    def undo(self) -> None:
        """Put back what stood there first."""
        self._write(self.sound)
        self._file.close()


def populate(hand: Hand) -> None:
    """Tickets in both queues, one outside, and leases of both kinds in hand."""
    jobs, letters = hand.pool.queue("jobs"), hand.pool.queue("letters")
    for queue in (jobs, jobs, jobs, letters, letters):
        lease = hand.pool.acquire_nowait()
        lease.array((4,), "<u2")[:] = 3
        queue.put(lease)
    hand.tickets.append(hand.pool.acquire_nowait().detach())
    hand.leases += [hand.pool.acquire_nowait(), jobs.get_nowait()]


def attempt(image: str, call: Callable[[Hand], object], hand: Hand, bad: list[str]) -> None:
    """Call: results and errors of ours are well, anything else is told."""
    try:
        call(hand)
    except (shmpool.ShmpoolError, NothingInHandError):
        pass
    except BaseException as error:  # noqa: BLE001 - whatever it is
        line = call.__code__.co_firstlineno
        bad.append(f"{image}, call at line {line}: {type(error).__name__}: {error}")


def use(seed: str, bad: list[str]) -> None:
    """One pool, from its making to its end."""
    rng = random.Random(seed)
    queues = {
        "jobs": QueueOptions(max_attempts=2, dead_letter="letters"),
        "letters": QueueOptions(maxsize=4, on_death="free"),
    }
    pool = Pool.create(
        classes=[(64, rng.choice((20, 70))), (8192, 1, 3)],
        queues=queues, members=4, header=[("number", "<i4")],
        orphan_grace=0.01, reuse=rng.choice(("warm", "cold")),
    )  # fmt: skip
    hands = [Hand(pool, rng), Hand(Pool.attach(pool.name), rng)]
    for hand in hands:
        populate(hand)
    tampering = Tampering(pool, rng)
    image = f"pool {seed}, {tampering.turned}"
    for call in [*rng.choices(CALLS, k=OPERATIONS), LAST[0]]:
        tampering.do()
        attempt(image, call, rng.choice(hands), bad)
    tampering.do()
    attempt(image, LAST[1], hands[1], bad)
    tampering.undo()
    for hand in hands:
        hand.leases.clear()
        hand.borrows.clear()
    attempt(image, LAST[1], hands[0], bad)


def main(seed: str, pools: str) -> None:
    """Use so many pools."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(HANG, exit=True)
    logging.disable(logging.CRITICAL)  # the reaper tells of whatever it stumbles over
    bad: list[str] = []
    for number in range(int(pools)):
        faulthandler.cancel_dump_traceback_later()
        faulthandler.dump_traceback_later(HANG, exit=True)
        use(f"{seed}-{number}", bad)
    sys.exit("\n".join(bad) or None)


if __name__ == "__main__":
    main(*sys.argv[1:])
