"""The tables of `shmpool top`: queues, members, and the slots that are held for longest."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from shmpool._layout import State
from shmpool._life import Life
from shmpool._sizes import show_size
from shmpool.cli import slotmap
from shmpool.cli.grid import BAD, DIM, WARN, Cell, Column, bar, brief, rule, short, table
from shmpool.cli.motion import SORTS, Hold, MemberMotion, Motion, QueueMotion
from shmpool.cli.wishes import Wishes

_BAR = 10
_QUEUE = (
    Column("QUEUE", 14, right=False),
    Column("TICKETS", 7),
    Column("", _BAR, right=False, grows=True),
    Column("IN/s", 6),
    Column("OUT/s", 6),
    Column("OLDEST", 7),
    Column("p50", 7, from_width=100),
    Column("WAITING", 16, right=False),
    Column("FOR ROOM", 16, right=False, from_width=120),
)


def queues(of: Motion, width: int, count: int) -> Iterator[Text]:
    """A line for each queue; of too many, for those with most traffic."""
    if not count:
        return
    busiest = sorted(of.queues, key=lambda queue: -queue.put - queue.got - queue.length)
    kept = {queue.name for queue in busiest[:count]}
    rows = [_queue(of, queue, width) for queue in of.queues if queue.name in kept]
    which = f"the {count} busiest; " if count < len(of.queues) else ""
    note = f"{which}bars: of maxsize, or of all slots"
    yield rule(many(len(of.queues), "queue"), note, width)
    yield from table(_QUEUE, rows, width)


def _queue(of: Motion, queue: QueueMotion, width: int) -> list[Cell]:
    fixed = sum(c.width + 1 for c in _QUEUE if c.from_width <= width)
    filled = bar(queue.length / (queue.maxsize or of.slots), _BAR + max(0, width - fixed))
    waiting = "closed" if queue.closed else ", ".join(queue.waiting)
    if width < 120 and queue.waiting_for_room:
        waiting = f"room: {', '.join(queue.waiting_for_room)}"
    return [
        (queue.name, "bold"),
        f"{queue.length}",
        (filled, slotmap.MARKS[State.QUEUED].colour),
        _rate(queue.put),
        _rate(queue.got),
        brief(queue.ages.oldest),
        brief(queue.ages.p50),
        (waiting or "-", WARN if queue.closed else DIM if not waiting else ""),
        (", ".join(queue.waiting_for_room) or "-", DIM if not queue.waiting_for_room else ""),
    ]


def _rate(number: float) -> Cell:
    return (short(number), "" if number else DIM)


def many(count: int, what: str) -> str:
    """So many of a kind."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


_MEMBER = (
    Column("", 1, right=False),
    Column("MEMBER", 14, right=False),
    Column("PID", 7),
    Column("HELD", 4),
    Column("LONGEST", 7),
    Column("ACQ/s", 5),
    Column("GOT/s", 5),
    Column("PUT/s", 5),
    Column("REL/s", 5, from_width=100),
    Column("BORROW/s", 8, from_width=120),
    Column("BYTES/s", 10, from_width=110),
    Column("WAIT", 4),
    Column("STALE", 5),
    Column("NOW", 10, right=False, grows=True),
)


def members(of: Motion, wishes: Wishes, width: int, count: int) -> Iterator[Text]:
    """A line for each member, in the order that is wished for, from the one that is."""
    if not count:
        return
    order = sorted(of.members, key=SORTS[wishes.sort], reverse=wishes.reversed)
    skip = max(0, min(wishes.skip, len(order) - count))
    rows = [_member(member) for member in order[skip : skip + count]]
    turned = ", reversed" if wishes.reversed else ""
    these = f", {skip + 1} to {skip + len(rows)}" if len(rows) < len(order) else ""
    note = f"by {wishes.sort}{turned}{these}"
    yield rule(many(len(of.members), "member"), note, width)
    yield from table(_MEMBER, rows, width)


def _member(member: MemberMotion) -> list[Cell]:
    flow = member.flow
    now, style = _doing(member)
    return [
        (slotmap.letter(member.index), slotmap.MARKS[State.LEASED].tile),
        (member.name, "bold"),
        f"{member.pid}",
        (f"{member.held}", "" if member.held else DIM),
        (brief(member.longest), "" if member.held else DIM),
        _rate(flow.acquired),
        _rate(flow.got + flow.claimed),
        _rate(flow.put),
        _rate(flow.released),
        _rate(flow.borrowed),
        (show_size(flow.received), "" if flow.received else DIM),
        (f"{min(100, round(100 * flow.waiting))}%", "" if flow.waiting else DIM),
        (short(member.stale), f"bold {BAD}" if member.stale else DIM),
        (now, style),
    ]


def _doing(member: MemberMotion) -> tuple[str, str]:
    if member.life is Life.DEAD or member.standing == "dead":
        return "dead", f"bold {BAD}"
    if member.standing != "active":
        return member.standing, WARN
    if member.waits_for:
        return f"waits: {', '.join(member.waits_for)}", WARN
    return ("alive", "") if member.life is Life.ALIVE else ("life unknown", WARN)


_HOLD = (
    Column("", 2, right=False),
    Column("SLOT", 5),
    Column("FOR", 7),
    Column("STATE", 8, right=False),
    Column("BY", 14, right=False, grows=True),
    Column("PID", 7),
    Column("FROM", 12, right=False),
    Column("SIZE", 10),
    Column("GENERATION", 10, from_width=90),
)


def longest(of: Motion, width: int, count: int) -> Iterator[Text]:
    """A line for each slot that somebody has a right to, those held for longest first."""
    if not count:
        return
    rows = [_hold(hold) for hold in of.longest[:count]]
    which = f"the longest {len(rows)}" if len(rows) < of.holds.count else "longest first"
    yield rule(f"{of.holds.count} held", which, width)
    yield from table(_HOLD, rows, width)


def _hold(hold: Hold) -> list[Cell]:
    mark = slotmap.MARKS[State[hold.state.upper()]]
    who = slotmap.letter(hold.member) if hold.member is not None else " "
    by = ", ".join(hold.holders) if hold.member is not None else f"read by {_or_nobody(hold)}"
    return [
        (f"{mark.symbol}{who}", mark.tile),
        f"{hold.slot}",
        (brief(hold.age), "bold"),
        hold.state,
        by,
        f"{hold.pid}" if hold.pid else "-",
        (hold.queue or "-", "" if hold.queue else DIM),
        show_size(hold.slot_size),
        f"{hold.generation}",
    ]


def _or_nobody(hold: Hold) -> str:
    return ", ".join(hold.holders) or "nobody"
