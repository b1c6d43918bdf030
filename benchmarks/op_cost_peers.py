"""What a lease costs beside iceoryx2's loan, with and without an array over it."""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from itertools import repeat
from typing import Any

import numpy as np

from benchmarks.measure import Series, compare, interleave
from benchmarks.op_cost import batch, leases
from benchmarks.peers import all_peers, iceoryx
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

SIZE = 4096


def run(*, quick: bool) -> Outcome:
    """Batches of operations that never wait, in one process."""
    rounds, turns = (5, 1_000) if quick else (200, 5_000)
    peers, missing = all_peers.present([iceoryx.POLLING])
    with ExitStack() as stack:
        pool = stack.enter_context(Pool.create(slots=8, slot_size=SIZE))
        loops = [batch(lease, pool, turns) for lease in (_drop, leases, _lease_array)]
        if peers:
            sender = iceoryx.open_service(stack, SIZE, 8, events=False).sender(stack)
            publisher = sender.publisher
            loans = (_loan_drop, _loan, _loan_array, _loan_array_shortest)
            loops += [batch(loan, publisher, turns) for loan in loans]
        sides = interleave(rounds, *loops)
    return Outcome.of("op_cost_peers", _rows(*sides), f"means of {turns:,} in a row", *missing)


def _rows(drop: Series, lease: Series, lease_array: Series, *loans: Series) -> list[Row]:
    rows = [
        Row.of("pool.acquire(), dropped", drop, "ns"),
        Row.of("pool.acquire().release()", lease, "ns"),
        Row.of("the same, with lease.array()", lease_array, "ns"),
    ]
    if loans:
        loan_drop, loan, loan_array, shortest = loans
        rows += [
            Row.of("iceoryx2: loan, drop", loan_drop, "ns", compare(loan_drop, drop),
                   Target("ratio", at_least=8)),
            Row.of("iceoryx2: loan, delete", loan, "ns", compare(loan, lease)),
            Row.of("iceoryx2: the same, with numpy.frombuffer()", loan_array, "ns",
                   compare(loan_array, lease_array), Target("ratio", at_least=5)),
            Row.of("iceoryx2: the same, by an address and ctypes", shortest, "ns",
                   compare(shortest, lease_array)),
        ]  # fmt: skip
    return rows


def _drop(pool: Pool, turns: int) -> None:
    for _turn in repeat(None, turns):
        pool.acquire()


def _lease_array(pool: Pool, turns: int) -> None:
    for _turn in repeat(None, turns):
        lease = pool.acquire()
        lease.array(SIZE, np.uint8)
        lease.release()


def _loan_drop(publisher: Any, turns: int) -> None:
    for _turn in repeat(None, turns):
        publisher.loan_slice_uninit(SIZE)


def _loan(publisher: Any, turns: int) -> None:
    for _turn in repeat(None, turns):
        publisher.loan_slice_uninit(SIZE).delete()


def _loan_array(publisher: Any, turns: int) -> None:
    for _turn in repeat(None, turns):
        sample = publisher.loan_slice_uninit(SIZE)
        np.frombuffer(sample.payload().as_memory_view(), np.uint8)
        sample.delete()


def _loan_array_shortest(publisher: Any, turns: int) -> None:
    """Not as its pages say, but twice as fast."""
    kind = ctypes.c_uint8 * SIZE
    for _turn in repeat(None, turns):
        sample = publisher.loan_slice_uninit(SIZE)
        iceoryx.over(sample, kind)
        sample.delete()
