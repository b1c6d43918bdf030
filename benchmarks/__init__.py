"""What shmpool costs, measured beside what it has to be compared with.

    python -m benchmarks [NAME ...] [--quick] [--json FILE] [--list]

Floors, nothing imports upward:
    measure, machine, place, floors < result, peer, peers.* < rally, stage, contest < traffic
    < op_cost, full_cycle, ping_pong, ping_pong_asleep, slot_size, warm_reuse, kill,
      control_block, farm_overhead
    < op_cost_peers, full_cycle_peers, ping_pong_peers, under_load, stream, hand_off,
      many_to_many, fan_out
    < catalogue < report < __main__
"""
