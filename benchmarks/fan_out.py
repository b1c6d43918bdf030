"""One picture for several readers at once: 1080p, filled once, and checked by each of them.

shmpool shares the slot: its ticket goes to each reader in a note, a slot of 8 bytes in a queue, and
the note comes back when the reader is done. iceoryx2 publishes to subscribers. The others send a
copy to each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.contest import Contest, Side, contest
from benchmarks.measure import compare
from benchmarks.peers import all_peers, fans, ours
from benchmarks.result import Outcome, Row, Target
from benchmarks.stage import Role, play
from benchmarks.traffic import Load, check_filled, send_filled

SIZE, DEPTH = 1920 * 1080 * 3, 8
READERS = (1, 2, 4, 8)
_FRAMES, _COPIED = 1000, 15  # pictures in a block: handed on where they lie, and copied


def run(*, quick: bool) -> Outcome:
    """Each way, with each number of readers."""
    rounds, crews = (1, (1, 2)) if quick else (3, READERS)
    sides: dict[str, Side] = {}
    missing = all_peers.present([fan.peer for fan in fans.FANS])[1]
    for readers in crews:
        for fan in fans.FANS:
            if fan.peer.available() is None:
                frames = 20 if quick else _FRAMES if fan.peer.shared else _COPIED
                sides[_name(readers, fan.name)] = partial(block, fan, readers, frames)
    found = contest(rounds, sides)
    notes = (
        "for each picture, until the last reader has had it; ratio: how many times shmpool's",
        "more readers than CPUs take turns: the picture is in their way only once",
    )
    return Outcome.of("fan_out", _rows(found), *notes, *missing, *found.notes, axis="readers")


def _name(readers: int, name: str) -> str:
    return f"{readers} readers: {name}"


def block(fan: fans.Fan, readers: int, frames: int) -> Mapping[str, Sequence[float]]:
    """Nanoseconds for each picture."""
    load = Load(2 * DEPTH, frames)
    with ExitStack() as stack:
        sender, receivers = fan.open(stack, SIZE, DEPTH, readers)
        roles = [Role(send_filled, (sender, load))]
        roles += [Role(check_filled, (receiver, load)) for receiver in receivers]
        results = play(roles).results[1:]
    began, ended = max(each.began for each in results), max(each.ended for each in results)
    return {"time": [(ended - began) / frames]}


def _rows(found: Contest) -> Iterator[Row]:
    for name, series in found.series.items():
        readers, _, fan = name.partition(" readers: ")
        mine = found.of(_name(int(readers), ours.OURS.name), "time")
        ratio = None if fan == ours.OURS.name else compare(series["time"], mine)
        target = Target("ratio", at_least=1.0) if fan.startswith("iceoryx2") else None
        yield Row.of(name, series["time"], "us", ratio, target, line=fan, at=int(readers))
