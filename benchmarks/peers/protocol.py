"""What a peer has to offer to be measured, and how a message is filled and checked.

A peer opens a *wire*: a way for messages of one size from the processes that send to those that
receive, with room for so many messages at once. The wire is pickled into both processes, and
each takes its end.
"""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module, metadata
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]

# Of all queues and processes: those of one context can only be given to its own processes.
# Forked from a server that has imported what all need and nothing else, no peer: a block begins
# in milliseconds, and in a process that no block was in before.
CONTEXT: ForkServerContext = get_context("forkserver")
CONTEXT.set_forkserver_preload(["numpy", "shmpool", "benchmarks.stage", "benchmarks.traffic"])

# What an end of this process has still to do when the other ends are there, before any message.
# Every block is in processes of its own, so these are the block's.
ON_MEETING: list[Callable[[], object]] = []

_EXTRAS = ("bench", "bench-torch")
_PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
_NUMBER = struct.Struct("<Q")


class Sender(Protocol):
    """The end that sends. An array from `room()` must not be alive when `send()` is called."""

    def room(self) -> Bytes:
        """An array for the next message, which no earlier message's reader can still see."""
        ...

    def send(self) -> None:
        """Hand on what `room()` gave."""
        ...

    def send_blank(self) -> None:
        """Hand on a message without having looked at it: the least that the peer can send."""
        ...


class Receiver(Protocol):
    """The end that receives. An array must not be alive when `done()` is called."""

    def receive(self) -> Bytes:
        """Wait for the next message. Its array is good until `done()`."""
        ...

    def done(self) -> None:
        """Give the message's memory back."""
        ...

    def receive_blank(self) -> None:
        """Wait for what `send_blank()` sent, and give it back."""
        ...


class Wire(Protocol):
    """Pickled into the processes; each end is closed by the stack."""

    def sender(self, stack: ExitStack) -> Sender:
        """In a process that sends."""
        ...

    def receiver(self, stack: ExitStack) -> Receiver:
        """In a process that receives."""
        ...


@dataclass(frozen=True)
class Peer:
    """One way to get messages from process to process.

    `open(stack, size, depth)` makes a wire for messages of `size` bytes, with room for `depth`.
    """

    name: str
    module: str  # what has to be importable
    distribution: str | None  # what pyproject.toml pins; None: it comes with Python, or is us
    page: str  # where its own documentation says that this is the fast way
    copies: str  # how often, and where, a message is copied
    open: Callable[[ExitStack, int, int], Wire]
    shared: bool = False  # a message is handed on where it lies, whatever its size
    brisk: int = 20_000  # small messages for a block of a second or less
    many: bool = True  # several may send, and several receive, each message reaching one

    def available(self) -> str | None:
        """Why it cannot be measured here; None if it can."""
        if self.distribution is None:
            return None
        wanted = pins().get(self.distribution)
        try:
            found = metadata.version(self.distribution).partition("+")[0]  # torch is "2.13.0+cpu"
            import_module(self.module)
        except (ImportError, OSError) as error:
            return f"{error} (pip install '{self.distribution}=={wanted}')"
        return None if found == wanted else f"{self.distribution} is {found}, not {wanted}"


def pins(*extras: str) -> dict[str, str]:
    """The versions that pyproject.toml pins, by distribution; of all peers if none is named."""
    table = tomllib.loads(_PYPROJECT.read_text())["project"]["optional-dependencies"]
    pinned = (each.partition("==") for extra in extras or _EXTRAS for each in table[extra])
    return {name: version for name, _, version in pinned}


def fill(frame: Bytes, number: int) -> None:
    """Write to every byte; the first and the last eight say which message it is."""
    frame[:] = number & 255
    stamp(frame, number)


def stamp(frame: Bytes, number: int) -> None:
    """Write only the number, at both ends."""
    _NUMBER.pack_into(frame.data, 0, number)
    _NUMBER.pack_into(frame.data, len(frame) - _NUMBER.size, number)


def read(frame: Bytes) -> int:
    """The number of a message. Raises ValueError unless it stands at both ends."""
    (first,) = _NUMBER.unpack_from(frame.data, 0)
    (last,) = _NUMBER.unpack_from(frame.data, len(frame) - _NUMBER.size)
    if first != last:
        raise ValueError(f"a message begins as number {first} and ends as {last}")
    return int(first)


def check(frame: Bytes, number: int) -> None:
    """Raise ValueError unless it is that message, filled."""
    middle, found = int(frame[len(frame) // 2]), read(frame)
    if (found, middle) != (number, number & 255):
        raise ValueError(f"message {number} is there as {found}, filled with {middle}")
