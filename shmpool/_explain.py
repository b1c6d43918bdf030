"""The words of the errors that look into the control block: who holds what, since when."""

from __future__ import annotations

import time
from collections.abc import Sequence

from shmpool import _core, _story
from shmpool._header import PoolSpec
from shmpool._layout import ControlView, State, Word
from shmpool._sizes import show_size
from shmpool._ticket import Ticket
from shmpool.errors import (
    AlreadyClaimedError,
    AlreadyEndedError,
    NotOwnerError,
    PoolExhaustedError,
    StaleTicketError,
    TooManyMembersError,
)

_ENDINGS = {_core.RELEASED: "released", _core.PUT: "put", _core.DETACHED: "detached"}
_FORKED = -1


def who(view: ControlView, member: int) -> str:
    """A member as people name it: `worker-2 (pid 812)`."""
    return f"{view.member_name(member)} (pid {view.pid(member)})"


def what_it_is(spec: PoolSpec, view: ControlView, slot: int) -> str:
    """What a slot is now, in words, with its generation."""
    word = view.word(slot)
    place = f" in queue {spec.queues[word.queue - 1].name!r}" if _in_queue(spec, word) else ""
    if word.state is State.LEASED:
        taken = place.replace(" in ", " from ")
        return f"leased by {who(view, word.owner)}{taken} under generation {word.generation}"
    if word.state is State.QUEUED:
        way = place or " outside every queue"
        return (
            f"on its way{way} under generation {word.generation}, sent by {who(view, word.owner)}"
        )
    under = f"under generation {word.generation}"
    if word.state is State.SHARED:
        return f"shared by {who(view, word.owner)} {under}{_read_by(view, slot)}"
    if word.state is State.DRAINING:
        return f"released {under}{_read_by(view, slot)}"
    return f"{word.state.name.lower()} {under}{place.replace(' in ', ' from ')}"


def _read_by(view: ControlView, slot: int) -> str:
    readers = view.readers_of(slot)
    return f", read by {_few([who(view, member) for member in readers])}" if readers else ""


def _in_queue(spec: PoolSpec, word: Word) -> bool:
    return 0 < word.queue <= len(spec.queues)


def stale(
    spec: PoolSpec,
    view: ControlView,
    action: str,
    ticket: tuple[int, int],
    ending: tuple[int, int],
) -> StaleTicketError:
    """Why a right is over. `ticket` is (slot, generation), `ending` how the lease ended here."""
    slot, generation = ticket
    how, queue = ending
    if slot >= spec.slots:
        message = (
            f"cannot {action} ticket {slot}@{generation}: pool {spec.name!r} has {spec.slots} slots"
        )
        return StaleTicketError(message, slot=slot, generation=generation)
    word = view.word(slot)
    facts = {
        "slot": slot, "generation": generation, "current_generation": word.generation,
        "state": word.state.name, "holder": view.member_name(word.owner) if word.owner else None,
        "pid": view.pid(word.owner) if word.owner else None,
        "history": _story.transitions(spec, view, slot),
    }  # fmt: skip
    story = _story.tell(spec, view, slot, generation)
    now = f"slot {slot} is now {what_it_is(spec, view, slot)}{_below(story)}"
    if how == _FORKED:
        message = f"cannot {action} {slot}@{generation}: a child inherits no rights; {now}"
        return NotOwnerError(message, **facts)
    if how:
        to = f" to queue {spec.queues[queue - 1].name!r}" if how == _core.PUT else ""
        message = f"cannot {action} {slot}@{generation}: it was {_ENDINGS[how]}{to} before; {now}"
        return AlreadyEndedError(message, **facts)
    if action == "claim" and _is_claimed(word, generation):
        over = "" if word.generation == generation else ", or its time is over"
        message = (
            f"cannot claim ticket {slot}@{generation}: it has been claimed before{over}; {now}"
        )
        return AlreadyClaimedError(message, **facts)
    remedy = _remedy(spec, action, word) if word.generation == generation else ""
    message = f"cannot {action} {slot}@{generation}: {remedy or 'that right is over'}; {now}"
    return StaleTicketError(message, **facts)


def _below(lines: str) -> str:
    return f":\n{lines}" if lines else ""


def _remedy(spec: PoolSpec, action: str, word: Word) -> str:
    """What to do with a ticket that is good, only not for this; "" if it is good for nothing."""
    if word.state is State.QUEUED and action != "peek at":
        return "take it from its queue" if _in_queue(spec, word) else "claim() it"
    if word.state is State.SHARED and action == "claim":
        return "borrow() it"
    if word.state is State.LEASED and action == "borrow":
        return "its holder has to share() it"
    if word.state is State.LEASED and action == "peek at":
        return "its holder may be writing to it"
    return ""


def _is_claimed(word: Word, generation: int) -> bool:
    """Whether the ticket is used up: by a claim, as far as can be told."""
    return word.generation > generation or (
        word.generation == generation and word.state is State.LEASED
    )


def exhausted(
    spec: PoolSpec, view: ControlView, smallest: int, waited: float, starved: int
) -> PoolExhaustedError:
    """No slot that would do is free: who has them, and what may be done.

    `smallest`: the first class that would do; `starved`: bytes that one more slot could not have.
    """
    first = spec.firsts[smallest]
    message = (
        f"{nothing_free(spec, view, smallest, starved)}; none came back in {waited:.3g} s: "
        f"release earlier, pass a longer timeout=, or create the pool with more slots"
        f"{_below(_story.held(spec, view, first))}"
    )
    holders = _holders(view, first)
    return PoolExhaustedError(message, slots=spec.slots, holders=holders, waited=waited)


def nothing_free(spec: PoolSpec, view: ControlView, smallest: int, starved: int) -> str:
    """Where all the slots are that would do: a sentence without its end."""
    first = spec.firsts[smallest]
    count = spec.slots - first
    of_size = "" if smallest == 0 else f" of {show_size(spec.classes[smallest].slot_size)} or more"
    slots = f"the only slot{of_size}" if count == 1 else f"none of the {count} slots{of_size}"
    held = [
        f"{name}: {number} for up to {longest:.1f} s"
        for name, number, longest in _holders(view, first)
    ]
    parts = [*held, *_queued(spec, view, first), *_out_of_use(view, first, starved)]
    is_free = "is not free" if count == 1 else "is free"
    where = f" ({', '.join(parts)})" if parts else ""
    return f"{slots} of pool {spec.name!r} {is_free}{where}"


def _out_of_use(view: ControlView, first: int, starved: int) -> list[str]:
    states = [word.state for word in view.unpacked()[first:]]
    want = f", and {show_size(starved)} for one more are not free in /dev/shm" if starved else ""
    texts = {
        State.QUARANTINED: "in quarantine: see quarantined()",
        State.UNCOMMITTED: f"without memory{want}",
        State.RETIRED: "at the last generation",
    }
    counts = [(states.count(state), text) for state, text in texts.items()]
    return [f"{count} {text}" for count, text in counts if count]


def _holders(view: ControlView, first: int) -> list[tuple[str, int, float]]:
    """Who holds slots from number `first` on: owners, and the readers of what is released."""
    now = time.monotonic_ns()
    held: dict[int, list[float]] = {}
    for slot, word in enumerate(view.unpacked()[first:], first):
        since = max(0.0, (now - int(view.slots["since_ns"][slot])) / 1e9)
        owners = [word.owner] if word.state in (State.LEASED, State.SHARED) else []
        for member in owners or (view.readers_of(slot) if word.state is State.DRAINING else []):
            held.setdefault(member, []).append(since)
    rows = [(who(view, owner), len(ages), max(ages)) for owner, ages in held.items()]
    return sorted(rows, key=lambda row: -row[2])


def _queued(spec: PoolSpec, view: ControlView, first: int) -> list[str]:
    words = view.unpacked()[first:]
    names = ["no queue", *(queue.name for queue in spec.queues)]
    counts = [
        sum(w.state is State.QUEUED and w.queue == n for w in words) for n in range(len(names))
    ]
    return [
        f"{count} {'waits' if count == 1 else 'wait'} in {name if number == 0 else repr(name)}"
        for number, (name, count) in enumerate(zip(names, counts, strict=True))
        if count
    ]


def too_many_members(spec: PoolSpec, view: ControlView) -> TooManyMembersError:
    """The member table is full: of whom."""
    present = [who(view, i) for i in range(1, spec.members + 1) if view.pid(i)]
    message = (
        f"pool {spec.name!r} was made for members={spec.members} and has {len(present)} attached: "
        f"{_few(present)}; close some, or create it with more (at most {_core.MAX_MEMBERS})"
    )
    return TooManyMembersError(message, members=spec.members)


def _few(names: Sequence[str], most: int = 8) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def reason(spec: PoolSpec, death: int, attempts: int) -> str | None:
    """Why a slot is in a dead-letter queue or in quarantine: see `Lease.reason`."""
    pid, letter, queue = death >> 32, death >> 8 & 255, death & 255
    given_up = letter or queue
    if not attempts or not 0 < given_up <= len(spec.queues):
        return None
    name = spec.queues[given_up - 1].name
    times = (
        "once, and its holder" if attempts == 1 else f"{attempts} times, and each time its holder"
    )
    return f"taken from queue {name!r} {times} died of it (the last: pid {pid})"


def ticket_text(slot: int, generation: int) -> str:
    """A right as people name it: `3@41`."""
    return str(Ticket.of(slot, generation))
