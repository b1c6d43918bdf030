"""A fresh SharedMemory for each message, its name sent through a SimpleQueue.

https://docs.python.org/3.11/library/multiprocessing.shared_memory.html shows it: one process
creates a block, others attach to it by name, and the last one unlinks it. Nothing is copied,
but every message has to be made, mapped, and found page by page, twice.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.shared_memory import SharedMemory
from multiprocessing.synchronize import Semaphore

import numpy as np

from benchmarks.peers.protocol import CONTEXT, Bytes, Peer


@dataclass
class FreshWire:
    """The queue for the names, and a semaphore that counts how many more may be under way."""

    names: SimpleQueue[str]
    room: Semaphore
    size: int

    def sender(self, stack: ExitStack) -> FreshSender:
        """Close what was not sent."""
        sender = FreshSender(self.names, self.room, self.size)
        stack.callback(sender.done)
        return sender

    def receiver(self, stack: ExitStack) -> FreshReceiver:
        """Remove what was not received to the end."""
        receiver = FreshReceiver(self.names, self.room, self.size)
        stack.callback(receiver.done)
        return receiver


class FreshSender:
    """Creates."""

    def __init__(self, names: SimpleQueue[str], room: Semaphore, size: int) -> None:
        self._names, self._room, self._size = names, room, size
        self._memory: SharedMemory | None = None

    def room(self) -> Bytes:
        """An array over a fresh block."""
        self._room.acquire()
        self._memory = SharedMemory(create=True, size=self._size)
        return np.ndarray(self._size, np.uint8, self._memory.buf)

    def send(self) -> None:
        """Send its name, and unmap it."""
        if self._memory is not None:
            self._names.put(self._memory.name)
        self.done()

    def send_blank(self) -> None:
        """A block as it is."""
        self.room()
        self.send()

    def done(self) -> None:
        """Unmap."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None


class FreshReceiver:
    """Attaches, and unlinks."""

    def __init__(self, names: SimpleQueue[str], room: Semaphore, size: int) -> None:
        self._names, self._room, self._size = names, room, size
        self._memory: SharedMemory | None = None

    def receive(self) -> Bytes:
        """An array over the block."""
        self._memory = SharedMemory(self._names.get())
        return np.ndarray(self._size, np.uint8, self._memory.buf)

    def done(self) -> None:
        """Unmap it and remove it."""
        if self._memory is not None:
            self._memory.close()
            self._memory.unlink()
            self._memory = None
            self._room.release()

    def receive_blank(self) -> None:
        """A block as it is."""
        self.receive()
        self.done()


def _open(stack: ExitStack, size: int, depth: int) -> FreshWire:
    names: SimpleQueue[str] = CONTEXT.SimpleQueue()
    stack.callback(names.close)
    return FreshWire(names, CONTEXT.Semaphore(depth), size)


PEER = Peer(
    "a fresh SharedMemory each", "multiprocessing.shared_memory", None,
    "https://docs.python.org/3.11/library/multiprocessing.shared_memory.html",
    "none, but fresh pages each time", _open, brisk=2_000,
)  # fmt: skip
