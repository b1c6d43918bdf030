"""How much shared memory a pool takes beside its payload."""

from __future__ import annotations

from benchmarks.measure import Series
from benchmarks.result import Outcome, Row, Target
from shmpool import Pool

_FEW, _MANY = 16, 4096


def run(*, quick: bool) -> Outcome:
    """The control block's size, which is computed: there is nothing to repeat."""
    del quick
    few, many = _control_bytes(_FEW), _control_bytes(_MANY)
    growth = (many - few) / (_MANY - _FEW)
    rows = (
        Row.of(f"control block: {_FEW} slots, 3 queues, 255 members", Series.of([few / 1024]),
               "KiB", target=Target("median", 128)),
        Row.of(f"growth for each further slot, up to {_MANY:,}", Series.of([growth]), "bytes"),
    )  # fmt: skip
    return Outcome.of("control_block", rows, "rings grow by doubling: growth is a mean")


def _control_bytes(slots: int) -> int:
    with Pool.create(slots, 64, queues=("a", "b", "c"), members=255) as pool:
        return pool.statistics().control_bytes
