"""Several producers and several consumers at one queue: messages a second, and none lost.

Messages of 4 KiB, the number at both ends. Each consumer takes its share, so that all end; the
sum of all numbers is that of all sent. iceoryx2 and MomentumX are not there: with them every
reader gets every message. Nor is PUSH and PULL of ZeroMQ, which deals out before anybody is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.contest import Contest, Side, contest
from benchmarks.measure import compare
from benchmarks.peers import all_peers, mp_queue, ours
from benchmarks.peers.protocol import Peer
from benchmarks.result import Outcome, Row, Target
from benchmarks.stage import FailedError, Role, play
from benchmarks.traffic import Load, add_stamped, send_stamped

SIZE, DEPTH = 4096, 64  # slots; message queues have 10
CREWS = ((1, 1), (1, 4), (4, 1), (4, 4))
_MOST = 20_000  # messages in a block
_QUICK = ((1, 2), (2, 1))


def run(*, quick: bool) -> Outcome:
    """All that are queues, at each number of producers and consumers."""
    rounds = 1 if quick else 3
    peers, missing = all_peers.present()
    rivals = [peer for peer in peers if peer.many]
    sides: dict[str, Side] = {}
    for crew in _QUICK if quick else CREWS:
        for peer in (ours.OURS, *rivals):
            count = 80 if quick else min(peer.brisk, _MOST)
            sides[_name(crew, peer.name)] = partial(block, peer, *crew, count // 16 * 16)
    found = contest(rounds, sides)
    rows = list(_rows(found, _QUICK if quick else CREWS))
    note = "ratio: how many times as long a message takes as with shmpool"
    return Outcome.of("many_to_many", rows, note, *missing, *found.notes)


def _name(crew: tuple[int, int], peer: str) -> str:
    return f"{crew[0]} to {crew[1]}: {peer}"


def block(
    peer: Peer, producers: int, consumers: int, count: int
) -> Mapping[str, Sequence[float]]:  # fmt: skip
    """Nanoseconds for each message, from the first's start to the last's end."""
    each, share = Load(0, count // producers), Load(0, count // consumers)
    with ExitStack() as stack:
        wire = peer.open(stack, SIZE, DEPTH)
        senders = [Role(send_stamped, (wire, each))] * producers
        receivers = [Role(add_stamped, (wire, share))] * consumers
        results = play([*senders, *receivers]).results
    total = sum(result.total for result in results)
    if total != producers * sum(range(each.counted)):
        raise FailedError(f"the numbers received add up to {total}: some are lost or there twice")
    began, ended = min(each.began for each in results), max(each.ended for each in results)
    return {"time": [(ended - began) / count]}


def _rows(found: Contest, crews: Sequence[tuple[int, int]]) -> Iterator[Row]:
    for crew in crews:
        mine = found.of(_name(crew, ours.OURS.name), "time")
        yield Row.of(_name(crew, ours.OURS.name), mine, "us")
        for name, series in found.series.items():
            head, _, peer = name.partition(": ")
            if head != _name(crew, "").removesuffix(": ") or peer == ours.OURS.name:
                continue
            target = Target("ratio", at_least=5) if peer == mp_queue.QUEUE.name else None
            yield Row.of(name, series["time"], "us", compare(series["time"], mine), target)
