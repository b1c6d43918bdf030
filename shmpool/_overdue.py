"""Leases that are held for too long: told once each, by the coordinator, whoever holds them."""

from __future__ import annotations

import logging
import time
import warnings

import numpy as np

from shmpool import _explain
from shmpool._attachment import Attachment
from shmpool._layout import State
from shmpool.errors import LeakWarning

_LOOK_EVERY = 0.25  # seconds, or a quarter of what is too long

log = logging.getLogger("shmpool.reaper")


class Overdue:
    """Looks through the slot table now and then, and warns of what is held beyond its time."""

    def __init__(self, mapping: Attachment) -> None:
        self._mapping = mapping
        self._view = mapping.view()
        self._limit = mapping.spec.diagnostics.lease_warning_ns
        self._every = min(_LOOK_EVERY * 1e9, self._limit / 4)
        self._next = 0.0
        self._late: set[tuple[int, int]] = set()  # (slot, word) found beyond its time last time
        self._told: set[tuple[int, int]] = set()  # (slot, generation)

    def look(self) -> None:
        """Look, if it is time to."""
        now = time.monotonic_ns()
        if self._limit and now >= self._next:
            self._next = now + self._every
            self._look(now)

    def _look(self, now: int) -> None:
        words = self._view.words()
        since = self._view.slots["since_ns"].copy()
        states = words & 7
        held = (states == State.LEASED) | (states == State.SHARED)
        late = np.flatnonzero(held & (since + np.uint64(self._limit) < now))
        found = {(int(slot), int(words[slot])) for slot in late}
        # A right begins with its word, and its time comes a moment later: believe the second look.
        for slot, word in sorted(found & self._late):
            self._tell_once(slot, word, (now - int(since[slot])) / 1e9)
        self._late = found
        self._told &= {(slot, word >> 16) for slot, word in found}

    def _tell_once(self, slot: int, word: int, seconds: float) -> None:
        if (slot, word >> 16) in self._told:
            return
        self._told.add((slot, word >> 16))
        spec, owner = self._mapping.spec, word >> 8 & 255
        message = (
            f"{_explain.who(self._view, owner)} has held slot {slot}@{word >> 16} of pool "
            f"{spec.name!r} for {seconds:.3g} s, longer than lease_warning="
            f"{self._limit / 1e9:g}: release earlier, or give it more time"
        )
        try:
            warnings.warn(message, LeakWarning, stacklevel=1)
        except Exception:  # noqa: BLE001 - this thread has more to do; nobody else would be told
            extra = {
                "pool": spec.name, "member": self._view.member_name(owner),
                "pid": self._view.pid(owner), "slot": slot, "generation": word >> 16,
                "held": seconds,
            }  # fmt: skip
            log.warning("%s", message, extra=extra)
