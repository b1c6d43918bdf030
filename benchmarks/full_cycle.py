"""What a slot's whole way costs when nobody waits: acquire, put, get, release, in one process."""

from __future__ import annotations

from itertools import repeat

from benchmarks.measure import interleave
from benchmarks.op_cost import batch
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool


def run(*, quick: bool) -> Outcome:
    """Batches of whole cycles. Absolute, so it says as much about the machine as about the pool."""
    rounds, turns = (5, 2_000) if quick else (300, 5_000)
    with Pool.create(slots=8, slot_size=4096, queues=("todo",)) as pool:
        (cycle,) = interleave(rounds, batch(_cycle, pool, turns))
    row = Row.of("q.put(pool.acquire()); q.get().release()", cycle, "ns",
                 target=Target("median", 400))  # fmt: skip
    return Outcome.of("full_cycle", [row], f"a sample is the mean of {turns:,} in a row")


def _cycle(pool: Pool, turns: int) -> None:
    queue = pool.queue("todo")
    for _turn in repeat(None, turns):
        queue.put(pool.acquire())
        queue.get().release()
