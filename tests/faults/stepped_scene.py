"""The scene of a kill: a pool, its reaper's rounds, and what must hold after each kill.

For every_instruction.py, which has the victims.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import shmpool
from shmpool import Lease, Pool, _audit, _reaper
from shmpool._layout import State, Word

SLOTS = 6
PATIENCE = 60.0  # seconds: a watchdog's; nothing here takes long


class LostError(Exception):
    """A kill has left something behind that nobody can repair."""


class Rounds:
    """The reaper's rounds, to wait for: it is the library's own, only with shorter pauses."""

    def __init__(self) -> None:
        self._over = threading.Condition(threading.RLock())
        self._paused = False
        original, rounds = _reaper.Reaper._round, self

        def one_round(reaper: _reaper.Reaper, ready: list[int]) -> None:
            with rounds._over:
                if not rounds._paused:
                    original(reaper, ready)
                rounds._over.notify_all()

        _reaper.TICK, _reaper._LOOK_EVERY = 0.001, 3
        _reaper.Reaper._round = one_round  # type: ignore[method-assign]

    def wait(self, settled: Callable[[], bool]) -> None:
        """Until a round has left things so. A watchdog says if that never comes."""
        end = time.monotonic() + PATIENCE
        with self._over:
            while not settled():
                if time.monotonic() > end:
                    raise LostError("the reaper does not get on")
                self._over.wait(1)

    def hold(self) -> None:
        """In a forked child, whose reaper is to do nothing by itself."""
        self._paused = True
        self._over.release()  # the parent's main thread had it, and so we do

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Nobody is reaped for the length of the block."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def between(self) -> threading.Condition:
        """A lock to hold while nothing may be reaped."""
        return self._over


class Errors(logging.Handler):
    """What the reaper complains about; there must be nothing."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        cause = record.exc_info[1] if record.exc_info else ""
        self.told.append(f"{record.getMessage()}: {cause!r}")


@dataclass
class Scene:
    """The pool, and what an operation's parts leave to each other."""

    pool: Pool
    rounds: Rounds
    errors: Errors
    kept: dict[str, Any] = field(default_factory=dict)  # set in the coordinator, for one point
    generations: list[int] = field(default_factory=lambda: [1] * SLOTS)

    @property
    def view(self) -> Any:
        """The control block."""
        return self.pool._mapping.view()

    def words(self) -> list[Word]:
        """The slots' words."""
        return self.view.unpacked()

    def lease(self, number: int) -> Lease:
        """A slot with a number in it."""
        lease = self.pool.acquire_nowait()
        lease.array((2,), "u1")[:] = number
        return lease

    def put(self, number: int, queue: str = "a") -> None:
        """A number into a queue."""
        self.pool.queue(queue).put(self.lease(number))

    def totals(self) -> Counter[str]:
        """The reaper's counters."""
        names = ("reaped_leases", "requeued", "dead_lettered", "expired_tickets")
        return Counter({name: int(self.view.status[name]) for name in names})


def settle(scene: Scene) -> None:
    """Until no member but us is left, and no ticket waits to expire."""
    [reaper] = _reaper._all

    def settled() -> bool:
        return scene.view.present() == [1] and not reaper._orphans

    scene.rounds.wait(settled)
    if scene.errors.told:
        raise LostError(f"the reaper logged {scene.errors.told}")


def number_in(lease: Lease) -> str:
    """What a slot says, and how often its holders died."""
    try:
        number = str(lease.array()[0])
    except shmpool.ShapeError:
        number = "undescribed"
    return number + (f"/{lease.attempts}" if lease.attempts else "")


def take_all(scene: Scene, queue: str) -> tuple[list[Lease], str]:
    """Every ticket of a queue as leases, and what they say."""
    leases: list[Lease] = []
    with suppress(shmpool.QueueEmpty):
        while True:
            leases.append(scene.pool.queue(queue).get_nowait())
    said = ",".join(map(number_in, leases))
    return leases, f"{queue}={said}" if leases else ""


def check_sums(scene: Scene, taken: list[Lease]) -> None:
    """Every slot can be had, once: those that were in queues, and the rest by acquire."""
    leases = [*taken, *scene.kept.pop("held", ())]
    with suppress(shmpool.PoolExhaustedError):
        while len(leases) <= SLOTS:
            leases.append(scene.pool.acquire_nowait())
    slots = sorted(lease.slot for lease in leases)
    for lease in leases:
        lease.release()
    if slots != list(range(SLOTS)):
        raise LostError(f"of {SLOTS} slots, these can be had: {slots}")
    if (free := scene.pool.audit()["free"]) != SLOTS:
        raise LostError(f"all is given back, and {free} slots are free")


def check_generations(scene: Scene) -> None:
    """A generation never comes back."""
    now = [word.generation for word in scene.words()]
    if any(new < old for new, old in zip(now, scene.generations, strict=True)):
        raise LostError(f"generations were {scene.generations}, and are {now}")
    scene.generations = now


def rewind(scene: Scene) -> None:
    """Empty rings, as they were: what their cells remember decides which instructions are run.

    They are about to be wrapped, and every cell names a ticket that is over. They have gone on
    by more than a lap: what anybody remembers of head is too old, and is read again.
    """
    view, cells = scene.view, scene.view.rings.shape[1]
    view.rings[:] = int(shmpool.Ticket.of(0, 1))
    laps = int(view.queue_states["tail"].max()) // cells + 2
    view.queue_states["head"] = view.queue_states["tail"] = (laps + 1) * cells - 1


def check_masks(scene: Scene) -> None:
    """Nobody dead is waited on."""
    view = scene.view
    masks = [view.class_states["waiting"]]
    masks += [view.queue_states["waiting"], view.queue_states["waiting_space"]]
    if any(mask.any() for mask in masks):
        raise LostError("the waiting bit of a dead member is left")


def check_torn(scene: Scene, before: list[Word]) -> None:
    """Each word is as before, or as it ought to be; and whoever lives has what it had."""
    spec, view, [dead] = scene.pool._mapping.spec, scene.view, scene.kept["dead"]
    for slot, (old, new) in enumerate(zip(before, scene.words(), strict=True)):
        _audit._check_word(spec, view, slot, new)
        gone = new.owner != dead or new.state is State.QUEUED  # in its name until it is in the ring
        moved = gone and 0 <= new.generation - old.generation <= 1
        if new != old and (old.owner != dead or not moved):
            raise LostError(f"slot {slot} was {old}, and is {new}")
    if scene.kept["held"][0].array().tolist() != [5, 5]:
        raise LostError("a survivor's bytes have changed")
