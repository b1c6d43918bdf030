"""A farm that does what its jobs say, and a gate for its workers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from farm_jobs import SPEC, Gate, obey, whole
from outside import DEBRIS, SHM

from shmpool import Farm


@pytest.fixture
def farm() -> Iterator[Farm]:
    """Two workers and six slots; all of them are free in the end."""
    with Farm(obey, SPEC, workers=2) as farm:
        yield farm
        whole(farm)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Where a worker can be made to stand."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


@pytest.fixture
def left_behind() -> Iterator[Callable[..., str]]:
    """Pools whose coordinator was killed, and its resource tracker with it."""
    names = []

    def leave(name: str, how: str = "open") -> str:
        names.append(name)
        command = [sys.executable, "-c", DEBRIS, name, how]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert (SHM / name).exists()
        return name

    yield leave
    for name in names:
        for path in [*SHM.glob(f"{name}*"), *SHM.glob(f"sem.{name}.*")]:
            path.unlink()
