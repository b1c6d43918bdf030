"""Which pools were left behind, and their removal: only what is provably a dead one's of ours."""

from __future__ import annotations

from dataclasses import dataclass, field

from shmpool._header import PoolSpec
from shmpool._layout import Standing
from shmpool._life import Life, life, why_unknown
from shmpool._look import look, maker, names
from shmpool._orphan import left, remove_all
from shmpool._segment import opened_to_read
from shmpool._trace import forget_dead_tracer
from shmpool._tracing import SUFFIX, leftover, remove_leftover, traces
from shmpool.errors import PoolNotFoundError, ShmpoolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a pool, or of a tracer's segment, and why."""

    name: str
    orphaned: bool  # its coordinator, or tracer, is provably dead
    reason: str
    pid: int | None = None  # of the coordinator
    bytes: int = 0  # of memory behind its names
    left: list[str] = field(default_factory=list)  # names of it in shared memory
    removed: list[str] = field(default_factory=list)


def sweep(*, dry_run: bool) -> list[Verdict]:
    """Judge every pool of this host, and remove the orphans unless it is a `dry_run`.

    So it is with what tracers left, of pools that live or not. One that lives is not in the list.
    """
    pools = [verdict for name in names() if (verdict := _judge(name, dry_run=dry_run)) is not None]
    told = {part for verdict in pools for part in verdict.left}
    alone = (_judge_trace(name, dry_run=dry_run) for name in traces() if name not in told)
    return pools + [verdict for verdict in alone if verdict is not None]


def _judge(name: str, *, dry_run: bool) -> Verdict | None:
    try:
        with opened_to_read(name) as control:
            spec = maker(name, control)
            found = life(spec, spec.coordinator)
            if found is Life.DEAD:
                return _remove(spec, control, dry_run=dry_run)
    except PoolNotFoundError:  # gone since it was listed
        return None
    except ShmpoolError as error:
        return Verdict(name=name, orphaned=False, reason=f"whose it is cannot be told: {error}")
    pid = spec.coordinator.pid
    how = "is alive" if found is Life.ALIVE else why_unknown(spec)
    reason = f"its coordinator (pid {pid}) {how}"
    return Verdict(name=name, orphaned=False, reason=reason, pid=pid)


def _judge_trace(name: str, *, dry_run: bool) -> Verdict | None:
    try:
        found = leftover(name)
    except ShmpoolError:  # something else of that name, or gone since it was listed
        return None
    if found.alive:
        return None
    reason, removed = f"its tracer (pid {found.pid}) is dead", False
    try:
        if not dry_run:
            forget_dead_tracer(name.removesuffix(SUFFIX), found.id)
            removed = remove_leftover(name)
    except ShmpoolError as error:
        reason = f"{reason}, but {error}"
    return Verdict(
        name=name, orphaned=True, reason=reason, pid=found.pid, bytes=found.bytes,
        left=[] if removed else [name], removed=[name] if removed else [],
    )  # fmt: skip


def _remove(spec: PoolSpec, control: int, *, dry_run: bool) -> Verdict:
    there, removed = left(spec), []
    reason = f"its coordinator (pid {spec.coordinator.pid}) is dead{_attached(spec.name)}"
    try:
        if not dry_run:
            removed = remove_all(spec, control)
    except ShmpoolError as error:
        reason = f"{reason}, but {error}"
    return Verdict(
        name=spec.name,
        orphaned=True,
        reason=reason,
        pid=spec.coordinator.pid,
        bytes=sum(there.values()),
        left=[part for part in there if part not in removed],
        removed=removed,
    )


def _attached(name: str) -> str:
    """Who still has an orphan mapped: they lose nothing that they hold."""
    try:
        seen = look(name)
        active = [m for m in seen.view.present() if seen.view.standing(m) is Standing.ACTIVE]
        alive = sum(seen.member_life(member) is Life.ALIVE for member in active)
    except ShmpoolError:
        return ""
    return f"; members alive: {alive}, what they hold stays readable" if alive else ""
