"""The floor of all that sleep: a POSIX semaphore for each direction, which carries nothing.

https://semanchuk.com/philip/posix_ipc/ (semaphores).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import posix_ipc

from benchmarks.peers.protocol import Bytes, Peer


@dataclass
class SemaphoreWire:
    """The semaphore's name."""

    name: str

    def sender(self, stack: ExitStack) -> SemaphoreEnd:
        """Open it."""
        return self._end(stack)

    def receiver(self, stack: ExitStack) -> SemaphoreEnd:
        """Open it."""
        return self._end(stack)

    def _end(self, stack: ExitStack) -> SemaphoreEnd:
        semaphore = posix_ipc.Semaphore(self.name)
        stack.callback(semaphore.close)
        return SemaphoreEnd(semaphore)


class SemaphoreEnd:
    """Either end: it only has blank messages."""

    def __init__(self, semaphore: posix_ipc.Semaphore) -> None:
        self._semaphore = semaphore

    def send_blank(self) -> None:
        """Post."""
        self._semaphore.release()

    def receive_blank(self) -> None:
        """Wait."""
        self._semaphore.acquire()

    def room(self) -> Bytes:
        """There is none."""
        raise NotImplementedError

    receive = room

    def send(self) -> None:
        """There is nothing to send."""
        raise NotImplementedError

    done = send


def _open(stack: ExitStack, size: int, depth: int) -> SemaphoreWire:
    del size, depth
    semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=0)
    stack.callback(semaphore.close)
    stack.callback(semaphore.unlink)
    return SemaphoreWire(semaphore.name)


SEMAPHORES = Peer(
    "floor: two posix_ipc semaphores", "posix_ipc", None,
    "https://semanchuk.com/philip/posix_ipc/", "there is nothing to copy", _open,
)  # fmt: skip
