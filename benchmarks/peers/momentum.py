"""MomentumX: a stream of buffers in shared memory, one producer, woken by a condition.

https://github.com/captivationsoftware/MomentumX (README): `sync=True` to lose nothing,
`next_to_send()` and `receive()`, `numpy.frombuffer` over a buffer "without any copying". Its
licence is GPL-3.0: it is measured here, and nothing of it is used. An array over a buffer that
was released goes on to read the messages that come after it.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.protocol import Bytes, Peer

_MEMORY = Path("/dev/shm")  # noqa: S108  # where it puts its buffers
_PATIENCE = 30  # seconds
# How long it sleeps where it has to wait; 0.01 by default: 10 ms whenever the stream is full.
_POLL = 1e-6


@dataclass
class StreamWire:
    """The stream's name. The receiver finds it only once the sender has made it."""

    name: str
    size: int
    depth: int

    def sender(self, stack: ExitStack) -> StreamSender:
        """Make the stream."""
        import momentumx  # noqa: PLC0415  # optional

        producer = momentumx.Producer(
            self.name, self.size, self.depth, sync=True, polling_interval=_POLL
        )
        stack.callback(producer.end)
        return StreamSender(producer)

    def receiver(self, stack: ExitStack) -> StreamReceiver:
        """Wait for the stream."""
        import momentumx  # noqa: PLC0415  # optional

        del stack
        until = time.monotonic() + _PATIENCE
        while True:
            # It complains on stderr of a stream that is not there yet: asked only when it may be.
            while not (_MEMORY / f"mx.{self.name}").exists():
                if time.monotonic() > until:
                    raise TimeoutError("nobody made the stream")
                time.sleep(0.02)
            time.sleep(0.02)
            try:
                return StreamReceiver(momentumx.Consumer(self.name, polling_interval=_POLL))
            except momentumx.StreamUnavailable:
                continue


class StreamSender:
    """Fills buffers."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._buffer: Any = None

    def room(self) -> Bytes:
        """An array over the next buffer."""
        self._buffer = self._producer.next_to_send()
        return np.frombuffer(self._buffer, np.uint8)

    def send(self) -> None:
        """Send all of it."""
        self._buffer.send(self._buffer.buffer_size)

    def send_blank(self) -> None:
        """A buffer as it is."""
        self._producer.next_to_send().send(8)


class StreamReceiver:
    """Reads buffers."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._buffer: Any = None

    def receive(self) -> Bytes:
        """An array over the next buffer."""
        self._buffer = self._consumer.receive()
        return np.frombuffer(self._buffer, np.uint8)

    def done(self) -> None:
        """Release the buffer."""
        self._buffer.release()

    def receive_blank(self) -> None:
        """A buffer as it is."""
        self._consumer.receive().release()


def _open(stack: ExitStack, size: int, depth: int) -> StreamWire:
    name = f"bench-{os.getpid()}-{secrets.token_hex(4)}"
    stack.callback(_remove, name)
    return StreamWire(name, size, depth)


def _remove(name: str) -> None:
    """What a process that was killed left."""
    for path in _MEMORY.glob(f"mx.{name}*"):
        path.unlink(missing_ok=True)


PEER = Peer(
    "momentumx", "momentumx", "momentumx",
    "https://github.com/captivationsoftware/MomentumX#readme",
    "none", _open, shared=True, many=False, brisk=10_000,
)  # fmt: skip
