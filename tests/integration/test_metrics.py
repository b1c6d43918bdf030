"""shmpool.metrics: what Prometheus scrapes, and what the dashboard and the documents ask for."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import prometheus_client
import promql_parser
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import shmpool
from shmpool import Pool, QueueOptions, _core, _look
from shmpool._life import Life
from shmpool._measuring import COUNTER, FAMILIES, GAUGE
from shmpool.metrics import PoolCollector
from shmpool.testing import abandon
from workers import crasher

ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "shmpool.json").read_text())
PAGE = (ROOT / "docs" / "metrics.md").read_text()
MakePool = Callable[..., Pool]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def registry_of(*pools: Pool | str) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(PoolCollector(*pools))
    return registry


def scrape(registry: CollectorRegistry) -> Samples:
    """What a Prometheus server reads; no two samples have the same labels."""
    text = prometheus_client.generate_latest(registry).decode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, f"twice: {key}"
            samples[key] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: object) -> float:
    """The one sample of a metric that has these labels, among others."""
    wanted = {(key.rstrip("_"), str(text)) for key, text in labels.items()}
    found = [v for (metric, has), v in samples.items() if metric == name and wanted <= has]
    assert len(found) == 1, f"{name}{labels}: {len(found)} samples"
    return found[0]


@pytest.fixture
def busy(make_pool: MakePool) -> Iterator[Pool]:
    """Two sizes, two queues, and a slot in nearly every state."""
    pool = make_pool(
        slots=None, slot_size=None, classes=[(64, 5), (8192, 1, 2)], member_name="main",
        queues={"a": QueueOptions(maxsize=2), "b": QueueOptions()},
    )  # fmt: skip
    kept = [pool.acquire(64), pool.acquire(64)]
    shared, drained = pool.acquire(64), pool.acquire(64)
    shared.share()
    borrow = pool.borrow(drained.share())
    drained.release()
    pool.queue("a").put(pool.acquire(8192))
    yield pool
    for right in (*kept, shared, borrow, pool.queue("a").get()):
        right.release()


# What is told.


def test_every_family_is_named_as_prometheus_has_it() -> None:
    """Each once, with a help text and a type; counters end in _total, times are in seconds."""
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch(r"shmpool(_[a-z]+)+", family.name)
        assert family.help.endswith(".")
        assert family.kind in (GAUGE, COUNTER)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_ns", "_ms"))
        assert "pool" not in family.labels  # it comes first, always


def test_every_family_has_values_of_its_labels(busy: Pool) -> None:
    """The exposition has each of them, with its help and type, and no other."""
    text = prometheus_client.generate_latest(registry_of(busy)).decode()
    seen = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(seen) == {family.name for family in FAMILIES}
    for family in FAMILIES:
        told = seen[family.name]
        assert (told.type, told.documentation) == (family.kind, family.help)
        assert told.samples, family.name
        end = "_total" if family.kind == COUNTER else ""
        for sample in told.samples:
            assert sample.name == family.name + end
            assert tuple(sorted(sample.labels)) == tuple(sorted(("pool", *family.labels)))
            assert sample.labels["pool"] == busy.name


def test_slots_are_counted_by_size_and_state(busy: Pool) -> None:
    """Each class adds up to its slots."""
    samples = scrape(registry_of(busy))
    counts = {
        (dict(has)["class"], dict(has)["state"]): number
        for (metric, has), number in samples.items()
        if metric == "shmpool_slots" and number
    }
    assert counts == {
        ("64", "free"): 1, ("64", "leased"): 2, ("64", "shared"): 1, ("64", "draining"): 1,
        ("8192", "queued"): 1, ("8192", "uncommitted"): 1,
    }  # fmt: skip


def test_counters_are_those_of_the_statistics(busy: Pool) -> None:
    """Of the pool and of its members, by every name."""
    with pytest.raises(shmpool.StaleTicketError):
        busy.claim(0)
    with busy.acquire(8192), pytest.raises(shmpool.PoolExhaustedError):
        busy.acquire(8192, timeout=0.001)
    samples, said = scrape(registry_of(busy)), busy.statistics()
    (member,) = said.members
    who = {"member": "main", "pid": os.getpid(), "index": member.index}
    counted = (
        "acquired released put got detached claimed shared borrowed stale rung waits exhausted "
        "overflows moved"
    )
    for name in counted.split():
        told = value(samples, f"shmpool_member_{name}_total", **who)
        assert told == getattr(member, name), name
    assert value(samples, "shmpool_member_stale_total", **who) == 1
    assert value(samples, "shmpool_member_exhausted_total", **who) == 1
    assert value(samples, "shmpool_member_waited_seconds_total", **who) == member.waited > 0
    assert value(samples, "shmpool_member_received_bytes_total", **who) == member.received == 64
    assert value(samples, "shmpool_member_slots", **who) == member.held == 3
    assert value(samples, "shmpool_memory_bytes", part="slots") == said.payload_bytes
    assert value(samples, "shmpool_memory_bytes", part="control") == said.control_bytes
    assert value(samples, "shmpool_members") == 1


def test_times_are_seconds_of_what_lasts_longest(busy: Pool) -> None:
    """Of holds: not of what waits in a queue; a member's: not of what it only reads."""
    words, since = busy._mapping.view().words(), busy._mapping.view().slots["since_ns"]
    ages = {1: 3, 2: 100, 3: 7, 4: 20}  # by state: leased, queued, shared, draining
    now = int(since.max())
    for slot, state in enumerate((words & 7).tolist()):
        since[slot] = now - ages.get(state, 0) * 10**9
    samples = scrape(registry_of(busy))
    assert int(value(samples, "shmpool_longest_hold_seconds")) == 20
    assert int(value(samples, "shmpool_member_longest_hold_seconds")) == 7
    assert int(value(samples, "shmpool_queue_oldest_ticket_seconds", queue="a")) == 100
    assert value(samples, "shmpool_queue_oldest_ticket_seconds", queue="b") == 0


def test_an_idle_pool_has_held_nothing_for_long(pool: Pool) -> None:
    """0, and not since the last lease."""
    pool.acquire().release()
    samples = scrape(registry_of(pool))
    assert value(samples, "shmpool_longest_hold_seconds") == 0
    assert value(samples, "shmpool_member_longest_hold_seconds") == 0


def test_queues_tell_what_waits_and_who(busy: Pool) -> None:
    """Length, limit, closing, and the members that wait for a ticket, for room, for a slot."""
    busy.queue("b").close()  # wakes who waits
    for wait in ((_core.FOR_TICKET, 2), (_core.FOR_SPACE, 1), (_core.FOR_SLOT, 1)):
        busy._mapping.wait_begin(*wait)
    samples = scrape(registry_of(busy))
    for wait in ((_core.FOR_TICKET, 2), (_core.FOR_SPACE, 1), (_core.FOR_SLOT, 1)):
        busy._mapping.wait_end(*wait)
    told = {
        (queue, name): value(samples, f"shmpool_queue_{name}", queue=queue)
        for queue in "ab" for name in ("length", "maxsize", "closed")
    }  # fmt: skip
    assert told == {
        ("a", "length"): 1, ("a", "maxsize"): 2, ("a", "closed"): 0,
        ("b", "length"): 0, ("b", "maxsize"): 0, ("b", "closed"): 1,
    }  # fmt: skip
    waiting = {
        (q, want): value(samples, "shmpool_queue_waiting_members", queue=q, want=want)
        for q in "ab" for want in ("ticket", "room")
    }  # fmt: skip
    assert waiting == {("a", "ticket"): 0, ("a", "room"): 1, ("b", "ticket"): 1, ("b", "room"): 0}
    assert value(samples, "shmpool_waiting_members", class_=64) == 0
    assert value(samples, "shmpool_waiting_members", class_=8192) == 1


def test_what_the_dead_left_is_counted(make_pool: MakePool) -> None:
    """By what became of it."""
    options = QueueOptions(on_death="quarantine")
    pool = make_pool(slots=2, queues={"a": options, "b": QueueOptions()})
    pool.queue("a").put(pool.acquire())
    context = get_context("fork")
    gate = context.Event()
    child = context.Process(target=crasher.take, args=(pool.queue("a"), gate))
    child.start()
    gate.wait()
    child.kill()
    child.join()
    while not pool.statistics().sent_to_quarantine:  # the last number that is counted
        os.sched_yield()
    samples = scrape(registry_of(pool))
    assert value(samples, "shmpool_quarantined_total") == 1
    assert value(samples, "shmpool_reaped_members_total") == 1
    assert value(samples, "shmpool_slots", state="quarantined") == 1
    assert value(samples, "shmpool_requeued_total") == 0


@pytest.mark.parametrize("alive", [True, False])
def test_the_status_is_one_of_four(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """1 for what the pool is; an orphan can still be read."""
    if not alive:
        monkeypatch.setattr(_look, "life", lambda *_: Life.DEAD)
    samples = scrape(registry_of(pool.name))
    told = {s: value(samples, "shmpool_status", status=s) for s in
            ("forming", "open", "closed", "orphaned")}  # fmt: skip
    assert {name for name, number in told.items() if number} == {"open" if alive else "orphaned"}
    assert sum(told.values()) == value(samples, "shmpool_up") == 1


# Counters go up, and go with their member.


def test_counters_never_go_down_while_their_member_is_there(pool: Pool) -> None:
    """Scraped between any two operations."""
    registry, before = registry_of(pool), {}
    for step in range(12):
        lease = pool.acquire()
        if step % 3:
            pool.queue("a").put(lease)
            lease = pool.queue("a").get()
        lease.release()
        after = {k: v for k, v in scrape(registry).items() if k[0].endswith("_total")}
        assert before.keys() <= after.keys()
        assert all(after[key] >= number for key, number in before.items())
        before = after
    assert max(before.values()) >= 12


def test_a_member_that_leaves_takes_its_series_along(pool: Pool) -> None:
    """The others' stay as they are: nothing that a rate would take for a reset."""
    registry = registry_of(pool)
    other = Pool.attach(pool.name, member_name="guest")
    other.acquire().release()
    before = scrape(registry)
    assert value(before, "shmpool_member_acquired_total", member="guest") == 1
    other.close()
    while len(pool.statistics().members) > 1:
        os.sched_yield()
    after = scrape(registry)
    gone = {dict(has)["member"] for (name, has) in before.keys() - after.keys()}
    assert gone == {"guest"}


def test_two_members_of_one_name_and_process_are_two(pool: Pool) -> None:
    """The index tells them apart: no sample is there twice."""
    one, two = twins = [Pool.attach(pool.name, member_name="twin") for _ in range(2)]
    with one, two:
        one.acquire().release()
        samples = scrape(registry_of(pool))
        name = "shmpool_member_acquired_total"
        assert [value(samples, name, index=twin._mapping.me) for twin in twins] == [1, 0]


def test_names_cannot_break_the_exposition(make_pool: MakePool) -> None:
    """Quotes and backslashes come through as labels, line ends as question marks."""
    pool = make_pool(member_name='a"b\\c\nd\x1bé', queues=('q"\\\n',))
    samples = scrape(registry_of(pool))
    assert value(samples, "shmpool_member_acquired_total", member='a"b\\c?d?é') == 0
    assert value(samples, "shmpool_queue_length", queue='q"\\?') == 0


# From inside and from outside.


def test_a_pool_is_the_same_from_inside_and_by_name(busy: Pool) -> None:
    """But for ages."""
    inside, outside = (
        {key: v for key, v in scrape(registry_of(pool)).items() if "seconds" not in key[0]}
        for pool in (busy, busy.name)
    )
    assert inside == outside


def test_a_scrape_writes_nothing(busy: Pool) -> None:
    """Not a byte of the control block, from inside or outside."""
    block = SHM / busy.name
    before = block.read_bytes()
    for pool in (busy, busy.name):
        scrape(registry_of(pool))
    assert block.read_bytes() == before


def test_without_arguments_it_is_all_pools(make_pool: MakePool) -> None:
    """As they are at each scrape: pools come and go."""
    registry = registry_of()
    one = make_pool()
    assert value(scrape(registry), "shmpool_up", pool=one.name) == 1
    two = make_pool()
    assert value(scrape(registry), "shmpool_up", pool=two.name) == 1
    one.close()
    assert one.name not in {dict(has).get("pool") for _, has in scrape(registry)}


def test_a_pool_whose_names_are_gone_is_read_from_inside(pool: Pool) -> None:
    """unlink() is no end of a Pool; for those outside it is."""
    pool.unlink()
    samples = scrape(registry_of(pool))
    assert value(samples, "shmpool_up") == 1
    assert value(samples, "shmpool_slots", state="free") == 4


# What cannot be read.


def vanish(pool: Pool) -> None:
    pool.close()


def rot(pool: Pool) -> None:
    with (SHM / pool.name).open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 100)


def cut(pool: Pool) -> None:
    os.truncate(SHM / pool.name, 0)


def overwrite_a_table(pool: Pool) -> None:
    """Past what the checksum covers: a member that is nothing."""
    pool._mapping.view().members["identity"][7] = 0xFF


@pytest.mark.parametrize("harm", [vanish, rot, overwrite_a_table], ids=lambda harm: harm.__name__)
def test_a_pool_that_cannot_be_read_is_down_and_the_others_are_not(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture, harm: Callable[[Pool], None]
) -> None:
    """No other metric of it, and the reason once in the log."""
    sick, sound = make_pool(), make_pool()
    registry = registry_of(sick.name, sound)
    assert value(scrape(registry), "shmpool_up", pool=sick.name) == 1
    harm(sick)
    for _ in range(2):
        samples = scrape(registry)
        told = {name for name, has in samples if ("pool", sick.name) in has}
        assert told == {"shmpool_up"}
        assert value(samples, "shmpool_up", pool=sick.name) == 0
        assert value(samples, "shmpool_slots", pool=sound.name, state="free") == 4
    (record,) = (record for record in caplog.records if record.name == "shmpool.metrics")
    assert (record.levelno, record.pool) == (logging.WARNING, sick.name)
    assert sick.name in record.getMessage()
    if harm is overwrite_a_table:
        sick._mapping.view().members["identity"][7] = 0
        assert value(scrape(registry), "shmpool_up", pool=sick.name) == 1
    sick.close()
    caplog.clear()  # its reaper may have said so, too


def test_a_pool_that_was_closed_or_collected_here_is_down(make_pool: MakePool) -> None:
    """The collector keeps no Pool alive."""
    closed, lost = make_pool(), Pool.create(slots=1, slot_size=64)
    name = lost.name
    registry = registry_of(closed, lost)
    closed.close()
    del lost
    gc.collect()
    samples = scrape(registry)
    assert value(samples, "shmpool_up", pool=closed.name) == 0
    assert value(samples, "shmpool_up", pool=name) == 0
    assert not (SHM / name).exists()


@pytest.mark.parametrize("name", ["nobodys", "", "../etc/passwd", 'a"b\n'])
def test_a_name_of_nothing_is_down(name: str) -> None:
    """Whatever it is, and nothing is opened for it."""
    assert value(scrape(registry_of(name)), "shmpool_up", pool=name) == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")
def test_another_users_pool_is_down_by_name_and_left_out_of_all(pool: Pool) -> None:
    """Its own user has an exporter for it."""
    os.chown(SHM / pool.name, 12345, -1)
    try:
        assert value(scrape(registry_of(pool.name)), "shmpool_up") == 0
        assert pool.name not in {dict(has).get("pool") for _, has in scrape(registry_of())}
    finally:
        os.chown(SHM / pool.name, os.geteuid(), -1)


def test_a_registry_takes_one_collector(pool: Pool) -> None:
    """Two would have the same names: one takes any number of pools."""
    registry = registry_of(pool)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(PoolCollector("another"))
    assert value(scrape(registry), "shmpool_up") == 1


def test_without_the_client_the_remedy_is_told() -> None:
    """An ImportError that names the extra."""
    program = "import sys; sys.modules['prometheus_client'] = None; import shmpool.metrics"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: shmpool.metrics needs prometheus_client: "
        "pip install 'shmpool[metrics]'"
    )


def test_what_is_abandoned_is_still_held(pool: Pool) -> None:
    """A lease that nobody can end is in the numbers until its member is gone."""
    abandon(pool.acquire())
    assert value(scrape(registry_of(pool)), "shmpool_slots", state="leased") == 1


# The dashboard, and the page: every query asks for what is there.


def selectors(query: str) -> list[promql_parser.VectorSelector]:
    """The metrics that a PromQL query selects, each with its matchers."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


def grouped_by(query: str) -> set[str]:
    """Labels that aggregations of a query keep, or that are joined on."""
    labels: set[str] = set()

    def visit(node: Any) -> None:
        modifier = getattr(node, "modifier", None)
        labels.update(getattr(modifier, "labels", ()))

    promql_parser.walk(promql_parser.parse(query), visit)
    return labels


def wrong(query: str, there: dict[str, set[str]]) -> list[str]:
    """What a query asks for that the exposition does not have."""
    told, labels = [], {"instance", "job"}
    for selector in selectors(query):
        has = there.get(selector.name or "", set())
        if not has:
            told.append(f"no metric {selector.name}")
        told += [
            f"{selector.name} has no label {matcher.name}"
            for matcher in selector.matchers.matchers
            if matcher.name not in has
        ]
        labels |= has
        if "total" in str(selector.name) and f"({selector.name}" in query.replace("{", "("):
            plain = re.search(rf"(\w+) ?\({selector.name}\b", query)
            if plain and plain[1] not in ("rate", "increase", "irate", "resets"):
                told.append(f"{selector.name} is a counter, and taken as it is by {plain[1]}")
    told += [f"nothing has the label {name}" for name in grouped_by(query) - labels]
    return told


@pytest.fixture
def there(busy: Pool) -> dict[str, set[str]]:
    """Labels of every metric that the exporter has."""
    labels: dict[str, set[str]] = {}
    for name, has in scrape(registry_of(busy)):
        labels.setdefault(name, set()).update(key for key, _ in has)
    return labels


def queries_of_the_dashboard() -> list[tuple[str, str]]:
    """Title of the panel, and query, with Grafana's variables set."""
    return [
        (panel["title"], as_asked(target["expr"]))
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


def as_asked(query: str) -> str:
    return query.replace("$__rate_interval", "1m").replace("$pool", ".*")


def queries_of_the_page() -> list[tuple[str, str]]:
    """Queries in code blocks, and of the rules for alerts."""
    blocks = re.findall(r"^```promql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    queries = [line for block in blocks for line in block.splitlines() if line[:1] not in "# "]
    rules = re.findall(r"^ *expr: (.*)$", PAGE, re.MULTILINE)
    assert queries
    assert rules
    return [("the page", query) for query in [*queries, *rules]]


QUERIES = [*queries_of_the_dashboard(), *queries_of_the_page()]


@pytest.mark.parametrize(
    ("title", "query"), QUERIES, ids=[f"{title}-{n}" for n, (title, _) in enumerate(QUERIES)]
)
def test_a_query_asks_for_what_the_exporter_has(
    title: str, query: str, there: dict[str, set[str]]
) -> None:
    """Metrics, labels to match, and labels to group by: all are in the exposition."""
    assert selectors(query), title
    assert wrong(query, there) == []


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("shmpool_slot", "no metric shmpool_slot"),
        ("rate(shmpool_member_acquired[1m])", "no metric shmpool_member_acquired"),
        ('shmpool_slots{status="free"}', "shmpool_slots has no label status"),
        ("sum by (queue) (shmpool_slots)", "nothing has the label queue"),
        ("sum(shmpool_requeued_total)", "is a counter"),
    ],
)
def test_a_query_for_what_is_not_there_is_found(
    query: str, told: str, there: dict[str, set[str]]
) -> None:
    """The check above finds it."""
    assert any(told in line for line in wrong(query, there))


def test_every_metric_but_few_is_on_the_dashboard(there: dict[str, set[str]]) -> None:
    """What is exported is shown: the others are named here."""
    shown = {s.name for _, query in queries_of_the_dashboard() for s in selectors(query)}
    assert there.keys() - shown == {
        "shmpool_created_timestamp_seconds",
        "shmpool_queue_closed",
        "shmpool_repairs_total",
        "shmpool_member_moved_total",
        "shmpool_member_rung_total",
    }


def test_the_dashboard_can_be_imported() -> None:
    """Ids are unique, panels do not overlap, each is told, and asks for the chosen pools."""
    panels = DASHBOARD["panels"]
    assert DASHBOARD["schemaVersion"] >= 39
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))
    datasource, pool = DASHBOARD["templating"]["list"]
    assert (datasource["type"], pool["name"]) == ("datasource", "pool")
    assert pool["definition"] == pool["query"]["query"] == "label_values(shmpool_up, pool)"
    for panel in panels:
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            query = target["expr"]
            assert query.count('pool=~"$pool"') == len(selectors(as_asked(query)))


def test_the_page_lists_every_metric() -> None:
    """With its type and labels, as the code has them, and its help text."""
    assert [row for row in PAGE.splitlines() if row.startswith("| `shmpool_")] == [
        f"| `{family.name}{'_total' if family.kind == COUNTER else ''}` | {family.kind} "
        f"| {', '.join(f'`{label}`' for label in family.labels)} | {family.help} |"
        for family in FAMILIES
    ]
