"""On what the numbers were measured."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import numpy as np

import shmpool

_ROOT = Path(__file__).resolve().parent.parent


def describe() -> dict[str, object]:
    """CPU, kernel, versions, commit, load and date, ready for JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "last_level_cache": _last_level_cache(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "posix_ipc": version("posix_ipc"),
        "shmpool": shmpool.__version__,
        "peers": peers(),
        "commit": _git("rev-parse", "HEAD") or None,
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
        **load(),
    }


def load() -> dict[str, object]:
    """How busy the machine is, and the CPU seconds that its host has taken from it since boot."""
    return {"load_average": os.getloadavg(), "stolen_seconds": _stolen()}


def _cpu_model() -> str:
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _last_level_cache() -> str:
    sizes = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    return _read(sizes[-1]).strip() if sizes else "unknown"


def _stolen() -> float:
    total = _read(Path("/proc/stat")).partition("\n")[0].split()
    return int(total[8]) / os.sysconf("SC_CLK_TCK") if len(total) > 8 else 0.0


def peers() -> dict[str, str | None]:
    """Versions of what the extras `bench` and `bench-farm` name; None: not installed."""
    needs = [need for need in requires("shmpool") or [] if 'extra == "bench' in need]
    names = sorted({re.split(r"[^\w.-]", need)[0] for need in needs})
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*words: str) -> str:
    """What git says of the working tree; nothing where there is none."""
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run([git, "-C", _ROOT, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
