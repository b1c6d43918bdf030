"""From one process to several, all of which get every message.

A fan opens one wire for the sender and one for each reader, of the peers that have such wires.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from benchmarks.peers import faster_fifo_queue, iceoryx, momentum, mp_queue, ours
from benchmarks.peers.protocol import Bytes, Peer, Receiver, Sender, Wire
from shmpool import Borrow, Lease, Pool, Queue

_TICKET = struct.Struct("<Q")  # all that is in a note: a slot of the smallest class
_READ = "read"  # the queue on which notes come back
_PATIENCE = 30  # seconds until the sender says that a reader is gone


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
    """A pool with a queue of notes for each reader, and one on which all come back."""

    pool_name: str
    size: int
    depth: int
    queues: Sequence[str]

    def sender(self, stack: ExitStack) -> ShareSender:
        """Attach; puts notes to each reader."""
        return ShareSender(self, stack.enter_context(Pool.attach(self.pool_name)))

    def receiver(self, stack: ExitStack) -> ShareReceiver:
        """Attach; gets the notes of one."""
        pool = stack.enter_context(Pool.attach(self.pool_name))
        return ShareReceiver(pool, pool.queue(self.queues[0]), pool.queue(_READ))


class ShareSender:
    """Shares a slot, and lets go of it when all readers are done."""

    def __init__(self, wire: ShareWire, pool: Pool) -> None:
        self._wire, self._pool, self._read = wire, pool, pool.queue(_READ)
        self._readers = [pool.queue(name) for name in wire.queues]
        self._lease: Lease
        self._out: dict[int, tuple[Lease, int]] = {}  # by ticket: and how many still read it

    def room(self) -> Bytes:
        """An array over a slot: one that has just come back, if there is one."""
        while self._read.qsize() or len(self._out) == self._wire.depth:
            self._take_note()
        self._lease = self._pool.acquire(self._wire.size)
        return self._lease.array(self._wire.size, np.uint8)

    def _take_note(self) -> None:
        note = self._read.get(timeout=_PATIENCE)
        (ticket,) = _TICKET.unpack_from(note)
        note.release()
        lease, readers = self._out.pop(ticket)
        if readers > 1:
            self._out[ticket] = lease, readers - 1
        else:
            lease.release()

    def send(self) -> None:
        """A note to each."""
        ticket = int(self._lease.share())
        self._out[ticket] = self._lease, len(self._readers)
        for reader in self._readers:
            note = self._pool.acquire(_TICKET.size)
            _TICKET.pack_into(note, 0, ticket)
            reader.put(note)

    def send_blank(self) -> None:
        """A slot as it is."""
        self._lease = self._pool.acquire(self._wire.size)
        self.send()


class ShareReceiver:
    """Borrows."""

    def __init__(self, pool: Pool, notes: Queue, read: Queue) -> None:
        self._pool, self._notes, self._read = pool, notes, read
        self._note: Lease
        self._borrow: Borrow

    def receive(self) -> Bytes:
        """A read-only array over the slot."""
        self._note = self._notes.get(timeout=_PATIENCE)
        self._borrow = self._pool.borrow(*_TICKET.unpack_from(self._note))
        return self._borrow.array()

    def done(self) -> None:
        """End the borrow, and say so."""
        self._borrow.release()
        self._read.put(self._note)

    def receive_blank(self) -> None:
        """A slot as it is."""
        self.receive()
        self.done()


def _share(
    stack: ExitStack, size: int, depth: int, readers: int
) -> tuple[Wire, Sequence[Wire]]:  # fmt: skip
    queues = [f"reader-{number}" for number in range(readers)]
    classes = [(_TICKET.size, (depth + 1) * readers), (size, depth)]
    pool = stack.enter_context(Pool.create(classes=classes, queues=(*queues, _READ)))
    sender, *receivers = (
        ShareWire(pool.name, size, depth, names) for names in (queues, *zip(queues, strict=True))
    )
    return sender, receivers


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
