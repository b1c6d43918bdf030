"""The raw ping-pong of floors.c, between two processes over shared memory."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SOURCE = Path(__file__).with_name("floors.c")
_COMPILE = ("cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC")
SIZE = 128  # bytes: two lines


def compile_floors(directory: Path) -> Path:
    """Compile floors.c with the system's compiler. Raises CalledProcessError."""
    library = directory / "floors.so"
    subprocess.run([*_COMPILE, "-o", library, _SOURCE], check=True)
    return library


class Floor:
    """One process's side of it."""

    def __init__(self, library: Path, words: NDArray[np.uint64]) -> None:
        self._library = ctypes.CDLL(str(library))
        self._words = words

    def reset(self) -> None:
        """Before either side begins a block."""
        self._words[:] = 0

    def play(self, turns: int) -> list[int]:
        """Lead so many turns: the nanoseconds of each."""
        times = np.zeros(turns, np.uint64)
        count = ctypes.c_uint64(turns)
        if not self._library.play(_address(self._words), count, _address(times)):
            raise TimeoutError("the peer does not answer")
        nanoseconds: list[int] = times.tolist()
        return nanoseconds

    def echo(self, turns: int) -> None:
        """Follow so many turns."""
        if not self._library.echo(_address(self._words), ctypes.c_uint64(turns)):
            raise TimeoutError("nobody leads")


@contextmanager
def floor(library: Path, memory: SharedMemory) -> Iterator[Floor]:
    """A side over `memory`, which is closed afterwards."""
    side = Floor(library, np.ndarray(SIZE // 8, np.uint64, buffer=memory.buf))
    try:
        yield side
    finally:
        del side._words  # memory that an array refers to cannot be unmapped
        memory.close()


def _address(array: NDArray[np.uint64]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
