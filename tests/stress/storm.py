"""Workers that use a pool in every way until they are killed, each with a log that outlives it.

A log is a mapped file of fixed records, written before and after each operation with the
time. Its last field makes a record valid, so a record half written is none.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

import shmpool
from shmpool import Borrow, Lease, Pool, Ticket

QUEUES = ("plain", "narrow", "poison", "letters", "given up", "held out")
SMALL, LARGE = 4096, 16384
WORDS = SMALL // 8  # of a slot that carry its stamp
BOARD = 4  # tickets that everybody sees
LOG_BYTES = 4 << 20
RECORD = struct.Struct("<QQQQQ")


class Kind(IntEnum):
    """What a record says. Rights begin after the call returned and end before the next begins."""

    BEGIN = 1  # a lease by acquire
    GOT = 2  # a lease by get or claim: stamp, queue (0: claimed), attempts
    END = 3  # the lease is about to end, in whatever way
    RESUME = 4  # it did not
    SENDING = 5  # the ticket that put or detach is about to make: stamp, queue (0: detach)
    SENT = 6
    SHARING = 7  # stamp
    BORROWED = 8  # stamp
    BORROW_END = 9
    PEEKED = 10  # stamp
    MOVING = 11  # a lease is about to go on in a larger slot: stamp, queue 1 if it was received
    REFUSED = 12  # a ticket that was over
    CLAIMING = 13  # a ticket about to be claimed from quarantine: attempts


@dataclass(frozen=True, slots=True)
class Event:
    """One record."""

    time: int
    ticket: int
    stamp: int
    queue: int
    attempts: int
    kind: Kind


class Log:
    """A log that its writer may be killed in."""

    def __init__(self, path: Path) -> None:
        with path.open("wb+") as file:
            file.truncate(LOG_BYTES)
            self._memory = mmap.mmap(file.fileno(), LOG_BYTES)
        self._at = 0

    def __call__(
        self, kind: Kind, ticket: int, stamp: int = 0, queue: int = 0, attempts: int = 0
    ) -> None:
        """Append a record. A full log is the end of its writer's work: it waits to be killed."""
        if self._at + RECORD.size > LOG_BYTES:
            signal.pause()
        now = time.monotonic_ns()
        RECORD.pack_into(self._memory, self._at, now, ticket, stamp, queue << 32 | attempts, kind)
        self._at += RECORD.size


def read_log(path: Path) -> Iterator[Event]:
    """The valid records of a log."""
    for now, ticket, stamp, extra, kind in RECORD.iter_unpack(
        path.read_bytes()[: LOG_BYTES // RECORD.size * RECORD.size]
    ):
        if not kind:
            return
        yield Event(now, ticket, stamp, extra >> 32, extra & 0xFFFFFFFF, Kind(kind))


@dataclass(slots=True)
class Held:
    """A lease in a worker's hands, and the stamp in its slot."""

    lease: Lease
    stamp: int
    received: bool


class Worker:
    """One life: random operations, each told to the log, until the kill."""

    def __init__(
        self, number: int, pool: Pool, log: Log, pipe: tuple[int, int], board: Any
    ) -> None:
        self._random = random.Random(number)
        self._pool = pool
        self._log = log
        self._read, self._write = pipe
        self._board = board
        self._stamps = number << 32
        self._held: list[Held] = []
        self._shares: list[Held] = []
        self._borrows: list[tuple[Borrow, int]] = []
        self._over: list[tuple[Lease, Ticket]] = []
        self._sent: list[tuple[Ticket, int]] = []

    def work(self) -> None:
        """Go on until killed."""
        actions: list[Callable[[], None]] = [
            self.acquire, self.acquire, self.get, self.get, self.get, self.put, self.put,
            self.put, self.release, self.detach, self.claim, self.claim_held_out, self.share,
            self.unshare, self.borrow, self.borrow, self.borrow, self.give_back, self.peek,
            self.move, self.trim_or_grow, self.use_what_is_over,
        ]  # fmt: skip
        while True:
            self._random.choice(actions)()
            while len(self._held) > 2:
                self.release()

    def _pop(self) -> Held | None:
        if not self._held:
            return None
        held = self._held.pop(self._random.randrange(len(self._held)))
        assert stamp_of(held.lease) == held.stamp, f"{held.lease} was written to by another"
        return held

    def acquire(self) -> None:
        """Lease a slot of any size, and stamp it."""
        nbytes = self._random.choice((None, 1, SMALL, SMALL + 1, LARGE))
        with suppress(shmpool.PoolExhaustedError):
            lease = self._pool.acquire(nbytes, timeout=self._random.choice((0, 0.004)))
            self._log(Kind.BEGIN, lease.ticket)
            self._stamps += 1
            lease.array((WORDS,), "i8")[:] = self._stamps
            self._held.append(Held(lease, self._stamps, received=False))

    def get(self) -> None:
        """Take a ticket from some queue."""
        number = self._random.randrange(len(QUEUES))
        with suppress(shmpool.QueueEmpty):
            timeout = self._random.choice((0, 0, 0.004))
            lease = self._pool.queue(QUEUES[number]).get(timeout=timeout)
            self._receive(lease, number + 1)

    def _receive(self, lease: Lease, queue: int) -> None:
        stamp = stamp_of(lease)
        self._log(Kind.GOT, lease.ticket, stamp, queue, lease.attempts)
        self._held.append(Held(lease, stamp, received=True))

    def release(self) -> None:
        """End a lease, in words or by forgetting it."""
        if (held := self._pop()) is None:
            return
        lease = held.lease
        self._remember(lease)
        self._log(Kind.END, lease.ticket)
        if self._random.random() < 0.5:
            lease.release()
        else:
            held.lease = None  # type: ignore[assignment] # collected, if nobody remembers it

    def _remember(self, lease: Lease) -> None:
        """Keep some rights beyond their end."""
        if self._random.random() < 0.3 and len(self._over) < 50:
            self._over.append((lease, lease.ticket))

    def put(self) -> None:
        """Send a lease on by some queue."""
        if (held := self._pop()) is None:
            return
        lease = held.lease
        number = self._random.randrange(len(QUEUES))
        ticket = Ticket.of(lease.slot, lease.generation + 1)
        old = lease.ticket
        self._log(Kind.END, old)
        self._log(Kind.SENDING, ticket, held.stamp, number + 1)
        try:
            self._pool.queue(QUEUES[number]).put(lease, timeout=self._random.choice((0, 0.002)))
        except shmpool.QueueFull:
            self._log(Kind.RESUME, old)
            self._held.append(held)
            return
        self._log(Kind.SENT, ticket)
        self._over.append((lease, old))
        self._sent.append((ticket, held.stamp))
        del self._sent[:-20], self._over[:-50]

    def detach(self) -> None:
        """Send a lease on by the pipe, if that has room."""
        if (held := self._pop()) is None:
            return
        lease = held.lease
        self._log(Kind.END, lease.ticket)
        self._log(Kind.SENDING, Ticket.of(lease.slot, lease.generation + 1), held.stamp)
        ticket = lease.detach()
        self._log(Kind.SENT, ticket)
        self._sent.append((ticket, held.stamp))
        with suppress(BlockingIOError):
            os.write(self._write, ticket.to_bytes(8, "little"))
            return
        self._claim(ticket)

    def claim(self) -> None:
        """Take a ticket from the pipe."""
        with suppress(BlockingIOError):
            self._claim(int.from_bytes(os.read(self._read, 8), "little"))

    def _claim(self, ticket: int) -> None:
        # Refused if its sender has been dead for longer than the grace.
        with suppress(shmpool.StaleTicketError):
            self._receive(self._pool.claim(ticket), 0)

    def claim_held_out(self) -> None:
        """Take what the dead have left in quarantine."""
        for quarantined in self._pool.quarantined()[:2]:
            self._log(Kind.CLAIMING, quarantined.ticket, attempts=quarantined.attempts)
            self._claim(quarantined.ticket)  # or another was quicker

    def share(self) -> None:
        """Share a lease, and tell everybody."""
        if (held := self._pop()) is None:
            return
        self._log(Kind.SHARING, held.lease.ticket, held.stamp)
        ticket = held.lease.share()
        self._board[self._random.randrange(BOARD)] = int(ticket)
        self._shares.append(held)
        while len(self._shares) > 2:
            self.unshare()

    def unshare(self) -> None:
        """End the oldest lease that is shared."""
        if not self._shares:
            return
        held = self._shares.pop(0)
        assert stamp_of(held.lease) == held.stamp, f"{held.lease} was written to"
        self._remember(held.lease)
        self._log(Kind.END, held.lease.ticket)
        held.lease.release()

    def borrow(self) -> None:
        """Read along by a ticket on the board."""
        ticket = int(self._random.choice(self._board))
        with suppress(shmpool.StaleTicketError):  # its owner is done with it, or nobody's yet
            borrow = self._pool.borrow(ticket)
            stamp = stamp_of(borrow)
            self._log(Kind.BORROWED, borrow.ticket, stamp)
            self._borrows.append((borrow, stamp))
        while len(self._borrows) > 3:
            self.give_back()

    def give_back(self) -> None:
        """End a borrow."""
        if not self._borrows:
            return
        borrow, stamp = self._borrows.pop(self._random.randrange(len(self._borrows)))
        assert stamp_of(borrow) == stamp, f"the slot of borrow {borrow} was written to"
        self._log(Kind.BORROW_END, borrow.ticket, stamp)
        borrow.release()

    def peek(self) -> None:
        """Look at what was sent or shared lately."""
        for ticket in [ticket for ticket, _ in self._sent[-3:]] + [
            self._random.choice(self._board)
        ]:
            with suppress(shmpool.StaleTicketError):
                array = self._pool.peek(int(ticket))
                self._log(Kind.PEEKED, int(ticket), stamp_in(array.view("u1")))

    def move(self) -> None:
        """Let a writer outgrow its slot."""
        if (held := self._pop()) is None:
            return
        lease, old = held.lease, held.lease.ticket
        stamped = np.full(WORDS, held.stamp).tobytes()
        file = lease.writer()
        file.write(stamped)
        self._log(Kind.END, old)
        self._log(Kind.MOVING, old, held.stamp, held.received)
        with suppress(shmpool.SlotOverflowError):
            file.write(stamped)
        file.close()
        self._log(Kind.RESUME if lease.ticket == old else Kind.BEGIN, lease.ticket)
        self._held.append(held)

    def trim_or_grow(self) -> None:
        """Give memory back, or fetch some."""
        if self._random.random() < 0.3:
            self._pool.trim()
        elif self._random.random() < 0.3:
            self._pool.grow(1, self._random.choice((SMALL, LARGE)))

    def use_what_is_over(self) -> None:
        """Try rights that have ended, which has to be refused."""
        for lease, ticket in self._random.sample(self._over, min(3, len(self._over))):
            uses: list[Callable[[], object]] = [
                lambda t=ticket: self._pool.claim(t),
                lambda t=ticket: self._pool.borrow(t),
                lambda t=ticket: self._pool.peek(t),
            ]
            if not lease.live:
                uses += [lease.release, lease.share, lease.detach, lambda x=lease: x.array(1, "u1")]
                uses += [lambda x=lease: self._pool.queue("plain").put(x)]
            elif ticket == lease.ticket:
                continue  # not collected: we remember it
            for use in uses:
                with refused():
                    use()
            self._log(Kind.REFUSED, ticket)


@contextmanager
def refused() -> Iterator[None]:
    """Raise AssertionError unless the block raises StaleTicketError."""
    try:
        yield
    except shmpool.StaleTicketError:
        return
    raise AssertionError("a right that was over has been used")


def stamp_of(right: Lease | Borrow) -> int:
    """The stamp in a slot, which has to be the same in all its words."""
    with memoryview(right) as view:
        return stamp_in(view)


def stamp_in(memory: Any) -> int:
    """The same of any bytes."""
    words = np.frombuffer(memory, "i8", WORDS)
    assert (words == words[0]).all(), f"torn: {set(words.tolist())}"
    return int(words[0])


def live(number: int, folder: Path, pool: Pool, pipe: tuple[int, int], board: Any) -> None:
    """Run one worker. Ends in no way but by a kill, or with an error that is written down."""
    try:
        Worker(number, pool, Log(folder / f"{number}.log"), pipe, board).work()
    except BaseException:  # noqa: BLE001 - it is the test's to judge
        (folder / f"{number}.error").write_text(traceback.format_exc())
    finally:
        os._exit(3)


def rage(pool: Pool, folder: Path, workers: int, numbers: range, seed: int) -> None:
    """Fork workers with these numbers, kill one at a random moment and fork the next; then all.

    Adds to `deaths.json`: for each worker the time before it was killed.
    """
    chance = random.Random(seed + numbers.start)
    pipe = os.pipe()
    for end in pipe:
        os.set_blocking(end, False)
    board = np.frombuffer(mmap.mmap(-1, BOARD * 8), "u8")
    alive: dict[int, int] = {}  # number -> pid
    deaths: dict[int, int] = {}
    for number in numbers:
        if (pid := os.fork()) == 0:
            live(number, folder, pool, pipe, board)
        alive[number] = pid
        if len(alive) == workers:
            # A random moment: of a life that has only begun, too.
            time.sleep(chance.choice((0, 0.001, 0.02)) * chance.random())
            kill(chance.choice([*alive, number]), alive, deaths)
    for number in list(alive):
        kill(number, alive, deaths)
    (folder / "deaths.json").write_text(json.dumps(times_of_death(folder) | deaths))
    pool.close()


def times_of_death(folder: Path) -> dict[int, int]:
    """Of each worker that was killed up to now."""
    with suppress(FileNotFoundError):
        told = json.loads((folder / "deaths.json").read_text())
        return {int(number): time for number, time in told.items()}
    return {}


def kill(number: int, alive: dict[int, int], deaths: dict[int, int]) -> None:
    """Kill a worker, and note when."""
    pid = alive.pop(number)
    deaths[number] = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
