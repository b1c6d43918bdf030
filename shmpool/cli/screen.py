"""What `shmpool top` shows: lines of text from what moves in a pool, none longer than the screen.

Nothing is read or written here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from shmpool._layout import State
from shmpool._life import Life
from shmpool._sizes import show_size
from shmpool._text import printable
from shmpool.cli import sections, slotmap
from shmpool.cli.grid import BAD, DIM, GOOD, WARN, brief, cut, fit, rule, short, spark
from shmpool.cli.ls import show_time
from shmpool.cli.motion import Ages, Motion
from shmpool.cli.wishes import KEYS, Wishes

_UNLIMITED = 1_000_000
_MAP_ROWS = 16  # of a map where there is room for anything
_SPARK = 24


def draw(of: Motion, wishes: Wishes, width: int, height: int | None = None) -> list[Text]:
    """The screen: at most `height` lines of at most `width` columns.

    >>> from shmpool import Pool, _look
    >>> from shmpool.cli.motion import motion
    >>> with Pool.create(slots=3, slot_size=64, name="doctest-top") as pool, pool.acquire():
    ...     seen = _look.look(pool.name)
    >>> print(draw(motion(seen, seen), Wishes(), 60)[-1])
     ■a     0 ... leased   ...
    """
    foot = [cut(_foot(wishes), width)] if wishes.live else []
    room = (height or _UNLIMITED) - len(foot)
    lines = [_title(of, wishes, width)]
    if wishes.help:
        lines += _help(width)
    else:
        lines += [*_head(of, wishes, width), *_legend(of, width)]
        lines += _body(of, wishes, width, room - len(lines))
    lines = [cut(line, width) for line in lines[: max(0, room)]]
    if height and wishes.live:  # the keys stand in the last line
        lines += [Text()] * (room - len(lines))
    return lines + foot


# The lines at the top.


def _head(of: Motion, wishes: Wishes, width: int) -> Iterator[Text]:
    flow = of.flow
    line = Text(" taken ").append(f"{short(flow.rights)}/s", "bold")
    if wishes.past:
        line.append(
            f" {spark(wishes.past[-_SPARK if width >= 100 else -_SPARK // 3 :])}", "#58a6ff"
        )
    line.append(f"  released {short(flow.released)}/s  put {short(flow.put)}/s")
    line.append(f"  handed on {show_size(flow.received)}/s")
    yield line
    yield (
        Text(" ages now: ")
        .append_text(_ages(of.tickets, "queued", width))
        .append(", ")
        .append_text(_ages(of.holds, "held", width))
    )
    yield _events(of)


def _title(of: Motion, wishes: Wishes, width: int) -> Text:
    colour = {"open": GOOD, "closed": WARN}.get(of.state, BAD)
    line = Text(" ").append(printable(of.name), "bold").append("  ")
    line.append(f" {of.state.upper()} ", f"bold #10141a on {colour}")
    life = "" if of.coordinator is Life.ALIVE else f"bold {BAD if of.state != 'open' else WARN}"
    line.append(f" coordinator pid {of.pid} {of.coordinator}", life)
    if not of.named:
        line.append(", its name is gone", WARN)
    line.append(f", {show_time(of.age)} old, {show_size(of.payload_bytes)}")
    line.append(" of slots" if width >= 100 else "")
    right = "PAUSED " if wishes.paused else f"every {wishes.every:g} s " if wishes.every else ""
    spare = width - line.cell_len - len(right)
    if right and (spare > 0 or wishes.paused):
        line.truncate(width - len(right) - 1, overflow="ellipsis", pad=True)
        line.append(" ").append(right, f"bold {WARN}" if wishes.paused else DIM)
    return line


def _ages(ages: Ages, what: str, width: int) -> Text:
    line = Text().append(f"{ages.count} ", "bold").append(what)
    if ages.count:
        line.append(f" p50 {brief(ages.p50)} p99 {brief(ages.p99)}")
        line.append(f" oldest {brief(ages.oldest)}" if width >= 110 else "")
    return line


def _events(of: Motion) -> Text:
    seen, all_of = of.events_seen, of.events
    line = Text(" ")
    for number, (title, count, fresh) in enumerate(
        (
            ("stale rights", of.stale, 0),
            ("deaths", all_of["reaped_members"], seen["reaped_members"]),
            ("reaped", all_of["reaped_leases"], seen["reaped_leases"]),
            ("requeued", all_of["requeued"], seen["requeued"]),
            ("dead letters", all_of["dead_lettered"], seen["dead_lettered"]),
            ("expired", all_of["expired_tickets"], seen["expired_tickets"]),
        )
    ):
        line.append("  " if number else "").append(f"{title} ")
        line.append(short(count), f"bold {WARN}" if count else DIM)
        line.append(f" (+{short(fresh)})" if fresh else "", f"bold {BAD}")
    return line


def _legend(of: Motion, width: int) -> Iterator[Text]:
    """How many slots are what: as many lines as that takes."""
    line = Text()
    for state, mark in slotmap.MARKS.items():
        count = of.by_state[state.name.lower()]
        if not count and state not in (State.FREE, State.LEASED, State.QUEUED):
            continue
        part = Text(" ").append(mark.symbol, f"bold {mark.colour}")
        part.append(f" {count} ", "bold").append(f"{state.name.lower()} ")
        if line and line.cell_len + part.cell_len > width:
            yield line
            line = Text()
        line.append_text(part)
    yield line


# What lies below: four sections that share the lines.


def share(room: int, wants: Sequence[int]) -> list[int]:
    """Lines for each, in turn, until there are no more or all have what they want.

    >>> share(10, [2, 9, 0, 9]), share(3, [5, 5]), share(99, [1, 2])
    ([2, 4, 0, 4], [2, 1], [1, 2])
    """
    given = [0] * len(wants)
    while room > 0 and given != list(wants):
        for number, want in enumerate(wants):
            if given[number] < want and room > 0:
                given[number] += 1
                room -= 1
    return given


def _body(of: Motion, wishes: Wishes, width: int, room: int) -> Iterator[Text]:
    tables = [len(of.queues), len(of.members), len(of.longest)]
    for least in (2, 0):  # what is left out where there is no line for it: holds, then queues
        if room < 2 + 3 * sum(map(bool, tables)):
            tables[least] = 0
    room -= 1 + 2 * sum(map(bool, tables))  # titles
    most = min(_MAP_ROWS, max(1, room // 2, room - sum(tables)))
    by = slotmap.scale(of.slots, width, most)
    yield rule(sections.many(of.slots, "slot"), str(by), width)
    yield from slotmap.lines(of.states, of.owners, by)
    queues, members, holds = share(room - by.rows(of.slots), tables)
    yield from sections.queues(of, width, queues)
    yield from sections.members(of, wishes, width, members)
    yield from sections.longest(of, width, holds)


# Keys.


def _foot(wishes: Wishes) -> Text:
    line = Text()
    pause = "go on" if wishes.paused else "pause"
    told = (("q", "quit"), ("p", pause), ("s", f"sort: {wishes.sort}"), ("r", "reverse"),
            ("j k", "members"), ("?", "back" if wishes.help else "help"))  # fmt: skip
    for key, what in told:
        line.append(f" {key} ", "reverse").append(f" {what}  ")
    return line


def _help(width: int) -> Iterator[Text]:
    yield rule("keys", "", width)
    for key, what in KEYS.items():
        yield Text(f" {fit(key, 10)} ", "bold").append(what, "not bold")
    yield rule(
        "slots", "the letter beside a state is its owner's, as in the table of members", width
    )
    said = {
        State.FREE: "nobody's",
        State.LEASED: "one member's, to read and write",
        State.QUEUED: "its ticket is in a queue or on its way; the letter: its sender's",
        State.SHARED: "many may read it; the letter: its owner's",
        State.DRAINING: "released by its owner, and still read",
        State.UNCOMMITTED: "no memory behind it",
        State.RETIRED: "at its last generation: not used again",
        State.QUARANTINED: "its holder died over it",
    }
    for state, what in said.items():
        mark = slotmap.MARKS[state]
        line = Text(f" {mark.symbol} ", f"bold {mark.colour}")
        yield line.append(f"{state.name.lower():<12}{what}", "default not bold")
    yield rule("numbers", "", width)
    for what in (
        "ages are of what waits or is held now: no latencies, by a clock of some ms",
        "WAIT: what waits that ended took, of the time between looks; at most 100 %",
        "(+n): since this screen began; the number before it: since the pool was made",
    ):
        yield Text(f" {what}")
