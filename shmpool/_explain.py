"""The words of the errors that look into the control block: what a slot is, and of whom."""

from __future__ import annotations

from collections.abc import Sequence

from shmpool import _core, _story
from shmpool._header import PoolSpec
from shmpool._layout import ControlView, State, Word
from shmpool._ticket import Ticket
from shmpool.errors import (
    AlreadyClaimedError,
    AlreadyEndedError,
    NotOwnerError,
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
    return f", read by {few([who(view, member) for member in readers])}" if readers else ""


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


def too_many_members(spec: PoolSpec, view: ControlView) -> TooManyMembersError:
    """The member table is full: of whom."""
    present = [who(view, i) for i in range(1, spec.members + 1) if view.pid(i)]
    message = (
        f"pool {spec.name!r} was made for members={spec.members} and has {len(present)} attached: "
        f"{few(present)}; close some, or create it with more (at most {_core.MAX_MEMBERS})"
    )
    return TooManyMembersError(message, members=spec.members)


def few(names: Sequence[str], most: int = 8) -> str:
    """A list of names, cut off."""
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
