"""A slab of slots, and two POSIX message queues for the numbers of those free and those filled.

What one builds oneself. https://semanchuk.com/philip/posix_ipc/ (message queues) says that they are
faster than pipes for small messages; a kernel lets an ordinary user have 10 in one queue.
Nobody notices here when a process dies with a number in hand, or writes to a slot given back.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import posix_ipc

from benchmarks.peers.protocol import Bytes, Peer

_MOST = 10  # messages, of an ordinary user


@dataclass
class SlabWire:
    """The slab, and the queues' names."""

    memory: SharedMemory
    free: str
    full: str
    size: int

    def sender(self, stack: ExitStack) -> SlabSender:
        """Open the queues."""
        return SlabSender(*self._slots(stack))

    def receiver(self, stack: ExitStack) -> SlabReceiver:
        """Open the queues."""
        return SlabReceiver(*self._slots(stack))

    def _slots(
        self, stack: ExitStack
    ) -> tuple[list[Bytes], posix_ipc.MessageQueue, posix_ipc.MessageQueue]:
        free, full = (posix_ipc.MessageQueue(name) for name in (self.free, self.full))
        stack.callback(free.close)
        stack.callback(full.close)
        # frombuffer takes an export, which keeps the memory mapped while an array is alive.
        slab = np.frombuffer(memoryview(self.memory.buf or b""), np.uint8)
        count = len(slab) // self.size
        stack.callback(self.memory.close)
        slots = [slab[at * self.size : (at + 1) * self.size] for at in range(count)]
        stack.callback(slots.clear)
        return slots, free, full


class SlabSender:
    """Takes a free number, fills that slot, hands the number on."""

    def __init__(
        self, slots: list[Bytes], free: posix_ipc.MessageQueue, full: posix_ipc.MessageQueue
    ) -> None:
        self._slots, self._free, self._full = slots, free, full
        self._number = b""

    def room(self) -> Bytes:
        """A free slot."""
        self._number, _priority = self._free.receive()
        return self._slots[self._number[0]]

    def send(self) -> None:
        """Its number."""
        self._full.send(self._number)

    def send_blank(self) -> None:
        """A slot as it is."""
        number, _priority = self._free.receive()
        self._full.send(number)


class SlabReceiver:
    """Takes a filled slot's number, and gives it back."""

    def __init__(
        self, slots: list[Bytes], free: posix_ipc.MessageQueue, full: posix_ipc.MessageQueue
    ) -> None:
        self._slots, self._free, self._full = slots, free, full
        self._number = b""

    def receive(self) -> Bytes:
        """A filled slot."""
        self._number, _priority = self._full.receive()
        return self._slots[self._number[0]]

    def done(self) -> None:
        """Its number."""
        self._free.send(self._number)

    def receive_blank(self) -> None:
        """A slot as it is."""
        number, _priority = self._full.receive()
        self._free.send(number)


def _open(stack: ExitStack, size: int, depth: int) -> SlabWire:
    count = min(depth, _MOST)
    memory = SharedMemory(create=True, size=count * size)
    stack.callback(memory.unlink)
    stack.callback(memory.close)
    free, full = (_queue(stack, count) for _ in range(2))
    for number in range(count):
        free.send(bytes([number]))
    return SlabWire(memory, free.name, full.name, size)


def _queue(stack: ExitStack, count: int) -> posix_ipc.MessageQueue:
    create = posix_ipc.O_CREX
    queue = posix_ipc.MessageQueue(None, create, max_messages=count, max_message_size=8)
    stack.callback(queue.unlink)
    stack.callback(queue.close)
    return queue


PEER = Peer(
    "a slab, posix_ipc message queues", "posix_ipc", None,
    "https://semanchuk.com/philip/posix_ipc/", "none", _open, shared=True,
)  # fmt: skip
