"""A slot there and back between two processes that both spin, beside a bare cache line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import rally
from benchmarks.floors import SIZE, Floor, compile_floors, floor
from benchmarks.measure import Series, compare, interleave
from benchmarks.peer import Echo, Peer, peer
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool


def run(*, quick: bool) -> Outcome:
    """Round trips with the default spin, each process on a CPU of its own."""
    rounds, turns = (3, 500) if quick else (200, 5_000)
    with ExitStack() as stack:
        library = compile_floors(Path(stack.enter_context(TemporaryDirectory())))
        memory = SharedMemory(create=True, size=SIZE)
        stack.callback(memory.unlink)
        lines = stack.enter_context(floor(library, memory))
        pool = stack.enter_context(Pool.create(slots=2, slot_size=4096, queues=rally.QUEUES))
        other = stack.enter_context(peer(build, pool.name, library, memory))
        bare, slot = _measure(other, lines, pool, rounds, turns)
    rows = (
        Row.of("floor: a cache line, in C", bare, "us"),
        Row.of("a slot, both spinning", slot, "us", compare(slot, bare), Target("median", 1)),
    )
    notes = (
        "samples include one reading of the clock: some 25 ns in C, some 50 in Python",
        "a floor of half a microsecond: the host has put the CPUs on different dies; run it again",
    )
    return Outcome.of("ping_pong", rows, *notes)


def _measure(
    other: Peer, lines: Floor, pool: Pool, rounds: int, turns: int
) -> tuple[Series, Series]:
    line = rally.block(other, "line", lines.play, turns)

    def fresh_line() -> Sequence[float]:
        lines.reset()
        return line()

    slot = rally.block(other, "slot", partial(rally.play, pool), turns)
    bare, led = interleave(rounds, fresh_line, slot)
    return bare, led


def build(stack: ExitStack, name: str, library: Path, memory: SharedMemory) -> Mapping[str, Echo]:
    """Attach to the parent's pool and lines."""
    lines = stack.enter_context(floor(library, memory))
    pool = stack.enter_context(Pool.attach(name))
    return {"line": lines.echo, "slot": partial(rally.echo, pool)}
