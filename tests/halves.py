"""Run all tests: in two halves side by side, each with a /dev/shm of its own, where that can be.

    python tests/halves.py [arguments for pytest]

Every test checks that it leaves nothing in /dev/shm, so two sessions cannot share one. Where this
process may not mount another (it is not root), or has one CPU, one session runs them all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
FIRST = ("faults", "stress")  # about as long as all the others
OWN = 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$@"'
NAMESPACE = ("unshare", "--mount", "sh", "-c", OWN, "sh")


def halves() -> tuple[list[str], list[str]]:
    """What each session is to collect: together, all that a plain pytest does."""
    folders = {path.parent for path in HERE.rglob("test_*.py")}
    first = {HERE / name for name in FIRST}
    return [str(path) for path in sorted(first)], [str(path) for path in sorted(folders - first)]


def pytest(arguments: Sequence[str]) -> list[str]:
    """A session's command."""
    return [sys.executable, "-m", "pytest", *arguments]


def side_by_side(arguments: Sequence[str]) -> int:
    """The first half's output is kept until the second, which is seen as it goes, has ended."""
    first, second = halves()
    commands = [
        [*NAMESPACE, *pytest([*arguments, *part])] for part in (first, [*second, "shmpool"])
    ]
    with tempfile.TemporaryFile() as output:
        other = subprocess.Popen(commands[0], stdout=output, stderr=subprocess.STDOUT)
        try:
            code = subprocess.run(commands[1], check=False).returncode
        except BaseException:
            other.terminate()
            raise
        finally:
            other_code = other.wait()
            output.seek(0)
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
    return code or other_code


def main(arguments: Sequence[str]) -> int:
    """The exit code of pytest, of the first session that has one."""
    can_mount = subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True)
    if can_mount.returncode == 0 and len(os.sched_getaffinity(0)) > 1:
        return side_by_side(arguments)
    return subprocess.run(pytest(arguments), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
