"""Snapshots of a pool, frozen: what was so a moment ago."""

from __future__ import annotations

from dataclasses import dataclass, field

from shmpool._ticket import Ticket


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
    shared: int
    borrowed: int
    stale: int  # rights it tried to use that were over
    rung: int  # sleepers it woke
    waits: int
    waited: float  # seconds
    exhausted: int  # acquires that timed out
    overflows: int  # writes that did not fit
    moved: int  # of them, those that went on in a larger slot
    received: int  # bytes of the slots that it got, claimed and borrowed


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """The slots of one size."""

    slot_size: int  # bytes of payload
    stride: int  # bytes from slot to slot: whole pages for slots of a page or more
    slots: int  # with those that have no memory yet
    free: int
    uncommitted: int  # no memory behind them: beyond `count`, or trimmed

    @property
    def committed_bytes(self) -> int:
        """Bytes of memory behind the slots of the class."""
        return self.stride * (self.slots - self.uncommitted)


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """A queue, and who waits at it."""

    name: str
    length: int  # tickets that wait
    maxsize: int  # 0: no limit
    closed: bool
    oldest: float | None  # seconds for which the oldest ticket has waited, None if there is none
    waiting: int  # members that wait for a ticket
    waiting_for_room: int  # members that wait to put


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A slot held out because its holder died; `pool.claim(ticket)` takes it, or frees it."""

    ticket: Ticket
    queue: str  # from which its holder had taken it
    attempts: int  # how many died holding it
    pid: int  # of the last of them
    nbytes: int


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
    slot_size: int  # bytes of payload of the largest slots
    stride: int  # bytes from one of them to the next
    payload_bytes: int  # of memory behind the slots, now
    control_bytes: int
    classes: tuple[ClassStatistics, ...]
    queues: dict[str, int]  # how many tickets wait in each
    queue_statistics: tuple[QueueStatistics, ...] = field(repr=False)
    reaped_members: int
    reaped_leases: int
    requeued: int
    dead_lettered: int
    sent_to_quarantine: int
    repaired_bits: int
    expired_tickets: int
    members: tuple[MemberStatistics, ...] = field(repr=False)

    @property
    def bytes_handed_on(self) -> int:
        """Bytes of slots that went from process to process without a copy, to living members."""
        return sum(member.received for member in self.members)
