"""Snapshots of a pool, frozen: what was so a moment ago."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MemberStatistics:
    """One attached process, counted since it joined."""

    index: int
    name: str
    pid: int
    held: int  # slots it leases now
    acquired: int
    released: int
    put: int
    got: int
    detached: int
    claimed: int
    stale: int  # rights it tried to use that were over
    rung: int  # sleepers it woke
    waits: int
    waited: float  # seconds
    exhausted: int  # acquires that timed out
    overflows: int  # writes that did not fit


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A whole pool. The numbers of slots by state add up to `slots`."""

    name: str
    slots: int
    free: int
    leased: int
    queued: int
    shared: int
    draining: int
    uncommitted: int
    retired: int
    quarantined: int
    slot_size: int  # bytes of payload
    stride: int  # bytes from slot to slot: whole pages for slots of a page or more
    payload_bytes: int
    control_bytes: int
    queues: dict[str, int]
    reaped_members: int
    reaped_leases: int
    requeued: int
    dead_lettered: int
    repaired_bits: int
    expired_tickets: int
    members: tuple[MemberStatistics, ...] = field(repr=False)

    @property
    def bytes_handed_on(self) -> int:
        """Bytes of slots that went from process to process without a copy, by living members."""
        return self.slot_size * sum(member.got + member.claimed for member in self.members)
