"""Whose number a row is, by its name: ours, a peer's, or a floor's below which nobody can be."""

from __future__ import annotations

from typing import Literal, TypeAlias

Side: TypeAlias = Literal["ours", "peer", "floor"]

_FLOORS = ("floor", "bare", "memcpy", "posix_ipc semaphore", "posix_ipc.Semaphore",
           "two posix_ipc", "cache line")  # fmt: skip
_PEERS = ("multiprocessing", "SharedMemory", "iceoryx2", "momentumx", "faster-fifo", "pyzmq",
          "torch", "posix_ipc", "copy")  # fmt: skip


def side_of(name: str) -> Side:
    """What a name says; a row may also be told.

    >>> side_of("floor: a cache line"), side_of("frames/s: pyzmq"), side_of("Farm.map")
    ('floor', 'peer', 'ours')
    """
    if any(word in name for word in _FLOORS):
        return "floor"
    return "peer" if any(word in name for word in _PEERS) else "ours"
