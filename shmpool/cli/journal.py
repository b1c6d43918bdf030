"""What is done, on disk: JSON lines beside an output, so that another run can go on.

The first line is the header: a run with another one refuses to go on. A line is written after
what it tells of is safe, and is on the disk when `add` returns. Only its last line may be torn,
by a kill in the middle of it: that is cut off.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from shmpool import ShmpoolError, remove_orphan
from shmpool.cli.exits import UsageError
from shmpool.cli.jobs import Jobs

Record = dict[str, Any]

# What a line that has the first has besides.
_FIELDS: dict[str, dict[str, type]] = {
    "job": {"job": int, "digest": str},
    "part": {"part": int, "first": int},
    "closed": {"closed": int, "frames": int},
    "pool": {"pool": str},
}


class Journal:
    """An open journal; nobody else has it open."""

    def __init__(self, path: Path, header: Record) -> None:
        self.path = path
        try:
            self._file = path.open("a+b")
            self._begin(header)
        except OSError as error:
            raise UsageError(f"the journal {path} cannot be kept: {error}") from error
        self._remove_orphans()

    def _begin(self, header: Record) -> None:
        try:
            self._lock()
            self._file.seek(0)
            data = self._file.read()
            whole = data[: data.rfind(b"\n") + 1]
            lines = whole.split(b"\n")[:-1]
            self.records = [self._record(number, line) for number, line in enumerate(lines, 1)]
            self._check(header, data)
            self._file.truncate(len(whole))
            if not self.records:
                self.add(**header)
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{self.path} is in use: another run works on it") from None

    def _record(self, number: int, line: bytes) -> Record:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not _is_whole(record):
            message = f"{self.path}, line {number} is damaged: remove the file to begin anew"
            raise UsageError(message)
        return record

    def _check(self, header: Record, data: bytes) -> None:
        """Raise UsageError unless it is of this command: what somebody else wrote stays."""
        if not self.records:
            if not _line(header).startswith(data):
                message = f"{self.path} is no journal: remove the file to begin anew"
                raise UsageError(message)
            return
        header = json.loads(json.dumps(header))
        was = self.records[0]
        other = [name for name in header if header[name] != was.get(name)]
        if other:
            told = "; ".join(f"{name} was {was.get(name)}, is {header[name]}" for name in other)
            message = f"{self.path} is of another command ({told}): remove it to begin anew"
            raise UsageError(message)

    def _remove_orphans(self) -> None:
        """Shared memory of runs that were killed together with whatever would have removed it."""
        for pool in self.of_kind("pool"):
            with suppress(ShmpoolError):
                remove_orphan(str(pool["pool"]))

    def of_kind(self, key: str) -> list[Record]:
        """Records that have a key."""
        return [record for record in self.records[1:] if key in record]

    def done(self, jobs: Jobs) -> dict[int, str]:
        """Digests of jobs that are done, by place."""
        return {
            record["job"]: record["digest"]
            for record in self.of_kind("job")
            if record["job"] < len(jobs)
        }

    def check_jobs(self, jobs: Jobs, places: Iterable[int]) -> None:
        """Raise UsageError if a job that is done was another one."""
        done = self.done(jobs)
        for place in places:
            if done.get(place, "") != jobs.digest(place):
                message = (
                    f"job {jobs.numbers[place]} is not the one that {self.path} says is done: "
                    f"remove it to begin anew"
                )
                raise UsageError(message)

    def add(self, **record: Any) -> None:
        """Append a record; it is on the disk then."""
        self._file.write(_line(record))
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self.records.append(record)

    def close(self) -> None:
        """Let others have it. Idempotent."""
        # What could not be written was told by `add`, and is not tried for again without end.
        with suppress(OSError):
            self._file.close()

    def remove(self) -> None:
        """There is nothing left to do."""
        self.path.unlink(missing_ok=True)
        self.close()


def _line(record: Record) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _is_whole(record: Record) -> bool:
    """Whether a line has what belongs to what it tells of."""
    return all(
        isinstance(record.get(name), kind)
        for key, fields in _FIELDS.items()
        if key in record
        for name, kind in fields.items()
    )
