"""On what the numbers were measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
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
        "commit": _commit(),
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


def _commit() -> str | None:
    """The commit of the working tree, read without running git; changes to files are not seen."""
    head = _read(_ROOT / ".git/HEAD").strip()
    if not head.startswith("ref: "):
        return head or None
    name = head.removeprefix("ref: ")
    packed = _read(_ROOT / ".git/packed-refs").splitlines()
    found = [line.split()[0] for line in packed if line.endswith(f" {name}")]
    return _read(_ROOT / ".git" / name).strip() or (found[0] if found else None)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
