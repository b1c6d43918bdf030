"""The story of a slot: its last transitions, as pools made with debug=True keep them.

Other processes write while we read, and may write anything: an entry is copied, its turn is
looked at before and after, and every field is checked before it is believed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmpool import _core
from shmpool._header import PoolSpec
from shmpool._layout import ControlView, State, Word
from shmpool._sizes import show_age
from shmpool._text import printable

_BEGINS = {"leased", "got", "claimed"}
_SENDS = {"put", "detached"}
_REAPED = {"freed", "requeued", "dead-lettered", "quarantined"}
_ENDS = _REAPED | _SENDS | {"released", "collected", "expired"}
_MOST_HELD = 8  # slots in the message of an exhausted pool


@dataclass(frozen=True, slots=True)
class Transition:
    """Something that happened to a slot of a pool made with `debug=True`.

    `what`: leased, got (from a queue), claimed, shared, borrowed, returned (a borrow ended),
    moved (the lease goes on in a larger slot), put, detached, released, collected (nobody
    released it), expired; and freed, requeued, dead-lettered, quarantined: by the reaper,
    because the holder died. `generation`: under which it happened. `member`, `pid`, `thread`:
    who did it, and of what the reaper did, who died; a name is cut to 32 bytes. `file`, `line`:
    where in the user's code, "" and 0 if nowhere. `queue`: the queue it went to or came from.
    `when_ns`: by the clock of `time.monotonic_ns()`.
    """

    what: str
    generation: int
    member: str
    pid: int
    thread: int
    file: str
    line: int
    queue: str | None
    when_ns: int

    @property
    def who(self) -> str:
        """As people name it: `worker-2 (pid 812)`, with the thread if it is not the main one."""
        side = f", thread {self.thread}" if self.thread not in (0, self.pid) else ""
        return f"{self.member} (pid {self.pid}{side})"

    @property
    def site(self) -> str:
        """The line of the user's code: `render.py:57`; "" if there is none."""
        return f"{self.file}:{self.line}" if self.file else ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, *_by_whom(self)) if part)


def transitions(spec: PoolSpec, view: ControlView, slot: int) -> list[Transition]:
    """What is known of a slot, oldest first: at most 16, none if the pool keeps no history."""
    before = view.turns(slot)
    entries = view.entries(slot)
    # x86-64 loads in order, and a copy is made of loads: the fields were read in between.
    steady = (before == view.turns(slot)) & (before == entries["turn"]) & (before != 0)
    told = []
    for place in np.flatnonzero(steady):
        turn, transition = int(before[place]), _believed(spec, entries[place])
        if transition and (turn - 1) % len(entries) == place:
            told.append((transition.generation, turn, transition))
    # The next holder may have noted its lease before the last one noted the release.
    return [transition for *_, transition in sorted(told, key=lambda entry: entry[:2])]


def _believed(spec: PoolSpec, entry: Any) -> Transition | None:
    what, who, generation = (int(entry[name]) for name in ("what", "who", "generation"))
    event, member, queue, unused = what & 255, what >> 8 & 255, what >> 16 & 255, what >> 24 & 255
    possible = (
        0 < event < len(_core.EVENTS)
        and 0 < member <= spec.members
        and queue <= len(spec.queues)
        and not unused
        and 0 < generation <= _core.GENERATION_MAX
    )
    if not possible:
        return None
    return Transition(
        what=_core.EVENTS[event],
        generation=generation,
        member=_text(entry["name"]) or f"member {member}",
        pid=who >> 32,
        thread=who & (1 << 32) - 1,
        file=_text(entry["file"]),
        line=what >> 32,
        queue=spec.queues[queue - 1].name if queue else None,
        when_ns=int(entry["when_ns"]),
    )


def _text(field: bytes) -> str:
    return printable(bytes(field).split(b"\0")[0].decode(errors="replace"))


def tell(spec: PoolSpec, view: ControlView, slot: int, generation: int | None = None) -> str:
    """The story of a slot, a line for each transition; "" if there is none.

    With `generation`, the line that ended it says so.
    """
    told = transitions(spec, view, slot)
    now, holder = time.monotonic_ns(), _holder(told, view.word(slot))
    rows = [(t.what, *_by_whom(t), _ago(now, t), _remark(t, holder, generation)) for t in told]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    lines = []
    for row in rows:
        what, who, where, ago = (
            cell.rjust(width) if column == 3 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row[:4], widths, strict=True))
        )
        cells = (what, f"{who} {where}", ago, row[4]) if widths[2] else (what, who, ago, row[4])
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def _by_whom(transition: Transition) -> tuple[str, str]:
    if transition.what in _REAPED:
        return f"since {transition.who} died", ""
    return f"by {transition.who}", f"at {transition.site}" if transition.site else ""


def _ago(now: int, transition: Transition) -> str:
    return f"{show_age((now - transition.when_ns) / 1e9)} ago"


def _remark(transition: Transition, holder: Transition | None, generation: int | None) -> str:
    if transition is holder:
        return f"(generation {transition.generation}, still held)"
    if transition.what in _ENDS and transition.generation == generation:
        return f"<- generation {generation} ended here"
    way = {"put": "to", "got": "from", "requeued": "to", "dead-lettered": "from"}
    if transition.queue and transition.what in way:
        return f"({way[transition.what]} queue {transition.queue!r})"
    return ""


def _holder(told: list[Transition], word: Word) -> Transition | None:
    """The transition by which the present holder came to the slot."""
    if word.state not in (State.LEASED, State.SHARED):
        return None
    begins = (t for t in reversed(told) if t.what in _BEGINS)
    return next((t for t in begins if t.generation == word.generation), None)


def site_of(spec: PoolSpec, view: ControlView, slot: int, kind: str, pid: int) -> str:
    """The line by which a process came to hold a slot; "" if it is not known.

    `kind`: leased, shared, borrowed, or queued for what it has sent on.
    """
    if not spec.diagnostics.history:
        return ""
    word, told = view.word(slot), transitions(spec, view, slot)
    if kind == "borrowed":
        found = next((t for t in _borrowers(told, word) if t.pid == pid), None)
    elif kind == "queued":
        sent = (t for t in reversed(told) if t.what in _SENDS)
        found = next((t for t in sent if t.generation == word.generation - 1), None)
    else:
        found = _holder(told, word)
    return found.site if found else ""


def held(spec: PoolSpec, view: ControlView, first: int, known: Container[int]) -> list[str]:
    """Who has the slots from number `first` on, longest first, a line for each of a few.

    Without those that are `known`; none if the pool keeps no history.
    """
    now = time.monotonic_ns()
    lines = []
    for slot in _oldest(view, first, known) if spec.diagnostics.history else []:
        word, told = view.word(slot), transitions(spec, view, slot)
        holder = _holder(told, word)
        holders = [holder] if holder else _borrowers(told, word)
        lines += [f"  slot {slot}: {holder} {_ago(now, holder)}" for holder in holders]
    return lines[:_MOST_HELD]


def _oldest(view: ControlView, first: int, known: Container[int]) -> list[int]:
    """The slots that have been held for longest."""
    states = view.words() & 7
    taken = (states == State.LEASED) | (states == State.SHARED) | (states == State.DRAINING)
    taken[:first] = False
    since = view.slots["since_ns"].copy()
    slots = (slot for slot in np.argsort(since, kind="stable").tolist() if taken[slot])
    return list(itertools.islice((slot for slot in slots if slot not in known), _MOST_HELD))


def _borrowers(told: list[Transition], word: Word) -> list[Transition]:
    """Of a slot that is shared, or that its owner has released: the borrows that are out."""
    if word.state not in (State.SHARED, State.DRAINING):
        return []
    generation = word.generation - (word.state is State.DRAINING)
    out: list[Transition] = []
    for t in told:
        if t.generation != generation:
            continue
        if t.what == "borrowed":
            out.append(t)
        if t.what == "returned":
            # Which of a process's borrows it was is not noted: the oldest.
            mine = next((borrow for borrow in out if borrow.pid == t.pid), None)
            out = [borrow for borrow in out if borrow is not mine]
    return out
