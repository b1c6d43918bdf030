"""From the sender's hand into the receiver's: what a message of each size takes.

Untouched: nobody looks at the message; what is handed on where it lies costs the same whatever its
size; each side has a CPU of its own, since whether the two share one makes more difference than
anything else. The next is how long the machine takes to wake somebody, which changes from one
second to the next: the sizes take turns, message by message, between the same two processes.
Filled: every byte is written before the clock starts, and the receiver, which has gone to sleep
meanwhile, has read the message's number at both ends before it stops. The clock is the one that
all processes share; the receiver sends its reading back through a pipe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product
from multiprocessing.connection import Connection

from benchmarks.contest import Contest, Side, contest
from benchmarks.measure import Ratio, Series, compare
from benchmarks.peers import all_peers, iceoryx, ours
from benchmarks.peers.protocol import CONTEXT, Peer, Receiver, Sender, Wire, check, fill
from benchmarks.place import ANY_CPU, TWO_CPUS, Places, hold, pinned
from benchmarks.result import Outcome, Row, Target
from benchmarks.stage import Role, play

_PAUSE = 200_000  # nanoseconds: many times what going to sleep takes
_KIB, _MIB = 1 << 10, 1 << 20
SIZES = {
    "4 KiB": 4 * _KIB, "64 KiB": 64 * _KIB, "1 MiB": _MIB, "16 MiB": 16 * _MIB,
    "64 MiB": 64 * _MIB, "256 MiB": 256 * _MIB,
}  # fmt: skip
_QUICK = ("4 KiB", "16 MiB")
_COPIED = 1 << 29  # bytes of messages in a block, at most, ...
_TURNS = 100  # ... and so many messages
_LEAST = "4 KiB"


def run(*, quick: bool) -> Outcome:
    """All peers at each size, and those that copy nothing also untouched."""
    rounds, blank_rounds = (1, 1) if quick else (3, 9)
    peers, missing = all_peers.present()
    peers = [ours.ASLEEP, *(peer for peer in peers if peer is not iceoryx.POLLING)]
    sizes = _QUICK if quick else tuple(SIZES)
    blank: dict[str, Side] = {}
    filled: dict[str, Side] = {}
    for size in sizes:
        for peer in peers:
            turns = _turns(SIZES[size], quick=quick)
            filled[f"{size} filled: {peer.name}"] = partial(block, peer, SIZES[size], turns)
    few = 20 if quick else _TURNS
    for peer in (peer for peer in peers if peer.shared):
        blank[peer.name] = partial(blank_block, peer, sizes, few)
    untouched, found = contest(blank_rounds, blank), contest(rounds, filled)
    if quick:
        _assert_flat(found)
    notes = (
        "untouched: the sizes take turns, ratio to 4 KiB; filled: ratio to shmpool at that size",
        "filled: from send() until the receiver has read both ends; the receiver was asleep",
    )
    rows = [*_untouched_rows(untouched, sizes), *_filled_rows(found, sizes)]
    found_out = (*missing, *untouched.notes, *found.notes)
    return Outcome.of("hand_off", rows, *notes, *found_out, axis="KiB a message")


def _turns(size: int, *, quick: bool) -> int:
    return 3 if quick else max(3, min(_TURNS, _COPIED // size))


def block(peer: Peer, size: int, turns: int) -> Mapping[str, Sequence[float]]:
    """Nanoseconds of each hand-off of a filled message."""
    return {"time": _block(peer, [size], turns, ANY_CPU, give, take)}


def blank_block(peer: Peer, sizes: Sequence[str], turns: int) -> Mapping[str, Sequence[float]]:
    """Nanoseconds of each hand-off of an untouched message, by size."""
    nbytes = [SIZES[size] for size in sizes]
    times = _block(peer, nbytes, turns, TWO_CPUS, give_blank, take_blank)
    return {size: times[place :: len(sizes)] for place, size in enumerate(sizes)}


def _block(
    peer: Peer,
    sizes: Sequence[int],
    turns: int,
    places: Places,
    giver: Callable[..., object],
    taker: Callable[..., object],
) -> list[float]:
    with ExitStack() as stack:
        wires = [peer.open(stack, size, 2) for size in sizes]
        ours_, theirs = CONTEXT.Pipe(duplex=False)
        stack.callback(ours_.close)
        stack.callback(theirs.close)
        roles = [
            Role(build, (True, places[0], giver, wires, ours_, turns + 2)),
            Role(build, (False, places[1], taker, wires, theirs, turns + 2)),
        ]
        times, _none = play(roles).results
    counted: list[float] = times[2 * len(sizes) :]
    return counted


def build(
    stack: ExitStack,
    sends: bool,  # noqa: FBT001  # a role's arguments are positional
    place: int | None,
    action: Callable[..., object],
    wires: Sequence[Wire],
    clock: Connection,
    turns: int,
) -> Callable[[], object]:
    """Take one end of each wire."""
    ends = [wire.sender(stack) if sends else wire.receiver(stack) for wire in wires]
    stack.enter_context(pinned(place))
    return partial(action, ends, clock, turns)


def give(ends: Sequence[Sender], clock: Connection, turns: int) -> list[int]:
    """Fill, then send: nanoseconds until the receiver had it."""
    times = []
    for number, end in product(range(turns), ends):
        fill(end.room(), number)
        hold(_PAUSE)
        began = time.perf_counter_ns()
        end.send()
        times.append(clock.recv() - began)
    return times


def take(ends: Sequence[Receiver], clock: Connection, turns: int) -> None:
    """Receive and check, and say when."""
    for number, end in product(range(turns), ends):
        check(end.receive(), number)
        ended = time.perf_counter_ns()
        end.done()
        clock.send(ended)


def give_blank(ends: Sequence[Sender], clock: Connection, turns: int) -> list[int]:
    """Send, without a look."""
    times = []
    for _turn, end in product(range(turns), ends):
        hold(_PAUSE)
        began = time.perf_counter_ns()
        end.send_blank()
        times.append(clock.recv() - began)
    return times


def take_blank(ends: Sequence[Receiver], clock: Connection, turns: int) -> None:
    """Receive and give back, and say when."""
    for _turn, end in product(range(turns), ends):
        end.receive_blank()
        clock.send(time.perf_counter_ns())


def _untouched_rows(found: Contest, sizes: Sequence[str]) -> list[Row]:
    rows = []
    flat = Target("ratio", at_least=0.9, at_most=1.1)
    for size, (peer, series) in product(sizes, found.series.items()):
        ratio = compare(series[size], series[_LEAST])
        target = flat if peer == ours.ASLEEP.name and size != _LEAST else None
        rows.append(_row(f"{size} untouched: {peer}", series[size], ratio, target))
    return rows


def _filled_rows(found: Contest, sizes: Sequence[str]) -> list[Row]:
    rows = []
    for size in sizes:
        mine = found.of(f"{size} filled: {ours.ASLEEP.name}", "time")
        names = [name for name in found.series if name.startswith(f"{size} filled: ")]
        for name in names:
            times = found.of(name, "time")
            rows.append(_row(name, times, compare(times, mine)))
    return rows


def _row(name: str, times: Series, ratio: Ratio | None, target: Target | None = None) -> Row:
    """`name`: a size, whether the message was filled, and a peer."""
    size = next(size for size in SIZES if name.startswith(f"{size} "))
    line = name.removeprefix(f"{size} ")
    return Row.of(name, times, "us", ratio, target, line=line, at=SIZES[size] / _KIB)


def _assert_flat(found: Contest) -> None:
    """What holds on any machine: 4,096 times the bytes do not cost a hundred times as much."""
    small, large = (found.of(f"{size} filled: {ours.ASLEEP.name}", "time") for size in _QUICK)
    ratio = compare(large, small).value
    if ratio > 100:
        raise AssertionError(f"handing on {_QUICK[1]} takes {ratio:.0f} times as long")
