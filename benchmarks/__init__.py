"""What shmpool costs, measured beside what it has to be compared with.

    python -m benchmarks [--only NAME ...] [--quick] [--json FILE] [--list]
    python -m benchmarks.page RESULTS.json

Floors, nothing imports upward:
    measure, machine, place, floors, sides, task < result, peer, deadly, peers.* < rally, crews,
      stage, contest < traffic
    < op_cost, full_cycle, ping_pong, ping_pong_asleep, slot_size, warm_reuse, kill,
      control_block, farm_noop, farm_overhead, recovery, cold_start, memory_at_rest,
      contention, slot_count, looked_at, diagnostics
    < op_cost_peers, full_cycle_peers, ping_pong_peers, under_load, stream, hand_off,
      many_to_many, fan_out
    < catalogue < report < plots < page, __main__
"""
