"""With every right tracked, the library's own code and the workers leak nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FARM = """
from shmpool import ArraySpec, Farm
from workers.crasher import render


def fail(job, frame):
    raise ValueError(job)


if __name__ == "__main__":
    spec = ArraySpec((2, 2), "u1")
    with Farm(render, spec, workers=2) as farm:
        for result in farm.map(range(9)):
            kept = result.array
        for result in farm.map(range(9)):
            break  # the rest is on its way
        result = result.keep()
        result.release()
        for result in farm.map(range(9)):
            break
        del kept, result
    with Farm(fail, spec, workers=1) as farm:
        try:
            list(farm.map(range(3)))
        except ValueError:
            print("failed as it should")
"""


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with leaks told, in this process and in all that it starts."""
    variables = {
        "SHMPOOL_LEAKS": "all", "PYTHONWARNINGS": "always", "PYTHONPATH": f"{ROOT}:{folder}",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, cwd=folder,
        env=os.environ | variables,
    )  # fmt: skip


def test_a_farm_leaks_nothing(tmp_path: Path) -> None:
    """Not of loops to the end, of loops left early, of results kept, or of jobs that fail."""
    (tmp_path / "program.py").write_text(FARM)
    done = run("program.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "failed as it should" in done.stdout
    assert "LeakWarning" not in done.stderr


def test_a_film_leaks_nothing(tmp_path: Path) -> None:
    """The encoder keeps frames beyond their leases, on purpose."""
    pytest.importorskip("av")
    done = run("-m", "workers.film", "--frames", "4", "--size", "64x48", "f.mp4", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "LeakWarning" not in done.stderr
    assert (tmp_path / "f.mp4").stat().st_size
