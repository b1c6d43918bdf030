"""The counts of this working tree on this machine, and the name of what they depend on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.callgrind import Cost, costs
from shmpool import Pool, _core

HERE = Path(__file__).parent
CORE = HERE.parent / "shmpool" / "_csrc"
COMPILERS = ("gcc", "clang")
SLOTS = 65_535
# As the extension is compiled; and without what some distributions add on their own.
_FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-fno-stack-protector", "-U_FORTIFY_SOURCE", "-Wall",
          "-Wextra", "-Werror")  # fmt: skip
_FLAGS_OF = {"x86_64": ("-fcf-protection=none",)}


def compiler_name(compiler: str) -> str:
    """What the counts of the core depend on: the compiler, its major version, the processor."""
    told = subprocess.run([compiler, "-dumpversion"], check=True, capture_output=True, text=True)
    return f"{compiler} {told.stdout.split('.')[0].strip()}, {platform.machine()}"


def python_name() -> str:
    """What the counts of Python's side depend on: this very build of it, and all below it."""
    python = f"{platform.python_implementation()} {' '.join(sys.version.split())}"
    libc = " ".join(platform.libc_ver())
    by = _compiled_by(Path(_core.__file__))
    return f"{python}, numpy {np.__version__}, {libc}, core by {by}, {platform.machine()}"


def count_core(compiler: str, headers: Path = CORE) -> dict[str, Cost]:
    """Count core_operations.c over these headers. Raises CalledProcessError, RuntimeError."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "core_operations")
        flags = (*_FLAGS, *_FLAGS_OF.get(platform.machine(), ()), f"-I{headers}")
        source = HERE / "core_operations.c"
        subprocess.run([compiler, *flags, "-o", program, source], check=True)
        return costs([program], turns=100, rounds=1)


def count_python() -> dict[str, Cost]:
    """Count python_operations.py. Raises RuntimeError.

    The pools are ours: what counts is attached, and has no thread that comes in between.
    """
    with ExitStack() as stack:
        small, classes, large = (stack.enter_context(pool) for pool in _pools())
        for _slot in range(SLOTS // 2):
            stack.enter_context(large.acquire())
        pidfd = os.pidfd_open(os.getpid())
        stack.callback(os.close, pidfd)
        command = [sys.executable, "-m", "benchmarks.python_operations"]
        arguments = [str(pidfd), small.name, classes.name, large.name]
        return costs(command, turns=50, rounds=2, arguments=arguments, keep=(pidfd,))


def _pools() -> Iterator[Pool]:
    """Three, whatever the environment says of debugging."""
    record = np.dtype([("frame", np.uint64), ("when", np.float64)])
    yield Pool.create(slots=8, slot_size=4096, queues=("jobs",), header=record, debug=False)
    yield Pool.create(classes=[(4096, 8), (8192, 8), (16384, 8)], debug=False)
    yield Pool.create(slots=SLOTS, slot_size=64, debug=False)


def _compiled_by(library: Path) -> str:
    """As compilers say it of themselves in what they make."""
    found = re.search(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", library.read_bytes())
    return found[0].decode() if found else "an unknown compiler"
