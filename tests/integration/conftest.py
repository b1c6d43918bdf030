"""A farm that does what its jobs say, and a gate for its workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_jobs import SPEC, Gate, obey, whole

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
