"""The programs in README.md and docs/ run, and print what the page says they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = [
    pytest.param(match[1], id=f"{page.name}-{number}")
    for page in PAGES
    for number, match in enumerate(BLOCK.finditer(page.read_text()), 1)
]


def run(program: str, folder: Path) -> str:
    path = folder / "example.py"
    path.write_text(program)
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_runs_by_itself(program: str, tmp_path: Path) -> None:
    """Without a warning, and with nothing on stderr."""
    run(program, tmp_path)


def the_bug() -> list[str]:
    return [match[1] for match in BLOCK.finditer((ROOT / "docs" / "the-bug.md").read_text())]


def test_a_plain_pool_corrupts_silently(tmp_path: Path) -> None:
    """Every kept result shows the bytes of the last one, and nothing is raised."""
    assert run(the_bug()[0], tmp_path) == "".join(f'{n} {{"id": 2}}\n' for n in range(3))


def test_our_pool_tells_at_once(tmp_path: Path) -> None:
    """The view that escaped is told of when it is read, by slot, generation and line."""
    told = run(the_bug()[1], tmp_path)
    assert told.startswith("a view of lease 0@1 of pool ")
    assert re.search(r"was read at byte \d after it was released at example\.py:9: ", told)
    assert "slot 0 is now free under generation 4" in told


def test_a_kept_ticket_is_told_with_both_generations(tmp_path: Path) -> None:
    """What the ticket was good for, and what the slot is now."""
    told = run(the_bug()[3], tmp_path).splitlines()
    assert [line.partition(":")[0] for line in told] == [
        f"cannot claim ticket 0@{generation}" for generation in (2, 4, 6)
    ]
    assert all("free under generation 7" in line for line in told)
