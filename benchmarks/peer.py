"""The other process: one child which answers for every variant, one block at a time, on order.

Between blocks it sleeps, so that the variants never run beside each other.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from benchmarks.place import pinned

Echo: TypeAlias = Callable[[int], object]
# Attaches to what the parent made; the stack closes it again.
Build: TypeAlias = Callable[..., Mapping[str, Echo]]


class Peer:
    """The parent's end of the child."""

    def __init__(self, orders: Connection) -> None:
        self._orders = orders

    def echo(self, variant: str, turns: int, cpu: int | None) -> None:
        """Have the child answer so many turns, on that CPU."""
        self._orders.send((variant, turns, cpu))

    def wait(self) -> None:
        """Return when the child has done its block. Raises EOFError if it died."""
        self._orders.recv()


@contextmanager
def peer(build: Build, *arguments: Any) -> Iterator[Peer]:
    """Start the child, which calls `build(stack, *arguments)`, and end it afterwards."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, build, arguments), name="peer")
    process.start()
    theirs.close()
    child = Peer(ours)
    try:
        child.wait()
        yield child
    except BaseException:
        process.terminate()  # it may wait for us
        raise
    finally:
        ours.close()
        process.join()
        process.close()


class PeerGoneError(KeyboardInterrupt):
    """The child died. posix_ipc lets no other exception of a signal handler out of a wait."""


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Raise PeerGoneError in whatever waits for a peer so long."""

    def late(*_: object) -> None:
        raise PeerGoneError(f"the peer did not answer for {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _serve(orders: Connection, build: Build, arguments: tuple[Any, ...]) -> None:
    with ExitStack() as stack:
        echoes = build(stack, *arguments)
        orders.send(None)
        while True:
            try:
                variant, turns, cpu = orders.recv()
            except EOFError:
                return
            with pinned(cpu):
                echoes[variant](turns)
            orders.send(None)
