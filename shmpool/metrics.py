"""Numbers of pools for Prometheus: a collector for `prometheus_client`, the extra `metrics`.

Whoever scrapes needs no right to a pool: it is read, and nothing is written. So one exporter may
serve the pools of a whole host, or a program its own. See docs/metrics.md for the metrics.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Iterator

from shmpool import _look, _measuring
from shmpool._look import Look
from shmpool._measuring import FAMILIES, GAUGE, Row
from shmpool.errors import ForeignSegmentError, PoolClosedError
from shmpool.pool import Pool

try:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "shmpool.metrics needs prometheus_client: pip install 'shmpool[metrics]'"
    ) from missing

__all__ = ["PoolCollector"]

log = logging.getLogger("shmpool.metrics")


class PoolCollector(Collector):
    """Collects the metrics of pools: of Pool objects, of pools by name, or of all on this host.

    `PoolCollector()` looks at each scrape for the pools of this user. One collector serves any
    number of pools; a registry refuses a second one, since the metrics have the same names.
    A Pool is not kept alive by it. What cannot be read has `shmpool_up` 0 and no other metric,
    and the others are as they would be. A scrape keeps nobody waiting.

    >>> import prometheus_client, shmpool
    >>> from shmpool.metrics import PoolCollector
    >>> registry = prometheus_client.CollectorRegistry()
    >>> with shmpool.Pool.create(slots=4, slot_size=4096, name="films") as pool:
    ...     registry.register(PoolCollector(pool))
    ...     with pool.acquire():
    ...         labels = {"pool": "films", "class": "4096", "state": "leased"}
    ...         registry.get_sample_value("shmpool_slots", labels)
    1.0
    """

    def __init__(self, *pools: Pool | str) -> None:
        self._pools = {
            pool if isinstance(pool, str) else pool.name: (
                None if isinstance(pool, str) else weakref.ref(pool)
            )
            for pool in pools
        }
        self._down: set[str] = set()  # those whose reason was logged

    def describe(self) -> Iterable[Metric]:
        """The families, without values: a registry asks for their names."""
        return _families().values()

    def collect(self) -> Iterable[Metric]:
        """The families with the values of this moment. Raises nothing, whatever a pool is."""
        families = _families()
        for name, rows in self._read():
            for row in rows:
                families[row.family].add_metric((name, *row.labels), float(row.value))
        return families.values()

    def _read(self) -> Iterator[tuple[str, list[Row]]]:
        for name in list(self._pools) or _look.names():
            try:
                rows = list(_measuring.rows(self._look(name)))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one: the others are read
                if not self._pools and isinstance(error, ForeignSegmentError):
                    continue  # another user's, who has an exporter of his own
                self._note(name, error)
                rows = [Row("shmpool_up", 0)]
            else:
                self._down.discard(name)
            yield name, rows

    def _look(self, name: str) -> Look:
        reference = self._pools.get(name)
        if reference is None:
            return _look.look(name)
        pool = reference()
        if pool is None or pool._mapping.closed:
            raise PoolClosedError(f"pool {name!r} was closed in this process")
        return _look.glance(pool._mapping)

    def _note(self, name: str, error: Exception) -> None:
        if name not in self._down:
            self._down.add(name)
            log.warning("pool %r cannot be read: %s", name, error, extra={"pool": name})


def _families() -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
    made: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for family in FAMILIES:
        kind = GaugeMetricFamily if family.kind == GAUGE else CounterMetricFamily
        made[family.name] = kind(family.name, family.help, labels=("pool", *family.labels))
    return made
