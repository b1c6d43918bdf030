"""Rights that are over: whoever held one, it opens nothing, however long ago that was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shmpool
from shmpool import Lease, Pool

Use = Callable[[Pool, Lease], object]
ENDINGS: dict[str, Use] = {
    "release": lambda _, lease: lease.release(),
    "put": lambda pool, lease: pool.queue("a").put(lease),
    "detach": lambda pool, lease: pool.claim(lease.detach()).release(),
}
LATE: tuple[Use, ...] = (
    lambda _, lease: memoryview(lease),
    lambda _, lease: lease.array(),
    lambda _, lease: lease.array((1,), "u1"),
    lambda _, lease: lease.writer(),
    lambda _, lease: lease.release(),
    lambda _, lease: lease.detach(),
    lambda pool, lease: pool.queue("a").put(lease),
    lambda pool, lease: pool.queue("a").put(lease, timeout=0),
)


@settings(deadline=None, max_examples=50)
@given(endings=st.lists(st.sampled_from(sorted(ENDINGS)), min_size=1, max_size=20))
def test_every_lease_ever_held_stays_over(endings: list[str]) -> None:
    """However often its slot has changed hands since, no old lease reaches the new holder."""
    with Pool.create(slots=1, slot_size=64, queues=("a",)) as pool:
        past: list[Lease] = []
        for ending in endings:
            lease = pool.acquire_nowait()
            past.append(lease)
            ENDINGS[ending](pool, lease)
            if pool.queue("a").qsize():
                pool.queue("a").get_nowait().release()
        with pool.acquire_nowait() as holder:
            holder.array((64,), "u1")[:] = 7
            for lease in past:
                for use in LATE:
                    with pytest.raises(shmpool.AlreadyEndedError):
                        use(pool, lease)
            assert (holder.array() == 7).all()
            assert pool.audit()["leased"] == 1


def test_of_many_threads_one_claims_a_ticket(pool: Pool) -> None:
    """A ticket is claimed once, also by threads that all try at one moment."""
    threads = 4
    gate = threading.Barrier(threads)

    def claim(ticket: int) -> Lease | None:
        gate.wait()
        try:
            return pool.claim(ticket)
        except shmpool.AlreadyClaimedError:
            return None

    with ThreadPoolExecutor(threads) as workers:
        for _ in range(50):
            ticket = pool.acquire().detach()
            leases = [lease for lease in workers.map(claim, [ticket] * threads) if lease]
            assert [lease.ticket for lease in leases] == [ticket]
            leases.pop().release()
    assert pool.audit()["free"] == pool.slots
