"""All benchmarks, by name."""

from __future__ import annotations

from typing import Protocol

from benchmarks import (
    cold_start,
    contention,
    control_block,
    farm_noop,
    farm_overhead,
    fence,
    full_cycle,
    kill,
    memory_at_rest,
    op_cost,
    ping_pong,
    ping_pong_asleep,
    recovery,
    slot_count,
    slot_size,
    warm_reuse,
)
from benchmarks.result import Outcome


class Benchmark(Protocol):
    """Measures, and leaves nothing behind."""

    def __call__(self, *, quick: bool) -> Outcome:
        """Measure. quick: only to prove that it runs; the numbers mean nothing."""
        ...


BENCHMARKS: dict[str, Benchmark] = {
    "op_cost": op_cost.run,
    "full_cycle": full_cycle.run,
    "ping_pong": ping_pong.run,
    "ping_pong_asleep": ping_pong_asleep.run,
    "slot_size": slot_size.run,
    "warm_reuse": warm_reuse.run,
    "fence": fence.run,
    "kill": kill.run,
    "control_block": control_block.run,
    "farm_noop": farm_noop.run,
    "farm_overhead": farm_overhead.run,
    "recovery": recovery.run,
    "cold_start": cold_start.run,
    "memory_at_rest": memory_at_rest.run,
    "contention": contention.run,
    "slot_count": slot_count.run,
}
