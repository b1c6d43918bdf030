"""The reaper: the coordinator's thread that gives back what dead members held.

It sleeps in poll() on a pidfd for each member, so that a death wakes it at once, and
looks at the member table for newcomers every TICK. Nobody else ever declares anybody dead.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from shmpool._attachment import Attachment
from shmpool._doorbell import hang_bell, take_down_bell
from shmpool._header import PAGE
from shmpool._layout import Standing
from shmpool._overdue import Overdue
from shmpool._process import Identity, open_pidfd, start_thread
from shmpool._segment import out_of_memory

TICK = 0.02  # seconds until a new member is watched
_LOOK_EVERY = 50  # rounds
_BECAME = ("freed", "requeued", "dead_lettered", "quarantined")  # of slots of the dead
_BELLS_AHEAD = 8  # semaphores hung up before their members come

log = logging.getLogger("shmpool.reaper")

_all: weakref.WeakSet[Reaper] = weakref.WeakSet()


class _Watched(NamedTuple):
    member: int
    identity: int  # as in the table when the pidfd was opened


class Reaper:
    """Watches members from a thread of the coordinator, from `start()` to `stop()`."""

    def __init__(self, mapping: Attachment) -> None:
        self._mapping = mapping
        self._view = mapping.view()
        self._overdue = Overdue(mapping)
        self._poll = select.poll()
        self._watched: dict[int, _Watched] = {}  # by pidfd
        self._joins_seen = -1
        self._rounds = 0
        self._orphans: list[tuple[float, int, int]] = []  # (when, slot, word)
        self._bells = 1  # member indices below this have one
        self._stopping = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll.register(self._stopping, select.POLLIN)
        with self._undone_on_error():
            self._hang_bells_beyond(mapping.me)
        _all.add(self)
        name = f"shmpool-reaper-{mapping.spec.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        try:
            with self._undone_on_error():
                start_thread(self._thread)
        except OSError:
            del self._thread  # it refers to us: the pool's memory goes now, not some day
            raise

    def stop(self) -> None:
        """Stop watching, and take down the doorbells. Blocks for one round of the thread."""
        os.eventfd_write(self._stopping, 1)
        self._thread.join()
        self._undo()

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        self.disown()
        for member in range(1, self._bells):
            take_down_bell(self._mapping.spec.name, member)

    def disown(self) -> None:
        """Close the descriptors: all that a forked child has to do."""
        # First, so that a child has nothing to close: by then the numbers may be of other files.
        _all.discard(self)
        for pidfd in (self._stopping, *self._watched):
            os.close(pidfd)
        self._watched.clear()

    def _run(self) -> None:
        while True:
            ready = [fd for fd, _ in self._poll.poll(TICK * 1000)]
            if self._stopping in ready:
                return
            try:
                self._round(ready)
            except Exception:  # a reaper that is gone helps nobody
                self._joins_seen = -1  # whatever was not done is done in the next round
                with suppress(Exception):  # of somebody's handler
                    name = self._mapping.spec.name
                    log.exception("reaper of pool %r", name, extra={"pool": name})

    def _round(self, ready: list[int]) -> None:
        for pidfd in ready:
            entry = self._watched[pidfd]
            self._forget(pidfd)
            self._bury(entry.member)
        joins = int(self._view.status["joins"])
        self._rounds += 1
        # Now and then in any case: one may have been killed before it could say that it joined.
        if joins != self._joins_seen or self._rounds % _LOOK_EVERY == 0:
            self._meet_members()
            self._joins_seen = joins
        self._expire_orphans()
        self._overdue.look()

    # Newcomers and those who leave.

    def _meet_members(self) -> None:
        watched = {entry.member: (pidfd, entry) for pidfd, entry in self._watched.items()}
        present = self._view.present()
        failures = []
        for member in present:
            if member == self._mapping.me:
                continue
            try:
                self._meet(member, *watched.get(member, (None, None)))
            except Exception as error:  # noqa: BLE001 - the others are met all the same
                failures.append(error)
        if failures:
            raise failures[0]  # the next round tries all of them again
        self._hang_bells_beyond(max(present, default=0))

    def _meet(self, member: int, pidfd: int | None, entry: _Watched | None) -> None:
        if self._view.standing(member) is Standing.LEFT:
            self._part(member, pidfd)
        elif entry is None or entry.identity != int(self._view.members["identity"][member]):
            self._watch(member, pidfd)

    def _watch(self, member: int, old: int | None) -> None:
        if old is not None:
            self._forget(old)
        record = self._view.members[member]
        identity = int(record["identity"])
        process = Identity(identity >> 8)
        if identity & 255 == Standing.ACTIVE:
            numbers = int(record["start_time"]), int(record["pidfd_inode"])
            process = Identity(identity >> 8, *numbers)
        pidfd = open_pidfd(process)
        if pidfd is None:
            self._bury(member)
            return
        self._watched[pidfd] = _Watched(member, identity)
        self._poll.register(pidfd, select.POLLIN)

    def _part(self, member: int, pidfd: int | None) -> None:
        """A member has left in good order: what it sent on is now ours to look after."""
        if pidfd is not None:
            self._forget(pidfd)
        self._reap(member)

    def _forget(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        del self._watched[pidfd]
        os.close(pidfd)

    def _hang_bells_beyond(self, present: int) -> None:
        last = min(present + _BELLS_AHEAD, self._mapping.spec.members)
        for member in range(self._bells, last + 1):
            try:
                hang_bell(self._mapping.spec.name, member)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise out_of_memory(PAGE, "a doorbell") from error
                raise
            self._bells = member + 1
        self._view.status["doorbells"] = self._bells

    # The dead.

    def _bury(self, member: int) -> None:
        name, pid = self._view.member_name(member), self._view.pid(member)
        numbers = self._reap(member)
        if any(numbers):
            message = (
                "%s (pid %d) died: %d slots freed, %d requeued, %d to the dead letter, "
                "%d to quarantine"
            )
            extra = {"pool": self._mapping.spec.name, "member": name, "pid": pid}
            extra |= dict(zip(_BECAME, numbers, strict=True))
            log.warning(message, name, pid, *numbers, extra=extra)

    def _reap(self, member: int) -> tuple[int, int, int, int]:
        mapping = self._mapping
        freed, requeued, letters, quarantined, _adopted, detached = mapping.reap(member)
        due = time.monotonic() + mapping.spec.orphan_grace_ns / 1e9
        self._orphans += [(due, slot, word) for slot, word in detached]
        repaired = mapping.repair()
        # Before anybody is woken: who was waiting may look at the numbers next.
        self._count(
            reaped_members=1, reaped_leases=freed, requeued=requeued,
            dead_lettered=letters, quarantined=quarantined, repaired_bits=repaired,
        )  # fmt: skip
        mapping.ring_all()
        mapping.vacate(member)
        return freed, requeued, letters, quarantined

    def _expire_orphans(self) -> None:
        """Free the slots of tickets outside every queue whose sender is gone and nobody claims."""
        now = time.monotonic()
        due = [orphan for orphan in self._orphans if orphan[0] <= now]
        if not due:
            return
        self._orphans = [orphan for orphan in self._orphans if orphan[0] > now]
        expired = sum(self._mapping.expire(slot, word) for _, slot, word in due)
        self._count(expired_tickets=expired)
        self._mapping.ring_all()

    def _count(self, **by: int) -> None:
        for name, number in by.items():
            self._view.status[name] += number


def _after_fork_in_child() -> None:
    for reaper in list(_all):
        reaper.disown()
    _all.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
