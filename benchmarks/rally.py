"""Ping-pong of one slot between two processes: both sides of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat

from benchmarks.measure import Block
from benchmarks.peer import Peer, deadline
from benchmarks.place import TWO_CPUS, Places, pinned
from shmpool import Pool

QUEUES = ("ping", "pong")
Play = Callable[[int], Sequence[float]]


def block(peer: Peer, variant: str, play: Play, turns: int, places: Places = TWO_CPUS) -> Block:
    """A block of `turns` round trips, led by `play`, after a tenth more that do not count."""
    return partial(_block, peer, variant, play, turns, places)


def _block(peer: Peer, variant: str, play: Play, turns: int, places: Places) -> Sequence[float]:
    leader, follower = places
    warm = turns // 10
    with pinned(leader), deadline(60):
        peer.echo(variant, warm + turns, follower)
        times = play(warm + turns)
        peer.wait()
    return times[warm:]


def play(pool: Pool, turns: int) -> list[int]:
    """Send a slot there and take it back: nanoseconds for each round trip."""
    ping, pong, clock = *map(pool.queue, QUEUES), time.perf_counter_ns
    lease, times = pool.acquire(), [0] * turns
    for turn in range(turns):
        began = clock()
        ping.put(lease)
        lease = pong.get()
        times[turn] = clock() - began
    lease.release()
    return times


def echo(pool: Pool, turns: int) -> None:
    """Send back what comes."""
    ping, pong = map(pool.queue, QUEUES)
    for _turn in repeat(None, turns):
        pong.put(ping.get())
