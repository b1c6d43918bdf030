"""What `shmpool inspect` shows of a pool and of a slot: as values for JSON, and as text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from shmpool import _core, _description, _explain, _story
from shmpool._header import LEAKS, ON_DEATH, REUSE, VIEWS
from shmpool._layout import SHEET, State, bits_of
from shmpool._look import Look
from shmpool._sizes import show_age, show_size
from shmpool._statistics import PoolStatistics
from shmpool._text import printable
from shmpool.cli.ls import pool_state, show_time
from shmpool.cli.table import table
from shmpool.errors import CorruptSegmentError

_MOST = 20  # slots in use that are listed
_UNUSED = (State.FREE, State.UNCOMMITTED, State.RETIRED)
Values = dict[str, Any]


def pool(seen: Look) -> Values:
    """The whole pool. Raises CorruptSegmentError."""
    spec, statistics, in_use = seen.spec, seen.statistics(), list(_in_use(seen))
    return {
        "name": spec.name,
        "state": pool_state(seen),
        "coordinator": spec.coordinator._asdict() | {"life": seen.coordinator},
        "pid_namespace": spec.pid_namespace,
        "uid": spec.uid,
        "created": spec.created_ns / 1e9,
        "options": _options(seen),
        "record": str(spec.record) if spec.record is not None else None,
        "payload_bytes": statistics.payload_bytes,
        "control_bytes": statistics.control_bytes,
        "slots": {state.name.lower(): getattr(statistics, state.name.lower()) for state in State},
        "classes": [asdict(c) | {"committed_bytes": c.committed_bytes} for c in statistics.classes],
        "queues": [_queue(seen, number) for number in range(1, len(spec.queues) + 1)],
        "members": _members(seen, statistics, in_use),
        "in_use": in_use,
    }


def _options(seen: Look) -> Values:
    spec, watched = seen.spec, seen.spec.diagnostics
    return {
        "reuse": REUSE[spec.reuse],
        "views": VIEWS[spec.views],
        "leaks": LEAKS[watched.leaks],
        "poison": watched.poison,
        "history": watched.history,
        "lease_warning": watched.lease_warning_ns / 1e9 or None,  # seconds
        "orphan_grace": spec.orphan_grace_ns / 1e9,
        "members": spec.members,  # at most
    }


def _queue(seen: Look, number: int) -> Values:
    spec, view = seen.spec, seen.view
    queue, state = spec.queues[number - 1], view.queue_states[number - 1]
    there = [(s, w) for s, w in enumerate(view.unpacked()) if w.queue == number]
    ages = [seen.age(_since(seen, s)) for s, word in there if word.state is State.QUEUED]
    return {
        "name": queue.name,
        "length": view.queue_size(number),
        "oldest": max(ages, default=None),
        "closed": bool(state["closed"]),
        "maxsize": queue.maxsize or None,
        "on_death": ON_DEATH[queue.on_death],
        "max_attempts": queue.max_attempts or None,
        "dead_letter": spec.queues[queue.dead_letter - 1].name if queue.dead_letter else None,
        "waiting": [view.member_name(member) for member in bits_of(state["waiting"])],
        "waiting_for_room": [view.member_name(m) for m in bits_of(state["waiting_space"])],
    }


def _since(seen: Look, slot: int) -> int:
    return int(seen.view.slots["since_ns"][slot])


def _members(seen: Look, statistics: PoolStatistics, in_use: list[Values]) -> list[Values]:
    counted = {member.index: member for member in statistics.members}
    longest: dict[int, float] = {}
    waits = waits_for(seen)
    for row in in_use:
        longest[row["member"]] = max(row["age"], longest.get(row["member"], 0.0))
    rows = []
    for member in seen.view.present():
        if not member:
            continue
        told = asdict(counted[member]) if member in counted else {}
        rows.append(
            {
                "index": member,
                "name": seen.view.member_name(member),
                "pid": seen.view.pid(member),
                "standing": seen.view.standing(member).name.lower(),
                "life": seen.member_life(member),
                "longest": longest.get(member),
                "waits_for": waits.get(member, []),
            }
            | told
        )
    return rows


def waits_for(seen: Look) -> dict[int, list[str]]:
    """What each member that waits is waiting for."""
    spec, view = seen.spec, seen.view
    masks = [
        (f"a slot of {show_size(size_class.slot_size)}", view.class_states["waiting"][number])
        for number, size_class in enumerate(spec.classes)
    ]
    for number, queue in enumerate(spec.queues):
        masks.append((f"queue {queue.name!r}", view.queue_states["waiting"][number]))
        room = view.queue_states["waiting_space"][number]
        masks.append((f"room in queue {queue.name!r}", room))
    found: dict[int, list[str]] = {}
    for what, mask in masks:
        for member in bits_of(mask):
            found.setdefault(member, []).append(what)
    return found


def _in_use(seen: Look) -> Iterator[Values]:
    """Slots that are somebody's, or on their way."""
    for number, word in enumerate(seen.view.unpacked()):
        if word.state not in _UNUSED:
            holds = word.owner if word.state in (State.LEASED, State.SHARED) else None
            what = _explain.what_it_is(seen.spec, seen.view, number)
            age = seen.age(_since(seen, number))
            yield {"slot": number, "what": what, "age": age, "member": holds}


def slot(seen: Look, number: int) -> Values:
    """One slot, of which the sheet and the history were copied."""
    spec, view = seen.spec, seen.view
    word, row = view.word(number), view.slots[number]
    attempts, death = int(row["delivery"]) >> 32, int(row["death"])
    queued = 0 < word.queue <= len(spec.queues)
    return {
        "slot": number,
        "slot_size": spec.class_of(number).slot_size,
        "state": word.state.name.lower(),
        "generation": word.generation,
        "owner": view.member_name(word.owner) if word.owner else None,
        "pid": view.pid(word.owner) if word.owner else None,
        "queue": spec.queues[word.queue - 1].name if queued else None,
        "what": _explain.what_it_is(spec, view, number),
        "age": seen.age(_since(seen, number)),
        "readers": [view.member_name(member) for member in view.readers_of(number)],
        "attempts": attempts,
        "reason": _explain.reason(spec, death, attempts),
        "array": _array(seen, number),
        "record": _record(seen, number),
        "history": [asdict(told) for told in _story.transitions(spec, view, number)],
    }


def _array(seen: Look, number: int) -> str | None:
    """What the sheet describes, None if it describes nothing."""
    if not int(seen.view.slots["delivery"][number]) & 0xFFFFFFFF:
        return None
    try:
        shape, dtype = _description.decode(seen.sheet(number)[: SHEET.itemsize].tobytes())
    except CorruptSegmentError as error:
        return f"unreadable: {error}"
    return f"{dtype} {shape}"


def _record(seen: Look, number: int) -> Values | None:
    dtype = seen.spec.record
    if dtype is None:
        return None
    record = np.ndarray((1,), dtype, buffer=seen.sheet(number), offset=SHEET.itemsize)[0]
    return {name: record[name].tolist() for name in dtype.names or ()}


def pool_text(seen: Look, values: Values) -> str:
    """The whole pool, for people."""
    return "\n\n".join(filter(None, [_head(values), *_tables(values), _used(values, seen)]))


def _head(values: Values) -> str:
    maker, options = values["coordinator"], values["options"]
    age = show_time(max(0.0, time.time() - values["created"]))
    sizes = show_size(values["payload_bytes"]), show_size(values["control_bytes"])
    counts = ", ".join(f"{n} {state}" for state, n in values["slots"].items() if n)
    made = f"made {age} ago by pid {maker['pid']}, which is {maker['life']}"
    where = f"uid {values['uid']}, pid namespace {values['pid_namespace']}"
    lines = [
        f"{values['name']}: {values['state']}, {made}",
        f"{where}, layout version {_core.VERSION}",
        ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in options.items()),
        f"header record: {printable(values['record'] or 'none')}",
        f"memory: {sizes[0]} behind the slots, {sizes[1]} for the control block",
        f"slots: {counts}",
    ]
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else show_age(seconds)


def _tables(values: Values) -> Iterator[str]:
    head = "SLOT-SIZE STRIDE SLOTS FREE UNCOMMITTED MEMORY"
    rows = [
        (show_size(c["slot_size"]), c["stride"], c["slots"], c["free"], c["uncommitted"],
         show_size(c["committed_bytes"])) for c in values["classes"]
    ]  # fmt: skip
    yield table(head.split(), rows, right=head)
    head = "QUEUE TICKETS OLDEST MAXSIZE CLOSED WAITING WAITING-FOR-ROOM"
    rows = [
        (q["name"], q["length"], _age(q["oldest"]), q["maxsize"] or "-",
         "yes" if q["closed"] else "no", *_lists(q["waiting"], q["waiting_for_room"]))
        for q in values["queues"]
    ]  # fmt: skip
    yield table(head.split(), rows, right="TICKETS OLDEST MAXSIZE") if rows else ""
    head = "MEMBER NAME PID STATE HELD LONGEST ACQUIRED PUT GOT WAITS WAITED WAITS-FOR"
    rows = [
        (m["index"], m["name"], m["pid"], f"{m['standing']}, {m['life']}", m.get("held", "-"),
         _age(m["longest"]), *(m.get(name, "-") for name in ("acquired", "put", "got", "waits")),
         _age(m.get("waited")), *_lists(m["waits_for"])) for m in values["members"]
    ]  # fmt: skip
    right = "MEMBER PID HELD LONGEST ACQUIRED PUT GOT WAITS WAITED"
    yield table(head.split(), rows, right=right) if rows else ""


def _lists(*names: list[str]) -> list[str]:
    return [", ".join(some) or "-" for some in names]


def _used(values: Values, seen: Look) -> str:
    rows = sorted(values["in_use"], key=lambda row: -row["age"])
    shown = [(row["slot"], show_age(row["age"]), row["what"]) for row in rows[:_MOST]]
    if not shown:
        return ""
    more = len(rows) - len(shown)
    text = table(["SLOT", "FOR", "WHAT"], shown, right="SLOT FOR")
    return f"{text}\nand {more} more of {seen.spec.slots} slots" if more else text


def slot_text(seen: Look, values: Values) -> str:
    """One slot, for people."""
    number = values["slot"]
    rows = [
        (f"slot {number}", f"{values['what']}, for {show_age(values['age'])}"),
        ("ticket", f"{number}@{values['generation']}"),
        ("size", f"{values['slot_size']} bytes"),
        ("array", values["array"] or "not described"),
        ("record", ", ".join(f"{k}={v!r}" for k, v in (values["record"] or {}).items()) or "none"),
        ("readers", *_lists(values["readers"])),
        ("attempts", f"{values['attempts']}{_because(values['reason'])}"),
    ]
    story = _story.tell(seen.spec, seen.view, number).splitlines()
    told = (
        ["history:", *map(printable, story)] if story else ["history: none (debug=True keeps it)"]
    )
    return "\n".join([*(f"{name:<10}{printable(text)}" for name, text in rows), *told])


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""
