"""The command `shmpool ls`: the pools of this host."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from shmpool._layout import Standing, State, Status
from shmpool._life import Life
from shmpool._look import Look, look, names
from shmpool._sizes import show_size
from shmpool._text import printable
from shmpool.cli.table import add_parser, show_json, table
from shmpool.errors import PoolNotFoundError, ShmpoolError

CODES = {0: "pools were listed, or there are none", 2: "wrong arguments"}
_COLUMNS = "POOL STATE COORDINATOR MEMBERS SLOTS FREE HELD QUEUED OTHER MEMORY AGE"
_STATES = [state.name.lower() for state in State]


@dataclass(frozen=True, slots=True)
class Row:
    """One pool, or why it cannot be read."""

    name: str
    state: str  # forming, open, closed, orphaned, or unreadable
    reason: str | None = None
    pid: int | None = None
    coordinator: str | None = None
    members: int | None = None
    slots: int | None = None
    by_state: dict[str, int] = field(default_factory=dict)
    bytes: int | None = None
    age: float | None = None


def add(commands: Any) -> None:
    """Add the parser."""
    about = "list the pools of this host"
    add_parser(commands, "ls", about, CODES).set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Look at every pool once."""
    rows = [row for name in names() if (row := _row(name)) is not None]
    if options.json:
        show_json([asdict(row) for row in rows])
        return 0
    read = [row for row in rows if row.reason is None]
    if read:
        print(table(_COLUMNS.split(), [_cells(row) for row in read], right=_COLUMNS[23:]))
    for row in rows:
        if row.reason is not None:
            print(f"{row.name}: cannot be read: {printable(row.reason)}")
    if not rows:
        print("no pools")
    return 0


def _row(name: str) -> Row | None:
    try:
        return _of(look(name))
    except PoolNotFoundError:  # gone since it was listed
        return None
    except ShmpoolError as error:
        return Row(name, "unreadable", str(error))


def _of(seen: Look) -> Row:
    spec, statistics = seen.spec, seen.statistics()
    return Row(
        name=spec.name,
        state=pool_state(seen),
        pid=spec.coordinator.pid,
        coordinator=seen.coordinator,
        members=sum(
            seen.view.standing(member) is Standing.ACTIVE for member in seen.view.present()
        ),
        slots=spec.slots,
        by_state={state: getattr(statistics, state) for state in _STATES},
        bytes=statistics.payload_bytes + statistics.control_bytes,
        age=max(0.0, time.time() - spec.created_ns / 1e9),
    )


def pool_state(seen: Look) -> str:
    """What a pool is; it is orphaned when its coordinator is dead, told or not."""
    number = int(seen.view.status["status"])
    if seen.coordinator is Life.DEAD:
        return "orphaned"
    return Status(number).name.lower() if number <= max(Status) else f"status {number}"


def _cells(row: Row) -> list[object]:
    counts = row.by_state
    held = counts["leased"] + counts["shared"] + counts["draining"]
    shown = counts["free"], held, counts["queued"]
    coordinator = f"pid {row.pid} {row.coordinator}"
    sizes = show_size(row.bytes or 0), show_time(row.age or 0)
    other = sum(counts.values()) - sum(shown)
    return [row.name, row.state, coordinator, row.members, row.slots, *shown, other, *sizes]


def show_time(seconds: float) -> str:
    """A long time as people read it.

    >>> show_time(42), show_time(7300), show_time(200000)
    ('42 s', '2 h 1 min', '2 d 7 h')
    """
    for large, small, unit, lesser in (
        (86400, 3600, "d", "h"),
        (3600, 60, "h", "min"),
        (60, 1, "min", "s"),
    ):
        if seconds >= large:
            return f"{seconds // large:.0f} {unit} {seconds % large // small:.0f} {lesser}"
    return f"{seconds:.0f} s"
