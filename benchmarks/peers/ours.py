"""shmpool itself, in the same harness as its peers.

README.md: acquire, array, put; get, array, release.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.peers.protocol import Bytes, Peer
from shmpool import Lease, Pool, Queue

_PATIENCE = 30  # seconds until an end says that the other one is gone


@dataclass
class Ours:
    """A wire: the name of a pool with one queue."""

    pool_name: str
    size: int
    spin: float | None

    def sender(self, stack: ExitStack) -> PoolSender:
        """Attach."""
        pool = self._attach(stack)
        return PoolSender(pool, pool.queue("wire"), self.size)

    def receiver(self, stack: ExitStack) -> PoolReceiver:
        """Attach."""
        return PoolReceiver(self._attach(stack).queue("wire"))

    def _attach(self, stack: ExitStack) -> Pool:
        if self.spin is None:
            return stack.enter_context(Pool.attach(self.pool_name))
        return stack.enter_context(Pool.attach(self.pool_name, spin=self.spin))


class PoolSender:
    """Leases and puts."""

    def __init__(self, pool: Pool, queue: Queue, size: int) -> None:
        self._pool, self._queue, self._size = pool, queue, size
        self._lease: Lease

    def room(self) -> Bytes:
        """An array over a slot."""
        self._lease = self._pool.acquire(timeout=_PATIENCE)
        return self._lease.array(self._size, np.uint8)

    def send(self) -> None:
        """Put it."""
        self._queue.put(self._lease)

    def send_blank(self) -> None:
        """A slot as it is."""
        self._queue.put(self._pool.acquire(timeout=_PATIENCE))


class PoolReceiver:
    """Gets and releases."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._lease: Lease

    def receive(self) -> Bytes:
        """The array that the sender described."""
        self._lease = self._queue.get(timeout=_PATIENCE)
        return self._lease.array()

    def done(self) -> None:
        """Release the slot."""
        self._lease.release()

    def receive_blank(self) -> None:
        """A slot as it is."""
        self._queue.get(timeout=_PATIENCE).release()


def _open(spin: float | None, stack: ExitStack, size: int, depth: int) -> Ours:
    pool = stack.enter_context(Pool.create(depth, size, queues=("wire",)))
    return Ours(pool.name, size, spin)


def _peer(name: str, spin: float | None) -> Peer:
    return Peer(
        name, "shmpool", None, "README.md", "none", partial(_open, spin), shared=True,
        brisk=100_000,
    )  # fmt: skip


OURS = _peer("shmpool", None)  # spins a little, then sleeps
ASLEEP = _peer("shmpool, spin=0", 0)
SPINNING = _peer("shmpool, spin=0.001", 0.001)  # longer than the next picture takes to come
