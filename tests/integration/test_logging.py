"""What the library logs: under which name, silent unless asked for, with what to filter by."""

from __future__ import annotations

import ast
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from farm_jobs import die_first

import shmpool
from shmpool import Farm, Pool
from shmpool._overdue import Overdue
from shmpool._relay import Intake

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "shmpool").glob("*.py"))
PAGE = (ROOT / "docs" / "metrics.md").read_text()
MakePool = Callable[..., Pool]
LEVELS = {"warning", "exception", "error", "info", "debug", "critical"}


def calls(path: Path) -> Iterator[ast.Call]:
    """Every call in a module."""
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def loggers() -> dict[str, set[str]]:
    """Names of the loggers that a module gets for itself, and which modules do."""
    found: dict[str, set[str]] = {}
    for path in MODULES:
        for call in calls(path):
            ours = ast.unparse(call.func) == "logging.getLogger" and call.args
            if ours and isinstance(call.args[0], ast.Constant):
                found.setdefault(str(call.args[0].value), set()).add(path.stem)
    return found


def told() -> dict[str, list[tuple[str, set[str]]]]:
    """The table of the page: levels and extras by logger."""
    rows = re.findall(r"^\| `(shmpool\.\w+)` \| (\w+) \| [^|]* \| ([^|]*) \|$", PAGE, re.MULTILINE)
    found: dict[str, list[tuple[str, set[str]]]] = {}
    for name, level, extras in rows:
        found.setdefault(name, []).append((level, set(re.findall(r"`(\w+)`", extras))))
    return found


def awaited(name: str, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Records of a logger, when there are any: another thread makes them."""
    while not (found := [record for record in caplog.records if record.name == name]):
        os.sched_yield()
    return found


def is_told(record: logging.LogRecord) -> bool:
    """The page has a row for it: its level, and just what is in the record beyond its own."""
    own = set(vars(logging.makeLogRecord({}))) | {"message", "taskName"}
    return (record.levelname, set(vars(record)) - own) in told()[record.name]


def test_loggers_stand_below_ours_and_on_the_page() -> None:
    """A program sets one level, or one handler, for all of them."""
    names = set(loggers()) - {"shmpool"}
    assert names == set(told())
    assert all(name.startswith("shmpool.") for name in names)
    assert loggers()["shmpool"] == {"__init__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_message_is_made_when_it_is_wanted(path: Path) -> None:
    """Arguments go to the logger; facts go in `extra`, or the module says why there are none."""
    for call in calls(path):
        what = ast.unparse(call.func)
        if not re.fullmatch(r"(\w+_)?log\.(\w+)", what) or what.split(".")[1] not in LEVELS:
            continue
        assert isinstance(call.args[0], ast.Constant | ast.Name), ast.unparse(call)
        assert any(word.arg == "extra" for word in call.keywords) or path.stem == "_relay", what


def run(program: str) -> str:
    """What a program without our help writes to stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


WAIT = """
from shmpool import Pool, PoolExhaustedError, _waiting
_waiting.PATIENCE = 0.0
with Pool.create(slots=1, slot_size=64, name="silent") as pool, pool.acquire():
    try:
        pool.acquire(timeout=0.25)
    except PoolExhaustedError:
        pass
"""


def test_nothing_is_printed_unless_logging_is_set_up() -> None:
    """Not by logging's last resort either, which prints the warnings of libraries to stderr."""
    assert run(WAIT) == ""


def test_all_is_printed_once_logging_is_set_up() -> None:
    """By whatever the program chose."""
    said = run(
        f"import logging; logging.basicConfig(format='%(name)s %(pool)s: %(message)s')\n{WAIT}"
    )
    assert said.startswith("shmpool.pool silent: waited ")
    assert len(said.splitlines()) == 2


# What there is to filter by.


def test_a_death_is_logged_with_what_became_of_it(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    """Member, pid, and how many slots went where."""
    pool = make_pool(slots=1, member_name="keeper")
    begun = os.pipe()
    if not (child := os.fork()):
        lease = pool.acquire()
        os.write(begun[1], b"!")
        while lease.live:
            signal.pause()
    os.read(begun[0], 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for end in begun:
        os.close(end)
    (record,) = awaited("shmpool.reaper", caplog)
    facts = vars(record)
    assert (facts["pool"], facts["member"], facts["pid"]) == (pool.name, f"keeper+{child}", child)
    became = [facts[name] for name in ("freed", "requeued", "dead_lettered", "quarantined")]
    assert became == [1, 0, 0, 0]
    assert is_told(record)


def test_a_round_that_fails_is_logged_with_its_pool(
    pool: Pool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the traceback; the reaper goes on."""

    def fail(watch: Overdue) -> None:
        monkeypatch.undo()
        raise OSError("no descriptors")

    monkeypatch.setattr(Overdue, "look", fail)
    (record,) = awaited("shmpool.reaper", caplog)
    assert (record.pool, record.levelname) == (pool.name, "ERROR")  # type: ignore[attr-defined]
    assert record.exc_info
    assert is_told(record)
    caplog.clear()  # what is left there is taken for a failure of the test


def test_an_overdue_lease_is_logged_with_its_slot(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a LeakWarning cannot be told: who, which, and for how long."""
    pool = make_pool(slots=1, lease_warning=3600, member_name="slow")
    watch = Overdue(pool._mapping)
    with pool.acquire() as lease, warnings.catch_warnings():
        warnings.simplefilter("error", shmpool.LeakWarning)
        since = int(pool._mapping.view().slots["since_ns"][0])
        for _ in range(2):
            watch._look(since + 3601 * 10**9)
        generation = lease.generation
    (record,) = caplog.records
    facts = vars(record)
    assert (facts["pool"], facts["member"], facts["pid"]) == (pool.name, "slow", os.getpid())
    assert (facts["slot"], facts["generation"], round(facts["held"])) == (0, generation, 3601)
    assert is_told(record)


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_the_level_of_a_logger_holds_for_what_workers_log(
    caplog: pytest.LogCaptureFixture, level: int
) -> None:
    """A record that comes from a worker is asked for as any other."""
    intake = Intake()
    sent: dict[str, Any] = {"name": "mine", "levelno": logging.WARNING, "msg": "hello"}
    logger = logging.getLogger("mine")
    logger.setLevel(level)  # not by caplog, whose handler would then ask as well
    try:
        intake._take("record", "paint-1", "job 3", sent)
    finally:
        logger.setLevel(logging.NOTSET)
        intake.close()
    said = [(vars(r)["worker"], vars(r)["job"], r.getMessage()) for r in caplog.records]
    assert said == ([("paint-1", "job 3", "hello")] if level == logging.WARNING else [])


def test_a_worker_that_is_replaced_is_logged_with_its_end(
    farm: Farm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Which worker, and how it ended; the reaper tells of what it held."""
    assert [result.value for result in farm.map([(die_first, 1, tmp_path)])] == [1]
    (record,) = awaited("shmpool.farm", caplog)
    facts = vars(record)
    assert facts["pool"] == farm.pool.name
    assert facts["worker"].startswith("obey-")
    assert (facts["exitcode"], facts["overdue"]) == (-signal.SIGKILL, False)
    assert str(facts["pid"]) in record.getMessage()
    assert is_told(record)


@pytest.mark.usefixtures("impatient")
def test_long_waits_are_logged_as_the_page_says(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    """For a slot, and for room."""
    pool = make_pool(slots=2, queues={"a": shmpool.QueueOptions(maxsize=1)})
    pool.queue("a").put(pool.acquire())
    with pool.acquire() as lease:
        with pytest.raises(shmpool.PoolExhaustedError):
            pool.acquire(timeout=0.15)
        with pytest.raises(shmpool.QueueFull):
            pool.queue("a").put(lease, timeout=0.15)
    pool.queue("a").get().release()
    assert [record.name for record in caplog.records] == ["shmpool.pool", "shmpool.queue"]
    assert all(is_told(record) for record in caplog.records)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait is long from its first slice on."""
    monkeypatch.setattr("shmpool._waiting.PATIENCE", 0.0)
