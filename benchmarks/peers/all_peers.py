"""All peers, and which of them can be measured here."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.peers import (
    faster_fifo_queue,
    fresh_memory,
    iceoryx,
    message_queue,
    momentum,
    mp_queue,
    torch_queue,
    zeromq,
)
from benchmarks.peers.protocol import Peer

PEERS: tuple[Peer, ...] = (
    iceoryx.POLLING,
    iceoryx.EVENTS,
    momentum.PEER,
    message_queue.PEER,
    torch_queue.PEER,
    fresh_memory.PEER,
    faster_fifo_queue.PEER,
    zeromq.PEER,
    mp_queue.PIPE,
    mp_queue.SIMPLE_QUEUE,
    mp_queue.QUEUE,
)


def present(peers: Iterable[Peer] = PEERS) -> tuple[list[Peer], list[str]]:
    """Those that can be measured, and why the others cannot."""
    reasons = {peer: peer.available() for peer in peers}
    missing = [f"not measured: {peer.name}: {why}" for peer, why in reasons.items() if why]
    return [peer for peer, why in reasons.items() if not why], missing
