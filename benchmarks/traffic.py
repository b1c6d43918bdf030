"""What the processes at the two ends of a wire do: so many messages, sent and received.

Roles for `stage.play`. Filled messages are written to at every byte; stamped ones have their
number at both ends; blank ones have not been looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import repeat
from typing import NamedTuple

from benchmarks.peers.protocol import Receiver, Sender, Wire, check, fill, read, stamp


class Spent(NamedTuple):
    """From when to when, on the clock that all processes share, and CPU time, in nanoseconds."""

    began: int
    ended: int
    cpu: int
    total: int = 0  # of the numbers received


class Load(NamedTuple):
    """So many messages: first some that do not count."""

    warm: int
    counted: int


def send_filled(stack: ExitStack, wire: Wire, load: Load) -> Callable[[], Spent]:
    """Fill and send."""
    end = wire.sender(stack)
    return partial(_timed, partial(_send_filled, end), load)


def check_filled(stack: ExitStack, wire: Wire, load: Load) -> Callable[[], Spent]:
    """Receive and check, in order."""
    end = wire.receiver(stack)
    return partial(_timed, partial(_check_filled, end), load)


def send_stamped(stack: ExitStack, wire: Wire, load: Load) -> Callable[[], Spent]:
    """Stamp and send."""
    end = wire.sender(stack)
    return partial(_timed, partial(_send_stamped, end), load)


def add_stamped(stack: ExitStack, wire: Wire, load: Load) -> Callable[[], Spent]:
    """Receive whichever comes, and add the numbers up."""
    end = wire.receiver(stack)
    return partial(_added, end, load)


def send_blank(stack: ExitStack, wire: Wire, load: Load) -> Callable[[], Spent]:
    """Send, in a row."""
    end = wire.sender(stack)
    return partial(_timed, lambda _first, count: _repeat(end.send_blank, count), load)


def take_blank(
    stack: ExitStack, wire: Wire, load: Load, batch: int
) -> Callable[[], list[float]]:  # fmt: skip
    """Receive, in a row: the mean nanoseconds of each batch."""
    end = wire.receiver(stack)
    return partial(_batches, end.receive_blank, load, batch)


def _timed(go: Callable[[int, int], None], load: Load) -> Spent:
    go(0, load.warm)
    cpu, began = time.process_time_ns(), time.perf_counter_ns()
    go(load.warm, load.counted)
    return Spent(began, time.perf_counter_ns(), time.process_time_ns() - cpu)


def _send_filled(end: Sender, first: int, count: int) -> None:
    for number in range(first, first + count):
        fill(end.room(), number)
        end.send()


def _check_filled(end: Receiver, first: int, count: int) -> None:
    for number in range(first, first + count):
        check(end.receive(), number)
        end.done()


def _send_stamped(end: Sender, first: int, count: int) -> None:
    for number in range(first, first + count):
        stamp(end.room(), number)
        end.send()


def _added(end: Receiver, load: Load) -> Spent:
    cpu, began, total = time.process_time_ns(), time.perf_counter_ns(), 0
    for _turn in repeat(None, load.warm + load.counted):
        total += read(end.receive())
        end.done()
    return Spent(began, time.perf_counter_ns(), time.process_time_ns() - cpu, total)


def _repeat(action: Callable[[], None], count: int) -> None:
    for _turn in repeat(None, count):
        action()


def _batches(action: Callable[[], None], load: Load, batch: int) -> list[float]:
    _repeat(action, load.warm)
    return [_mean(action, batch) for _ in range(load.counted // batch)]


def _mean(action: Callable[[], None], count: int) -> float:
    began = time.perf_counter_ns()
    _repeat(action, count)
    return (time.perf_counter_ns() - began) / count
