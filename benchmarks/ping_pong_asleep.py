"""A slot there and back between two processes that sleep, beside two bare semaphores.

Two processes in lock step need not sleep at all: while one makes ready to, the other has
answered already. So each pauses before it sends, until the other is asleep for certain,
and the pause does not count. The further rows do without: on one CPU the two take turns,
asleep or not, and where nothing is pinned it is luck what comes.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Protocol

import posix_ipc

from benchmarks import rally
from benchmarks.measure import Series, compare, interleave
from benchmarks.peer import Echo, Peer, peer
from benchmarks.place import ANY_CPU, ONE_CPU, TWO_CPUS, Places, hold
from benchmarks.result import Outcome, Row, Target
from shmpool import Lease, Pool, Queue

_PAUSE = 100_000  # nanoseconds: many times what going to sleep takes


class Racket(Protocol):
    """One way to hand something to the other process, and to wait for what it hands back."""

    def send(self) -> None:
        """Hand it on."""

    def receive(self) -> None:
        """Sleep until it is here."""


@dataclass
class Semaphores:
    """Hands on nothing: one semaphore for each direction."""

    theirs: posix_ipc.Semaphore
    mine: posix_ipc.Semaphore

    def send(self) -> None:
        """Post."""
        self.theirs.release()

    def receive(self) -> None:
        """Wait."""
        self.mine.acquire()


@dataclass
class Slots:
    """Hands on a slot; the first to send acquires it."""

    pool: Pool
    theirs: Queue
    mine: Queue
    lease: Lease | None = None

    def send(self) -> None:
        """Put."""
        self.theirs.put(self.lease or self.pool.acquire())

    def receive(self) -> None:
        """Get."""
        self.lease = self.mine.get()

    def end(self) -> None:
        """Give the slot back."""
        if self.lease is not None:
            self.lease.release()


@dataclass(frozen=True)
class Match:
    """Where the two run, and how long each pauses before it sends."""

    name: str
    places: Places
    pause: int
    target: Target | None = None


MATCHES = (
    Match("asleep", TWO_CPUS, _PAUSE, Target("ratio", 1.1)),
    Match("one CPU", ONE_CPU, 0),
    Match("lock step", ANY_CPU, 0),
)


def run(*, quick: bool) -> Outcome:
    """Round trips with spin=0: to one who sleeps, on the same CPU, and as it comes."""
    rounds, turns = (2, 50) if quick else (60, 300)
    with ExitStack() as stack:
        ping, pong = (_semaphore(stack) for _ in range(2))
        pool = Pool.create(slots=2, slot_size=4096, queues=rally.QUEUES, spin=0)
        stack.enter_context(pool)
        slots = Slots(pool, pool.queue("ping"), pool.queue("pong"))
        stack.callback(slots.end)
        other = stack.enter_context(peer(build, pool.name, ping.name, pong.name))
        rackets: dict[str, Racket] = {"semaphores": Semaphores(ping, pong), "slots": slots}
        found = [_play(other, match, rackets, rounds, turns) for match in MATCHES]
    rows = [row for match, sides, _ in found for row in _rows(match, *sides)]
    return Outcome.of("ping_pong_asleep", rows, *[note for _, _, note in found])


def _play(
    other: Peer, match: Match, rackets: Mapping[str, Racket], rounds: int, turns: int
) -> tuple[Match, list[Series], str]:
    sleeps: dict[str, list[float]] = {name: [] for name in rackets}
    sides = [
        rally.block(
            other, f"{name}, {match.name}",
            partial(play, racket, match.pause, sleeps[name]), turns, match.places,
        )
        for name, racket in rackets.items()
    ]  # fmt: skip
    series = interleave(rounds, *sides)
    means = (f"{name} {sum(each) / len(each):.2f}" for name, each in sleeps.items())
    return match, series, f"{match.name}: sleeps for each round trip: {', '.join(means)}"


def _rows(match: Match, raw: Series, slot: Series) -> tuple[Row, Row]:
    return (
        Row.of(f"two posix_ipc semaphores, {match.name}", raw, "us"),
        Row.of(f"a slot, spin=0, {match.name}", slot, "us", compare(slot, raw), match.target),
    )


def play(racket: Racket, pause: int, sleeps: list[float], turns: int) -> Sequence[float]:
    """Lead: nanoseconds for each round trip, less the other's pause."""
    clock, times, slept = time.perf_counter_ns, [0] * turns, _sleeps()
    for turn in range(turns):
        hold(pause)
        began = clock()
        racket.send()
        racket.receive()
        times[turn] = clock() - began - pause
    sleeps.append((_sleeps() - slept) / turns)
    return times


def echo(racket: Racket, pause: int, turns: int) -> None:
    """Follow."""
    for _turn in repeat(None, turns):
        racket.receive()
        hold(pause)
        racket.send()


def _sleeps() -> int:
    """How often this thread has gone to sleep."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _semaphore(stack: ExitStack) -> posix_ipc.Semaphore:
    semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=0)
    stack.callback(semaphore.close)
    stack.callback(semaphore.unlink)
    return semaphore


def build(stack: ExitStack, name: str, *names: str) -> Mapping[str, Echo]:
    """Attach to the parent's pool and semaphores, with the directions turned round."""
    ping, pong = (posix_ipc.Semaphore(each) for each in names)
    for semaphore in (ping, pong):
        stack.callback(semaphore.close)
    pool = stack.enter_context(Pool.attach(name, spin=0))
    rackets: dict[str, Racket] = {
        "semaphores": Semaphores(pong, ping),
        "slots": Slots(pool, pool.queue("pong"), pool.queue("ping")),
    }
    return {
        f"{name}, {match.name}": partial(echo, racket, match.pause)
        for name, racket in rackets.items()
        for match in MATCHES
    }
