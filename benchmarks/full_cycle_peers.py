"""A message's whole way in one process, where nobody waits: shmpool, iceoryx2, a queue.

Untouched slots of 4 KiB, and for multiprocessing.Queue, which has none, a fresh array each.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import repeat
from typing import Any

import numpy as np

from benchmarks.measure import Series, compare, interleave
from benchmarks.op_cost import batch
from benchmarks.peers import all_peers, iceoryx
from benchmarks.peers.protocol import CONTEXT
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

SIZE = 4096
_FEWER = 50  # times: a queue's message takes so much longer


def run(*, quick: bool) -> Outcome:
    """Batches of whole cycles."""
    rounds, turns = (5, 1_000) if quick else (100, 5_000)
    peers, missing = all_peers.present([iceoryx.POLLING])
    with ExitStack() as stack:
        pool = stack.enter_context(Pool.create(slots=8, slot_size=SIZE, queues=("todo",)))
        queue = CONTEXT.Queue()
        stack.callback(queue.join_thread)
        stack.callback(queue.close)
        loops = [batch(_slot, pool, turns), batch(_array, queue, max(10, turns // _FEWER))]
        if peers:
            wire = iceoryx.open_service(stack, SIZE, 8, events=False)
            ends = wire.sender(stack).publisher, wire.receiver(stack).subscriber
            loops.append(batch(_sample, ends, turns))
        sides = interleave(rounds, *loops)
    if quick:
        _assert_far_behind(*sides[:2])
    return Outcome.of("full_cycle_peers", _rows(*sides), f"means of {turns:,} in a row", *missing)


def _rows(slot: Series, array: Series, *samples: Series) -> list[Row]:
    return [
        Row.of("shmpool: acquire, put, get, release", slot, "ns"),
        Row.of("multiprocessing.Queue: put, get", array, "ns", compare(array, slot),
               Target("ratio", at_least=500)),
        *(Row.of("iceoryx2: loan, send, receive, delete", each, "ns", compare(each, slot),
                 Target("ratio", at_least=6)) for each in samples),
    ]  # fmt: skip


def _assert_far_behind(slot: Series, array: Series) -> None:
    """What holds on any machine: a pickle, a pipe and a thread are not a few atomic operations."""
    ratio = compare(array, slot).value
    if ratio < 50:
        raise AssertionError(f"multiprocessing.Queue takes only {ratio:.0f} times as long")


def _slot(pool: Pool, turns: int) -> None:
    queue = pool.queue("todo")
    for _turn in repeat(None, turns):
        queue.put(pool.acquire())
        queue.get().release()


def _array(queue: Any, turns: int) -> None:
    for number in range(turns):
        array = np.empty(SIZE, np.uint8)
        array[0] = array[-1] = number & 255
        queue.put(array)
        found = queue.get()
        if not found[0] == found[-1] == number & 255:
            raise ValueError(f"message {number} is not what was put")


def _sample(ends: tuple[Any, Any], turns: int) -> None:
    publisher, subscriber = ends
    for _turn in repeat(None, turns):
        publisher.loan_slice_uninit(SIZE).assume_init().send()
        subscriber.receive().delete()
