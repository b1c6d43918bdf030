"""ZeroMQ: PUSH and PULL over a Unix socket.

https://pyzmq.readthedocs.io/en/latest/howto/serialization.html sends arrays with `copy=False` and
receives frames, over whose buffer it lays an array. A thread reads the array after `send()` has
returned: each message is a fresh one. PUSH deals its messages out; it is no common queue.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.peers.protocol import Bytes, Peer

_BLANK = b"12345678"


@dataclass
class SocketWire:
    """The address."""

    address: str
    size: int
    depth: int

    def sender(self, stack: ExitStack) -> SocketSender:
        """Connect."""
        zmq, socket = self._socket(stack, "PUSH")
        socket.set(zmq.SNDHWM, self.depth)
        socket.set(zmq.LINGER, 0)
        socket.connect(self.address)
        return SocketSender(socket, self.size)

    def receiver(self, stack: ExitStack) -> SocketReceiver:
        """Bind."""
        zmq, socket = self._socket(stack, "PULL")
        socket.set(zmq.RCVHWM, self.depth)
        socket.bind(self.address)
        return SocketReceiver(socket)

    @staticmethod
    def _socket(stack: ExitStack, kind: str) -> tuple[Any, Any]:
        import zmq  # noqa: PLC0415  # optional

        context = stack.enter_context(zmq.Context())
        return zmq, stack.enter_context(context.socket(getattr(zmq, kind)))


class SocketSender:
    """Sends arrays."""

    def __init__(self, socket: Any, size: int) -> None:
        self._socket, self._size = socket, size
        self._array: Bytes

    def room(self) -> Bytes:
        """A fresh array."""
        self._array = np.empty(self._size, np.uint8)
        return self._array

    def send(self) -> None:
        """Send it."""
        self._socket.send(self._array, copy=False)

    def send_blank(self) -> None:
        """Eight bytes, which are cheaper to copy."""
        self._socket.send(_BLANK)


class SocketReceiver:
    """Receives frames."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def receive(self) -> Bytes:
        """An array over the frame."""
        return np.frombuffer(self._socket.recv(copy=False).buffer, np.uint8)

    def done(self) -> None:
        """It goes with its last reference."""

    def receive_blank(self) -> None:
        """Eight bytes."""
        self._socket.recv()


def _open(stack: ExitStack, size: int, depth: int) -> SocketWire:
    directory = stack.enter_context(TemporaryDirectory())
    return SocketWire(f"ipc://{Path(directory) / 'wire'}", size, depth)


PEER = Peer(
    "pyzmq", "zmq", "pyzmq",
    "https://pyzmq.readthedocs.io/en/latest/howto/serialization.html",
    "2: into the socket, out of it", _open, many=False,
)  # fmt: skip
