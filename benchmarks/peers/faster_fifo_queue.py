"""faster-fifo: a ring of bytes in shared memory behind one mutex.

https://github.com/alex-petrenko/faster-fifo (README): "custom serializers and deserializers
instead of Pickle", by which bytes go as they are; `put()` takes nothing but bytes, so that an
array has to be made into some first.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers.protocol import Bytes, Peer

_BLANK = b"12345678"


@dataclass
class FifoWire:
    """The queue, which is pickled by name of its memory."""

    queue: Any
    size: int

    def sender(self, stack: ExitStack) -> FifoSender:
        """Needs nothing."""
        del stack
        return FifoSender(self.queue, self.size)

    def receiver(self, stack: ExitStack) -> FifoReceiver:
        """Needs nothing."""
        del stack
        return FifoReceiver(self.queue)


class FifoSender:
    """Puts bytes. `put()` has copied them when it returns: one array is enough."""

    def __init__(self, queue: Any, size: int) -> None:
        self._queue, self._array = queue, np.empty(size, np.uint8)

    def room(self) -> Bytes:
        """The array, always the same."""
        return self._array

    def adopt(self, array: Bytes) -> None:
        """Take another's array instead."""
        self._array = array

    def send(self) -> None:
        """Put its bytes."""
        self._queue.put(self._array.tobytes(), timeout=30)

    def send_blank(self) -> None:
        """Eight bytes."""
        self._queue.put(_BLANK, timeout=30)


class FifoReceiver:
    """Gets bytes."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def receive(self) -> Bytes:
        """An array over the queue's own buffer, which the next `get()` overwrites."""
        return np.frombuffer(self._queue.get(timeout=30), np.uint8)

    def done(self) -> None:
        """The next message overwrites it."""

    def receive_blank(self) -> None:
        """Eight bytes."""
        self._queue.get(timeout=30)


def as_it_is(data: Any) -> Any:
    """Serialize bytes: by name, so that it can be pickled."""
    return data


def open_fifo(stack: ExitStack, size: int, depth: int) -> FifoWire:
    """A wire."""
    import faster_fifo  # noqa: PLC0415  # optional
    import faster_fifo_reduction  # noqa: F401, PLC0415  # teaches multiprocessing to pickle it

    queue = faster_fifo.Queue(depth * (size + 64), loads=as_it_is, dumps=as_it_is)
    stack.callback(queue.close)
    return FifoWire(queue, size)


PEER = Peer(
    "faster-fifo", "faster_fifo", "faster-fifo",
    "https://github.com/alex-petrenko/faster-fifo#readme",
    "3: into bytes, into the ring, out of it", open_fifo,
)  # fmt: skip
