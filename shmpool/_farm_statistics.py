"""What a farm tells of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FarmStatistics:
    """What a farm has done so far."""

    jobs: int  # that came back, the failed ones included
    failed: int
    frame_bytes: int  # that came from workers without a copy
    waits: int  # of the coordinator, for a slot or a result
    waited: float  # seconds
    requeued: int  # jobs given to another worker because theirs died
    replaced: int  # workers that died
    recycled: int  # workers that ended after recycle_after jobs
    overdue: int  # workers killed because a job took longer than job_timeout


@dataclass(frozen=True, slots=True)
class Activity:
    """What one worker does, a moment ago."""

    worker: str
    pid: int
    job: int | None  # its number; None: it waits for one
