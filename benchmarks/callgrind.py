"""Programs under callgrind: instructions instead of time, the same ones in every run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# What a program calls where one part of the count ends and the next begins; nobody else does.
_MARK = "getppid"
_REMEDY = "apt-get install valgrind"
# Nobody's own settings; and every hash the same in each run.
_ENVIRONMENT = {"PATH": os.defpath, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions of one turn of an operation."""

    instructions: float
    functions: dict[str, float]  # by name, each without what it calls


@dataclass(frozen=True, slots=True)
class _Part:
    instructions: int
    functions: Counter[str]


def costs(
    command: Sequence[str | Path],
    *,
    turns: int,
    rounds: int,
    arguments: Sequence[str] = (),
    keep: tuple[int, ...] = (),
) -> dict[str, Cost]:
    """What each operation of a program costs, one that is told turns, rounds and `arguments`.

    It is to run each one in loops of so many turns, and of twice as many, with a mark after each:
    see core_operations.c. What is before and after a loop is in both, and cancels out. Of each
    the cheapest round counts: what comes from time to time only makes others dearer.
    `keep`: descriptors that the program inherits. Raises RuntimeError.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = _run([*command, str(turns), str(rounds), *arguments], Path(folder), keep)
        each = 1 + 2 * rounds
        found = {}
        for i, name in enumerate(names):
            parts = [_part(Path(folder, f"out.{i * each + k + 1}")) for k in range(1, each)]
            found[name] = _difference(_cheapest(parts[::2]), _cheapest(parts[1::2]), turns)
    return _less(found, found.pop("nothing"))


def _run(command: Sequence[str | Path], folder: Path, keep: tuple[int, ...]) -> list[str]:
    """Names of the operations; the parts are in the folder, out.1 and so on."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise RuntimeError(f"valgrind is missing: {_REMEDY}")
    options = ["--tool=callgrind", f"--dump-before={_MARK}", "--compress-strings=no",
               "--compress-pos=no", f"--callgrind-out-file={folder}/out"]  # fmt: skip
    done = subprocess.run(
        [valgrind, *options, *command],
        check=False, capture_output=True, text=True, pass_fds=keep, env=_ENVIRONMENT,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} under valgrind: {done.stderr}")
    return done.stdout.splitlines()


def _part(file: Path) -> _Part:
    text = file.read_text(errors="replace")
    found = re.search(r"^summary: (\d+)", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"callgrind wrote no summary into {file.name}")
    own: Counter[str] = Counter()
    for function, instructions in _lines(text.splitlines()):
        own[function] += instructions
    return _Part(int(found[1]), own)


def _lines(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Function and instructions of each line of code, without what it calls."""
    function, called = "", False
    for line in lines:
        if line.startswith("fn="):
            function = line.removeprefix("fn=")
        elif line.startswith("calls="):
            called = True  # the next line is what was called
        elif line[:1].isdigit():
            if not called:
                yield function, int(line.split()[1])
            called = False


def _cheapest(parts: Sequence[_Part]) -> _Part:
    return min(parts, key=lambda part: part.instructions)


def _difference(once: _Part, twice: _Part, turns: int) -> Cost:
    functions = twice.functions.copy()
    functions.subtract(once.functions)
    each = {name: count / turns for name, count in functions.items() if count}
    return Cost((twice.instructions - once.instructions) / turns, each)


def _less(found: dict[str, Cost], loop: Cost) -> dict[str, Cost]:
    """Without the empty loop. Its functions stay: they show what is an operation's own."""
    return {
        name: Cost(cost.instructions - loop.instructions, cost.functions)
        for name, cost in found.items()
    }
