"""A blocking receive under load: what a message costs its receiver while more are on their way.

The sender sends as fast as it can, untouched slots or eight bytes; the receiver takes them and
gives them back. It waits as the peer waits: shmpool spins a little, then sleeps. There are 64
slots, ten where the kernel allows no more; a pipe or a ring of bytes has room for thousands of
eight bytes, so its receiver waits less often. Beside them, in C, a cache line there and back:
the least by which one can tell another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contest import Contest, contest
from benchmarks.floor_roles import LINE, line
from benchmarks.floors import compile_floors
from benchmarks.measure import compare
from benchmarks.peers import all_peers, ours
from benchmarks.peers.protocol import Peer
from benchmarks.result import Outcome, Row, Target
from benchmarks.stage import Role, play
from benchmarks.traffic import Load, send_blank, take_blank

SIZE, DEPTH, BATCH = 4096, 64, 500


def run(*, quick: bool) -> Outcome:
    """Means of batches, at the receiver."""
    rounds = 1 if quick else 5
    peers, missing = all_peers.present()
    with TemporaryDirectory() as directory:
        library = compile_floors(Path(directory))
        sides = {LINE: partial(line, library, 500 if quick else 20_000)} | {
            peer.name: partial(block, peer, BATCH if quick else peer.brisk)
            for peer in (ours.OURS, ours.ASLEEP, *peers)
        }
        found = contest(rounds, sides, must=(LINE, ours.OURS.name, ours.ASLEEP.name))
    notes = (
        f"means of {BATCH} in a row; ratio: of shmpool to the floor, of the others to shmpool",
        "a microsecond is the aim: eight times the floor, where that is an eighth of one",
    )
    return Outcome.of("under_load", _rows(found), *notes, *missing, *found.notes)


def block(peer: Peer, count: int) -> Mapping[str, Sequence[float]]:
    """Nanoseconds for each message, in batches."""
    with ExitStack() as stack:
        wire = peer.open(stack, SIZE, DEPTH)
        load = Load(BATCH, count)
        roles = [Role(send_blank, (wire, load)), Role(take_blank, (wire, load, BATCH))]
        _sent, means = play(roles).results
    return {"time": means}


def _rows(found: Contest) -> list[Row]:
    floor, mine = found.of(LINE, "time"), found.of(ours.OURS.name, "time")
    rows = [
        Row.of(LINE, floor, "us"),
        Row.of(ours.OURS.name, mine, "us", compare(mine, floor), Target("ratio", 8)),
    ]
    rest = (name for name in found.series if name not in {LINE, ours.OURS.name})
    for name in rest:
        series = found.of(name, "time")
        rows.append(Row.of(name, series, "us", compare(series, mine)))
    return rows
