"""What shmpool costs, measured beside what it has to be compared with.

    python -m benchmarks [NAME ...] [--quick] [--json FILE] [--list]

Floors, nothing imports upward:
    measure, machine, place, floors < result, peer < rally
    < op_cost, full_cycle, ping_pong, ping_pong_asleep, slot_size, warm_reuse, kill,
      control_block, farm_overhead
    < catalogue < report < __main__
"""
