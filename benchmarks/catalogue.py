"""All benchmarks, by name."""

from __future__ import annotations

from typing import Protocol

from benchmarks import (
    cold_start,
    contention,
    control_block,
    diagnostics,
    fan_out,
    farm_noop,
    farm_overhead,
    fence,
    full_cycle,
    full_cycle_peers,
    hand_off,
    kill,
    looked_at,
    many_to_many,
    memory_at_rest,
    op_cost,
    op_cost_peers,
    ping_pong,
    ping_pong_asleep,
    ping_pong_peers,
    recovery,
    slot_count,
    slot_size,
    stream,
    under_load,
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
    "op_cost_peers": op_cost_peers.run,
    "full_cycle": full_cycle.run,
    "full_cycle_peers": full_cycle_peers.run,
    "ping_pong": ping_pong.run,
    "ping_pong_asleep": ping_pong_asleep.run,
    "slot_size": slot_size.run,
    "warm_reuse": warm_reuse.run,
    "fence": fence.run,
    "kill": kill.run,
    "diagnostics": diagnostics.run,
    "looked_at": looked_at.run,
    "control_block": control_block.run,
    "farm_noop": farm_noop.run,
    "ping_pong_peers": ping_pong_peers.run,
    "under_load": under_load.run,
    "stream": stream.run,
    "hand_off": hand_off.run,
    "many_to_many": many_to_many.run,
    "fan_out": fan_out.run,
    "farm_overhead": farm_overhead.run,
    "recovery": recovery.run,
    "cold_start": cold_start.run,
    "memory_at_rest": memory_at_rest.run,
    "contention": contention.run,
    "slot_count": slot_count.run,
}
