"""From one process to several, all of which get every message.

A fan opens one wire for the sender and one for each reader, of the peers that have such wires.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Protocol

import numpy as np

from benchmarks.peers import faster_fifo_queue, iceoryx, momentum, mp_queue, ours
from benchmarks.peers.protocol import CONTEXT, Bytes, Peer, Receiver, Sender, Wire
from shmpool import Borrow, Lease, Pool

_TICKET = 8  # bytes


@dataclass(frozen=True)
class Fan:
    """`open(stack, size, depth, readers)` makes the wire of the sender, and that of each reader."""

    peer: Peer
    open: Callable[[ExitStack, int, int, int], tuple[Wire, Sequence[Wire]]]

    @property
    def name(self) -> str:
        """The peer's."""
        return self.peer.name


@dataclass
class ShareWire:
    """A pool, and for each reader a pipe for tickets and one for what comes back."""

    pool_name: str
    size: int
    depth: int
    tickets: list[Connection]
    thanks: list[Connection]

    def sender(self, stack: ExitStack) -> ShareSender:
        """Attach; the ends that write tickets and read thanks."""
        return ShareSender(self, stack.enter_context(Pool.attach(self.pool_name)))

    def receiver(self, stack: ExitStack) -> ShareReceiver:
        """Attach; the ends that read tickets and write thanks."""
        pool = stack.enter_context(Pool.attach(self.pool_name))
        return ShareReceiver(pool, self.tickets[0], self.thanks[0])


class ShareSender:
    """Shares a slot, and lets go of it when all readers are done."""

    def __init__(self, wire: ShareWire, pool: Pool) -> None:
        self._wire, self._pool = wire, pool
        self._lease: Lease
        self._out: deque[Lease] = deque()

    def room(self) -> Bytes:
        """An array over a slot; one that is out comes back first, if all are."""
        if len(self._out) == self._wire.depth:
            for each in self._wire.thanks:
                each.recv_bytes()
            self._out.popleft().release()
        self._lease = self._pool.acquire()
        return self._lease.array(self._wire.size, np.uint8)

    def send(self) -> None:
        """Its ticket to each."""
        ticket = int(self._lease.share()).to_bytes(_TICKET, "little")
        for each in self._wire.tickets:
            each.send_bytes(ticket)
        self._out.append(self._lease)

    def send_blank(self) -> None:
        """A slot as it is."""
        self._lease = self._pool.acquire()
        self.send()


class ShareReceiver:
    """Borrows."""

    def __init__(self, pool: Pool, tickets: Connection, thanks: Connection) -> None:
        self._pool, self._tickets, self._thanks = pool, tickets, thanks
        self._borrow: Borrow

    def receive(self) -> Bytes:
        """A read-only array over the slot."""
        ticket = int.from_bytes(self._tickets.recv_bytes(), "little")
        self._borrow = self._pool.borrow(ticket)
        return self._borrow.array()

    def done(self) -> None:
        """End the borrow, and say so."""
        self._borrow.release()
        self._thanks.send_bytes(b"!")

    def receive_blank(self) -> None:
        """A slot as it is."""
        self.receive()
        self.done()


def _share(
    stack: ExitStack, size: int, depth: int, readers: int
) -> tuple[Wire, Sequence[Wire]]:  # fmt: skip
    pool = stack.enter_context(Pool.create(depth, size))
    tickets, thanks = (
        [_pipe(stack) for _ in range(readers)] for _ in range(2)
    )  # fmt: skip
    sender = ShareWire(
        pool.name, size, depth, [write for _, write in tickets], [read for read, _ in thanks]
    )
    pairs = zip(tickets, thanks, strict=True)
    return sender, [
        ShareWire(pool.name, size, depth, [read], [write]) for (read, _), (_, write) in pairs
    ]


def _pipe(stack: ExitStack) -> tuple[Connection, Connection]:
    read, write = CONTEXT.Pipe(duplex=False)
    stack.callback(read.close)
    stack.callback(write.close)
    return read, write


def _publish(
    events: bool,  # noqa: FBT001  # bound by partial
    stack: ExitStack, size: int, depth: int, readers: int,
) -> tuple[Wire, Sequence[Wire]]:  # fmt: skip
    wire = iceoryx.open_service(stack, size, depth, events=events, readers=readers)
    return wire, [wire] * readers


def _stream(
    stack: ExitStack, size: int, depth: int, readers: int
) -> tuple[Wire, Sequence[Wire]]:  # fmt: skip
    wire = momentum.PEER.open(stack, size, depth)
    return wire, [wire] * readers


class Copier(Sender, Protocol):
    """A sender that copies, and so may be given any array."""

    def adopt(self, array: Bytes) -> None:
        """Send that one."""
        ...


class CopyingWire(Wire, Protocol):
    """A wire whose sender copies."""

    def sender(self, stack: ExitStack) -> Copier:
        """In the process that sends."""
        ...


@dataclass
class CopyWire:
    """A wire to each reader, for the sender."""

    wires: Sequence[CopyingWire]

    def sender(self, stack: ExitStack) -> CopySender:
        """The ends that send."""
        return CopySender([wire.sender(stack) for wire in self.wires])

    def receiver(self, stack: ExitStack) -> Receiver:
        """Each reader has a wire of its own."""
        raise NotImplementedError


class CopySender:
    """Sends the same to each. Senders are given one array: what they do with it is their own."""

    def __init__(self, ends: list[Copier]) -> None:
        self._ends = ends
        self._array: Bytes

    def room(self) -> Bytes:
        """The first one's."""
        self._array = self._ends[0].room()
        return self._array

    def send(self) -> None:
        """To each."""
        for end in self._ends:
            end.adopt(self._array)
            end.send()

    def send_blank(self) -> None:
        """To each."""
        for end in self._ends:
            end.send_blank()


def _copies(
    open_: Callable[[ExitStack, int, int], CopyingWire],
    stack: ExitStack, size: int, depth: int, readers: int,
) -> tuple[Wire, Sequence[Wire]]:  # fmt: skip
    wires = [open_(stack, size, depth) for _ in range(readers)]
    return CopyWire(wires), wires


FANS: tuple[Fan, ...] = (
    Fan(ours.OURS, _share),
    Fan(iceoryx.POLLING, partial(_publish, False)),  # noqa: FBT003
    Fan(iceoryx.EVENTS, partial(_publish, True)),  # noqa: FBT003
    Fan(momentum.PEER, _stream),
    Fan(faster_fifo_queue.PEER, partial(_copies, faster_fifo_queue.open_fifo)),
    Fan(mp_queue.PIPE, partial(_copies, mp_queue.open_pipe)),
    Fan(mp_queue.SIMPLE_QUEUE, partial(_copies, mp_queue.open_simple)),
)
