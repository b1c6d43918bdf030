"""Install the peers, one by one: one that cannot be had does not stop the others.

    python -m benchmarks.peers.install [EXTRA ...]

An extra is one of pyproject.toml; by default bench and bench-torch.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.peers.protocol import pins

_PATIENCE = 900  # seconds for each


def main() -> None:
    """Say of each that it is there, or why not. Never fails: what is missing is skipped later."""
    for name, version in pins(*sys.argv[1:]).items():
        why = install(f"{name}=={version}")
        print(f"{name} {version}: {why or 'installed'}", flush=True)


def install(requirement: str) -> str | None:
    """Why it could not be installed; None if it was."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", requirement]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_PATIENCE
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not within {_PATIENCE} seconds"
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors or [f"pip ended with {done.returncode}"])[-1]


if __name__ == "__main__":
    main()
