"""What became of it all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from shmpool import FarmStatistics
from shmpool._sizes import show_size
from shmpool.cli.table import known


@dataclass(slots=True)
class Failure:
    """A job without a frame."""

    job: int
    kind: str
    error: str


@dataclass(slots=True)
class Report:
    """One run, for people and for programs."""

    function: str
    output: str | None
    jobs: int
    skipped: int = 0  # done by an earlier run
    done: int = 0  # by this one
    failed: list[Failure] = field(default_factory=list)
    values: dict[int, Any] | None = None  # by number of the job
    workers: int = 0
    seconds: float = 0.0
    worker_seconds: float = 0.0
    bytes_without_copy: int = 0
    waits: int = 0
    waited: float = 0.0
    retries: int = 0
    replaced: int = 0
    overdue: int = 0
    stale: int = 0
    exit_code: int = 0
    error: str | None = None

    @property
    def left(self) -> int:
        """Jobs that are to be done yet, but for those that failed."""
        return self.jobs - self.skipped - self.done - len(self.failed)

    @property
    def frames_per_second(self) -> float:
        """Of this run."""
        return self.done / self.seconds if self.seconds else 0.0

    def count(self, seen: FarmStatistics, stale: int, crossings: int) -> None:
        """Take what a farm has counted."""
        self.bytes_without_copy = crossings * seen.frame_bytes
        self.waits, self.waited = seen.waits, seen.waited
        self.retries, self.replaced, self.overdue = seen.requeued, seen.replaced, seen.overdue
        self.stale = stale

    def json(self) -> str:
        """One object."""
        rate = {"left": self.left, "frames_per_second": self.frames_per_second}
        return json.dumps(known(asdict(self) | rate, lambda _: None), default=repr)

    def __str__(self) -> str:
        return "\n".join([*self._failures(), *(f"{name:<18}{text}" for name, text in self._rows())])

    def _failures(self) -> list[str]:
        shown = [f"job {f.job} failed: {f.kind}: {f.error}" for f in self.failed[:10]]
        more = len(self.failed) - len(shown)
        return [*shown, *([f"and {more} more"] if more else [])]

    def _rows(self) -> list[tuple[str, str]]:
        jobs = [f"{self.done} done", f"{self.skipped} before", f"{len(self.failed)} failed"]
        jobs += [f"{self.left} left"]
        told = [jobs[0], *(text for text in jobs[1:] if not text.startswith("0 "))]
        rate = f"{self.seconds:.2f} s, {self.frames_per_second:.1f} frames/s"
        rows = [
            (f"{self.jobs} jobs", ", ".join(told)),
            ("time", f"{rate}, {self.worker_seconds:.2f} s in {self.workers} workers"),
            ("without a copy", f"{show_size(self.bytes_without_copy)} from process to process"),
            ("waited", f"{self.waits} times, {self.waited:.2f} s in all"),
        ]
        if self.retries or self.replaced:
            died = f"{self.replaced} workers replaced, {self.overdue} of them overdue"
            rows.append(("retries", f"{self.retries} jobs, {died}"))
        if self.output:
            rows.append(("output", self._kept(self.output)))
        return rows

    def _kept(self, output: str) -> str:
        if not (self.done or self.skipped):
            return "nothing written"
        return f"{output} is not complete" if self.error else output
