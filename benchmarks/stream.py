"""A stream of pictures from process to process: 1080p, filled by the one and checked by the other.

Every byte of every picture is written; its number, at both ends, and a byte in the middle are
checked. The clock is the receiver's; CPU time is that of both processes, and of the coordinator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import Contest, Side, contest
from benchmarks.floor_roles import memory
from benchmarks.measure import compare
from benchmarks.peers import all_peers, iceoryx, message_queue, mp_queue, ours
from benchmarks.peers.protocol import Peer
from benchmarks.result import Outcome, Row, Target
from benchmarks.stage import Role, play
from benchmarks.traffic import Load, check_filled, send_filled

SIZE, DEPTH = 1920 * 1080 * 3, 8
FRAMES = 1200
SLOW = 150  # frames, of those that copy, or need a millisecond for a message of any size

# What the memory allows: one process, no message.
_FLOORS: dict[str, Side] = {
    "floor: one process fills one buffer": partial(memory, 1, SIZE, 200, copies=False),
    # As with us: the next slot is taken before the receiver has given the last one back.
    "floor: one process fills 2 in turn": partial(memory, 2, SIZE, 200, copies=False),
    f"floor: one process fills {DEPTH} in turn": partial(memory, DEPTH, SIZE, 200, copies=False),
    f"floor: one process copies into {DEPTH} in turn": partial(
        memory, DEPTH, SIZE, 200, copies=True
    ),
}

_OURS = (ours.OURS, ours.ASLEEP, ours.SPINNING)
_UNRIVALLED = {*(peer.name for peer in _OURS), *_FLOORS}
_TARGETS = {
    iceoryx.EVENTS.name: 1.0,
    iceoryx.POLLING.name: 1.0,
    message_queue.PEER.name: 1.4,
    mp_queue.QUEUE.name: 40.0,
}


def run(*, quick: bool) -> Outcome:
    """Blocks of many frames, all processes fresh in each."""
    rounds = 1 if quick else 5
    peers, missing = all_peers.present()
    sides: dict[str, Side] = _FLOORS | {
        peer.name: partial(block, peer, _frames(peer, quick=quick)) for peer in (*_OURS, *peers)
    }
    found = contest(rounds, sides, must=tuple(peer.name for peer in _OURS))
    notes = (
        "ratio: how many times as long a frame takes as with shmpool; of CPU seconds likewise",
        "iceoryx2 with events is compared with spin=0, and polling with one who spins as well",
        f"{SIZE:,} bytes, {DEPTH} slots where a peer has such; nobody is pinned",
    )
    rows = [*_time_rows(found), *_cpu_rows(found)]
    if quick:
        _assert_far_behind(found)
    return Outcome.of("stream", rows, *notes, *missing, *found.notes)


def _frames(peer: Peer, *, quick: bool) -> int:
    frames = FRAMES if peer.shared and peer.brisk >= FRAMES else SLOW
    return frames // 5 if quick else frames  # so many that one stall does not outweigh them


def block(peer: Peer, frames: int) -> Mapping[str, Sequence[float]]:
    """Nanoseconds and CPU nanoseconds for each frame, of one block."""
    with ExitStack() as stack:
        wire = peer.open(stack, SIZE, DEPTH)
        arguments = (wire, Load(3 * DEPTH, frames))
        played = play([Role(send_filled, arguments), Role(check_filled, arguments)])
    sent, received = played.results
    cpu = sent.cpu + received.cpu + played.overhead * 1e9
    return {"time": [(received.ended - received.began) / frames], "cpu": [cpu / frames]}


def _rival(name: str) -> str:
    """Who sleeps is compared with who sleeps, and who never does with who hardly does."""
    rivals = {iceoryx.EVENTS.name: ours.ASLEEP.name, iceoryx.POLLING.name: ours.SPINNING.name}
    return rivals.get(name, ours.OURS.name)


def _time_rows(found: Contest) -> Iterator[Row]:
    for name, series in found.series.items():
        times, ratio, target = series["time"], None, None
        if name not in _UNRIVALLED:
            ratio = compare(times, found.of(_rival(name), "time"))
            target = Target("ratio", at_least=_TARGETS[name]) if name in _TARGETS else None
        yield Row.of(f"frames/s: {name}", times.map(_per_second), "1/s", ratio, target)


def _cpu_rows(found: Contest) -> Iterator[Row]:
    for name, series in found.series.items():
        if name in _FLOORS:
            continue
        cpu, ratio, target = series["cpu"], None, None
        if name not in _UNRIVALLED:
            ratio = compare(cpu, found.of(_rival(name), "cpu"))
            target = Target("ratio", at_least=1.0) if name.startswith("iceoryx2") else None
        yield Row.of(f"CPU for a frame: {name}", cpu, "us", ratio, target)


def _per_second(nanoseconds: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1e9 / nanoseconds


def _assert_far_behind(found: Contest) -> None:
    """What holds on any machine: who copies a picture four times is not as fast."""
    if mp_queue.QUEUE.name not in found.series:
        return
    ratio = compare(found.of(mp_queue.QUEUE.name, "time"), found.of(ours.OURS.name, "time"))
    if ratio.value < 3:
        raise AssertionError(f"multiprocessing.Queue takes only {ratio.value:.1f} times as long")
