"""There and back between two processes, beside every peer: awake, and to one who sleeps.

Zero-copy peers hand over an untouched 4 KiB, the others eight bytes: what each does least for.
Awake: a CPU for each process, and each waits as it waits. Asleep: each stays awake for a while
before it sends, until the other has gone to sleep for certain; the pause does not count, and
those that never sleep are not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import ping_pong_asleep, rally
from benchmarks.contest import Contest, Side, contest
from benchmarks.floor_roles import LINE, line
from benchmarks.floors import compile_floors
from benchmarks.measure import Series, compare
from benchmarks.peers import all_peers, iceoryx, mp_queue, ours
from benchmarks.peers.protocol import Peer, Receiver, Sender, Wire
from benchmarks.peers.semaphores import SEMAPHORES
from benchmarks.place import TWO_CPUS, hold, pinned
from benchmarks.result import Outcome, Row, Target
from benchmarks.stage import Role, play
from shmpool import Pool

SIZE, DEPTH = 4096, 4
_PAUSE = 100_000  # nanoseconds: many times what going to sleep takes
_SAME = "shmpool: one slot there and back"
_SAME_ASLEEP = "shmpool, spin=0: one slot there and back"


@dataclass(frozen=True)
class Trips:
    """So many round trips, the first of which do not count; and the pause before each."""

    warm: int
    counted: int
    pause: int = 0


def run(*, quick: bool) -> Outcome:
    """Blocks of round trips, all processes fresh in each."""
    rounds = 1 if quick else 5
    peers, missing = all_peers.present()
    awake = contest(rounds, _awake(peers, quick=quick), must=(LINE, _SAME, ours.OURS.name))
    sleepers = [peer for peer in peers if peer is not iceoryx.POLLING]
    floor = SEMAPHORES.name
    asleep = contest(rounds, _asleep(sleepers, quick=quick), must=(floor, _SAME_ASLEEP))
    rows = [*_awake_rows(awake), *_asleep_rows(asleep)]
    tails = _tail(awake, "awake"), _tail(asleep, "asleep")
    return Outcome.of("ping_pong_peers", rows, *tails, *missing, *awake.notes, *asleep.notes)


def _awake(peers: Sequence[Peer], *, quick: bool) -> dict[str, Side]:
    trips = Trips(50, 200) if quick else Trips(500, 3_000)
    few = trips if quick else Trips(50, 300)
    sides: dict[str, Side] = {LINE: partial(_line, trips.counted)}
    sides[_SAME] = partial(block_of_one, trips)
    for peer in (ours.OURS, *peers):
        sides[peer.name] = partial(block, peer, trips if peer.brisk > 1_000 else few)
    return sides


def _asleep(peers: Sequence[Peer], *, quick: bool) -> dict[str, Side]:
    trips = Trips(10, 30 if quick else 300, _PAUSE)
    sides: dict[str, Side] = {_SAME_ASLEEP: partial(block_of_one, trips)}
    for peer in (SEMAPHORES, ours.ASLEEP, *peers):
        sides[peer.name] = partial(block, peer, trips)
    return sides


def _line(turns: int) -> Mapping[str, Sequence[float]]:
    with TemporaryDirectory() as directory:
        return line(compile_floors(Path(directory)), turns)


def block(peer: Peer, trips: Trips) -> Mapping[str, Sequence[float]]:
    """Nanoseconds of each round trip, by a wire there and a wire back."""
    with ExitStack() as stack:
        there, back = (peer.open(stack, SIZE, DEPTH) for _ in range(2))
        roles = [Role(lead, (there, back, trips)), Role(follow, (there, back, trips))]
        times, _none = play(roles).results
    return {"time": times}


def lead(stack: ExitStack, there: Wire, back: Wire, trips: Trips) -> Callable[[], list[int]]:
    """Send, and wait for what comes back."""
    # Senders first, on both sides: some receivers wait for theirs.
    out, into = there.sender(stack), back.receiver(stack)
    return partial(_lead, out, into, trips)


def follow(stack: ExitStack, there: Wire, back: Wire, trips: Trips) -> Callable[[], None]:
    """Wait, and send back."""
    out, into = back.sender(stack), there.receiver(stack)
    return partial(_follow, out, into, trips)


def _lead(out: Sender, into: Receiver, trips: Trips) -> list[int]:
    _trips(out, into, trips.warm, trips.pause)  # unpinned: a peer's own threads start here
    with pinned(TWO_CPUS[0]):
        return _trips(out, into, trips.counted, trips.pause)


def _trips(out: Sender, into: Receiver, turns: int, pause: int) -> list[int]:
    clock, times = time.perf_counter_ns, [0] * turns
    send, receive = out.send_blank, into.receive_blank
    for turn in range(turns):
        if pause:
            hold(pause)
        began = clock()
        send()
        receive()
        times[turn] = clock() - began - pause
    return times


def _follow(out: Sender, into: Receiver, trips: Trips) -> None:
    _answers(out, into, trips.warm, trips.pause)
    with pinned(TWO_CPUS[1]):
        _answers(out, into, trips.counted, trips.pause)


def _answers(out: Sender, into: Receiver, turns: int, pause: int) -> None:
    for _turn in range(turns):
        into.receive_blank()
        if pause:
            hold(pause)
        out.send_blank()


def block_of_one(trips: Trips) -> Mapping[str, Sequence[float]]:
    """The same with one pool and one slot, which no peer can do: what is received is sent back."""
    with ExitStack() as stack:
        pool = stack.enter_context(Pool.create(2, SIZE, queues=rally.QUEUES))
        arguments = (pool.name, trips)
        times, _none = play([Role(lead_one, arguments), Role(follow_one, arguments)]).results
    return {"time": times[trips.warm :]}


def lead_one(stack: ExitStack, name: str, trips: Trips) -> Callable[[], Sequence[float]]:
    """Put, get."""
    turns = trips.warm + trips.counted
    pool = _attach(stack, name, trips, 0)
    if not trips.pause:
        return partial(rally.play, pool, turns)
    ping, pong = map(pool.queue, rally.QUEUES)
    slots = ping_pong_asleep.Slots(pool, ping, pong)
    stack.callback(slots.end)
    return partial(ping_pong_asleep.play, slots, trips.pause, [], turns)


def follow_one(stack: ExitStack, name: str, trips: Trips) -> Callable[[], None]:
    """Get, put."""
    turns = trips.warm + trips.counted
    pool = _attach(stack, name, trips, 1)
    if not trips.pause:
        return partial(rally.echo, pool, turns)
    pong, ping = map(pool.queue, reversed(rally.QUEUES))
    slots = ping_pong_asleep.Slots(pool, pong, ping)
    return partial(ping_pong_asleep.echo, slots, trips.pause, turns)


def _attach(stack: ExitStack, name: str, trips: Trips, place: int) -> Pool:
    """Who pauses does so because the other is to sleep. Pinned only once it is attached."""
    pool = Pool.attach(name, spin=0) if trips.pause else Pool.attach(name)
    stack.enter_context(pool)
    stack.enter_context(pinned(TWO_CPUS[place]))
    return pool


def _awake_rows(found: Contest) -> list[Row]:
    floor, mine = found.of(LINE, "time"), found.of(ours.OURS.name, "time")
    same = found.of(_SAME, "time")
    rows = [
        Row.of(LINE, floor, "us"),
        Row.of(_SAME, same, "us", compare(same, floor), Target("ratio", 4)),
        Row.of(ours.OURS.name, mine, "us", compare(mine, floor)),
    ]
    for name, series in _others(found):
        target = Target("ratio", at_least=15)
        rows.append(Row.of(name, series, "us", compare(series, same), target))
    return rows


def _asleep_rows(found: Contest) -> list[Row]:
    floor, same = found.of(SEMAPHORES.name, "time"), found.of(_SAME_ASLEEP, "time")
    rows = [
        Row.of(SEMAPHORES.name, floor, "us"),
        # ping_pong_asleep has the target: there the two take turns, 60 times each.
        Row.of(_SAME_ASLEEP, same, "us", compare(same, floor)),
    ]
    for name, series in _others(found):
        target = Target("ratio", at_least=1.0) if name == mp_queue.PIPE.name else None
        rows.append(Row.of(f"{name}, asleep", series, "us", compare(series, same), target))
    return rows


def _others(found: Contest) -> list[tuple[str, Series]]:
    mine = {LINE, SEMAPHORES.name, _SAME, _SAME_ASLEEP, ours.OURS.name}
    return [(name, each["time"]) for name, each in found.series.items() if name not in mine]


def _tail(found: Contest, how: str) -> str:
    tails = (
        f"{name} {each['time'].percentile(99.9) / 1000:,.1f}" for name, each in found.series.items()
    )
    return f"p99.9 in us, {how}: {'; '.join(tails)}"
