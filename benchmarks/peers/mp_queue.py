"""multiprocessing.Queue, SimpleQueue and Pipe, of Python itself.

https://docs.python.org/3.11/library/multiprocessing.html#pipes-and-queues says that Queue takes
any object and pickles it in a thread, that SimpleQueue is without the thread, and that a
Connection has `send_bytes()` and `recv_bytes_into()` for bytes, which need no pickling.
Queue's thread reads an array after `put()` has returned: each message is a fresh array.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.peers.protocol import CONTEXT, Bytes, Peer

_PAGE = "https://docs.python.org/3.11/library/multiprocessing.html#pipes-and-queues"
_BLANK = b"12345678"


@dataclass
class QueueWire:
    """Any queue with `put()` and `get()`, which pickle what they are given."""

    queue: Any
    size: int

    def sender(self, stack: ExitStack) -> QueueSender:
        """Needs nothing."""
        del stack
        return QueueSender(self.queue, self.size)

    def receiver(self, stack: ExitStack) -> QueueReceiver:
        """Needs nothing."""
        del stack
        return QueueReceiver(self.queue)


class QueueSender:
    """Puts arrays."""

    def __init__(self, queue: Any, size: int) -> None:
        self._queue, self._size = queue, size
        self._array: Bytes

    def room(self) -> Bytes:
        """A fresh array."""
        self._array = np.empty(self._size, np.uint8)
        return self._array

    def adopt(self, array: Bytes) -> None:
        """Take another's array instead."""
        self._array = array

    def send(self) -> None:
        """Put it."""
        self._queue.put(self._array)

    def send_blank(self) -> None:
        """Eight bytes."""
        self._queue.put(_BLANK)


class QueueReceiver:
    """Gets arrays."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def receive(self) -> Bytes:
        """An array of one's own."""
        array: Bytes = self._queue.get()
        return array

    def done(self) -> None:
        """It goes with its last reference."""

    def receive_blank(self) -> None:
        """Eight bytes."""
        self._queue.get()


@dataclass
class PipeWire:
    """Both ends of a pipe."""

    reader: Connection
    writer: Connection
    size: int

    def sender(self, stack: ExitStack) -> PipeSender:
        """Close the other end."""
        self.reader.close()
        stack.callback(self.writer.close)
        return PipeSender(self.writer, self.size)

    def receiver(self, stack: ExitStack) -> PipeReceiver:
        """Close the other end."""
        self.writer.close()
        stack.callback(self.reader.close)
        return PipeReceiver(self.reader, self.size)


class PipeSender:
    """Writes bytes. `send_bytes()` has read them all when it returns: one array is enough."""

    def __init__(self, writer: Connection, size: int) -> None:
        self._writer, self._array = writer, np.empty(size, np.uint8)

    def room(self) -> Bytes:
        """The array, always the same."""
        return self._array

    def adopt(self, array: Bytes) -> None:
        """Take another's array instead."""
        self._array = array

    def send(self) -> None:
        """Write it."""
        self._writer.send_bytes(self._array.data)

    def send_blank(self) -> None:
        """Eight bytes."""
        self._writer.send_bytes(_BLANK)


class PipeReceiver:
    """Reads bytes into one array."""

    def __init__(self, reader: Connection, size: int) -> None:
        self._reader, self._array = reader, np.empty(size, np.uint8)

    def receive(self) -> Bytes:
        """The array, always the same."""
        self._reader.recv_bytes_into(self._array.data)
        return self._array

    def done(self) -> None:
        """The next message overwrites it."""

    def receive_blank(self) -> None:
        """Eight bytes."""
        self._reader.recv_bytes()


def _open_queue(stack: ExitStack, size: int, depth: int) -> QueueWire:
    queue = CONTEXT.Queue(depth)
    stack.callback(queue.close)
    return QueueWire(queue, size)


def open_simple(stack: ExitStack, size: int, depth: int) -> QueueWire:
    """A wire."""
    del depth  # as much as a pipe holds
    queue = CONTEXT.SimpleQueue()
    stack.callback(queue.close)
    return QueueWire(queue, size)


def open_pipe(stack: ExitStack, size: int, depth: int) -> PipeWire:
    """A wire."""
    del depth
    reader, writer = CONTEXT.Pipe(duplex=False)
    stack.callback(reader.close)
    stack.callback(writer.close)
    return PipeWire(reader, writer, size)


QUEUE = Peer(
    "multiprocessing.Queue", "multiprocessing", None, _PAGE,
    "4: into the pickle, into the pipe, out of it, out of the pickle", _open_queue,
)  # fmt: skip
SIMPLE_QUEUE = Peer(
    "multiprocessing.SimpleQueue", "multiprocessing", None, _PAGE,
    "4: into the pickle, into the pipe, out of it, out of the pickle", open_simple,
)  # fmt: skip
PIPE = Peer(
    "multiprocessing.Pipe", "multiprocessing", None, _PAGE,
    "3: into the pipe, out of it, into the array", open_pipe, many=False,
)  # fmt: skip
