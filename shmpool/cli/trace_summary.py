"""What a trace comes to: hand-offs, holds, waits, and what was lost. As data, and as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shmpool import _core
from shmpool._sizes import show_age
from shmpool._text import printable
from shmpool.cli.table import table
from shmpool.cli.timeline import Span, Timeline, Wait, Who, by_member, percentile

_LONGEST = 5
_QUEUES = "QUEUE HAND-OFFS PER-SECOND P50 P99 MAX"
_MEMBERS = "MEMBER PID EVENTS HOLDS P50 P99 MAX HELD WAITS WAITED LOST"


def summary(line: Timeline) -> dict[str, Any]:
    """All of it. Times in seconds."""
    recording = line.recording
    lost = recording.lost
    return {
        "pool": recording.spec.name,
        "seconds": recording.seconds,
        "events": len(recording.events),
        "lost": sum(lost.values()),
        "misfits": line.misfits,
        "queues": [_queue(line, number) for number in _channels(line)],
        "members": _members(line),
        "longest_holds": [_hold(line, span) for span in _longest(line.holds())],
        "longest_waits": [wait(line, one) for one in _longest(line.waits)],
        "stale": sum(mark.kind == "stale" for mark in line.marks),
        "died": sorted({line.name(m.who) for m in line.marks if m.kind == "died"}),
    }


def _channels(line: Timeline) -> list[int]:
    """Numbers of all queues, and 0 if tickets went by another way."""
    outside = [0] if any(handoff.queue == 0 for handoff in line.handoffs) else []
    return [*range(1, len(line.recording.spec.queues) + 1), *outside]


def _queue(line: Timeline, number: int) -> dict[str, Any]:
    latencies = [handoff.latency for handoff in line.handoffs if handoff.queue == number]
    rate = len(latencies) / line.recording.seconds if line.recording.seconds else 0.0
    name = line.queue(number) or None
    return {"name": name, "handoffs": len(latencies), "per_second": rate, **_spread(latencies)}


def _spread(lengths: list[int]) -> dict[str, float]:
    return {
        "p50": percentile(lengths, 0.5) / 1e9,
        "p99": percentile(lengths, 0.99) / 1e9,
        "max": max(lengths, default=0) / 1e9,
    }


def _members(line: Timeline) -> list[dict[str, Any]]:
    held, waits = by_member(line.holds()), by_member(line.waits)
    return [
        _member(line, who, [x.length for x in held.get(who, [])],
                [x.length for x in waits.get(who, [])])
        for who in line.members
    ]  # fmt: skip


def _member(line: Timeline, who: Who, held: list[int], waits: list[int]) -> dict[str, Any]:
    events = line.recording.events
    mine = (events["ring"] == who.member) & (events["pid"] == who.pid)
    return {
        "name": line.name(who),
        "pid": who.pid,
        "events": int(mine.sum()),
        "holds": len(held),
        **_spread(held),
        "held": sum(held) / 1e9,  # slot seconds
        "waits": len(waits),
        "waited": sum(waits) / 1e9,
        "lost": line.recording.lost.get(who.member, 0),
    }


def _longest(things: Iterable[Any]) -> list[Any]:
    return sorted(things, key=lambda thing: -thing.length)[:_LONGEST]


def _hold(line: Timeline, span: Span) -> dict[str, Any]:
    return {
        "slot": span.slot,
        "generation": span.generation,
        "member": line.name(span.who) if span.who else None,
        "seconds": span.length / 1e9,
        "until": span.until or None,
    }


def wait(line: Timeline, one: Wait) -> dict[str, Any]:
    """One wait, in words."""
    return {
        "member": line.name(one.who),
        "seconds": one.length / 1e9,
        "for": waited_for(line, one),
        "over": one.over,
    }


def waited_for(line: Timeline, one: Wait) -> str:
    """What a member waited for."""
    match one.kind:
        case _core.FOR_TICKET:
            return f"a ticket of queue {line.queue(one.number)!r}"
        case _core.FOR_SPACE:
            return f"room in queue {line.queue(one.number)!r}"
        case _:
            return "a free slot"


def text(told: dict[str, Any]) -> str:
    """As people read it."""
    seconds, events, lost = told["seconds"], told["events"], told["lost"]
    parts = [f"{told['pool']}: {seconds:.1f} s, {events:,} events, {lost:,} lost"]
    if told["misfits"]:
        parts[0] += (
            f"; {told['misfits']:,} do not follow from those before: what is there is a guess"
        )
    queues = [[q["name"] or "(tickets)", q["handoffs"], f"{q['per_second']:.1f}", *_times(q)]
              for q in told["queues"]]  # fmt: skip
    if queues:
        parts.append(table(_QUEUES.split(), queues, right=_QUEUES[6:]))
    members = [
        [m["name"], m["pid"], m["events"], m["holds"], *_times(m), show_time(m["held"]),
         m["waits"], show_time(m["waited"]), m["lost"]] for m in told["members"]
    ]  # fmt: skip
    parts.append(table(_MEMBERS.split(), members, right=_MEMBERS[7:]))
    parts.append("\n".join(printable(line) for line in _lines(told)))
    return "\n\n".join(part for part in parts if part)


def _lines(told: dict[str, Any]) -> list[str]:
    held = [
        f"held longest: slot {h['slot']} by {h['member']} for {show_time(h['seconds'])}"
        f"{'' if h['until'] else ', still held'}"
        for h in told["longest_holds"][:1]
    ]
    waited = [
        f"waited longest: {w['member']} for {w['for']}, {show_time(w['seconds'])}"
        f"{'' if w['over'] else ', still waiting'}"
        for w in told["longest_waits"][:1]
    ]
    stale = [f"stale rights used: {told['stale']}"] if told["stale"] else []
    died = [f"died: {', '.join(told['died'])}"] if told["died"] else []
    return held + waited + stale + died


def _times(spread: dict[str, float]) -> list[str]:
    return [show_time(spread[name]) for name in ("p50", "p99", "max")]


def show_time(seconds: float) -> str:
    """A short time as people read it: `-` for none.

    >>> show_time(0), show_time(2.1e-6), show_time(0.0153)
    ('-', '2.10 us', '15.3 ms')
    """
    return show_age(seconds) if seconds else "-"
