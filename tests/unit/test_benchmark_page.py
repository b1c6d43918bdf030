"""Benchmarks' command, and the pages that are made from its results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import crews, page, plots, task
from benchmarks.measure import Ratio, Series
from benchmarks.report import as_json
from benchmarks.result import Outcome, Row, Target, Words
from benchmarks.task import Crew

MACHINE = {
    "date": "2030-01-02T03:04:05+00:00", "cpu": "Abacus", "usable_cores": 2,
    "last_level_cache": "1K", "kernel": "7.0", "python": "3.11.0", "numpy": "2.0",
    "commit": "c0ffee",
    "posix_ipc": "1.1", "shmpool": "0.1", "load_average": [0.5, 0.25, 0.125], "changed_files": 0,
    "peers": {"turtle": "1.2.3", "unicorn": None},
}  # fmt: skip


def outcomes() -> list[Outcome]:
    ratio = Ratio(20.0, 18.0, 25.0)
    race = (
        Row.of("floor: light", Series.of([10.0, 10.0]), "ns"),
        Row.of("hare", Series.of([1e3, 2e3, 3e3]), "us", ratio, Target("ratio", at_least=15)),
        Row.of("tortoise", Series.of([4e4]), "us", ratio, Target("median", 7), side="peer"),
        Row.of("a | b", Series.of([0.0]), "ns"),
        Row.of("laps", Series.of([7.0]), "laps"),
    )
    sweep = (Row.of(f"{at}: x", Series.of([at * 10.0]), "ns", line="x", at=at) for at in (1, 8, 64))
    words = (Words("unicorn", "skipped: it is not installed"),)
    return [
        Outcome.of("race", race, "on grass", words=words),
        Outcome.of("sweep", sweep, axis="horses"),
    ]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> page.Results:
    """A results file in a repository of its own."""
    monkeypatch.setattr(page, "ROOT", tmp_path)
    path = tmp_path / "results" / "toy.json"
    path.parent.mkdir()
    found = [as_json(outcome, 1.5) for outcome in outcomes()]
    findings = {"machine": MACHINE, "quick": False, "benchmarks": found, "afterwards": {}}
    path.write_text(json.dumps(findings))
    return page.Results(path)


# The page.


def test_a_value_in_a_text_is_the_results_files(results: page.Results) -> None:
    """With the unit that makes it short."""
    text = "{{median race | hare}}, {{p99 race | laps}}, x{{ratio race | hare}} ({{file}})"
    filled = page.fill(text, results, page.ROOT)
    assert filled == "2 µs, 7 laps, x20 (results/toy.json)"


@pytest.mark.parametrize("text", ["{{median race | snail}}", "{{median chess | hare}}"])
def test_a_row_that_the_file_does_not_have_is_an_error(results: page.Results, text: str) -> None:
    """It says which row of which file."""
    with pytest.raises(page.PageError, match=r"results/toy.json has no row '\w+'"):
        page.fill(text, results, page.ROOT)


def test_a_blank_that_nobody_knows_is_an_error(results: page.Results) -> None:
    """It names those that there are."""
    with pytest.raises(page.PageError, match=r"medain.*'median'"):
        page.fill("{{medain race | hare}}", results, page.ROOT)


def test_a_section_shows_rows_words_notes_and_pictures(results: page.Results) -> None:
    """Ours bold, floors in italics, with what was missed."""
    text = page.section(results, "race", page.ROOT / "docs")
    assert "| **hare** | 2 µs | 1.1 µs | 2.98 µs | 20 | 18 .. 25 | ratio ≥ 15 | reached |" in text
    assert "| *floor: light* |" in text
    assert "| tortoise | 40 µs |" in text
    assert "median ≤ 7 µs | **missed** |" in text
    assert "| **a \\| b** |" in text
    assert "| unicorn | skipped: it is not installed |" in text
    assert "- on grass" in text
    assert "(../results/toy/race.svg)" in text
    assert "--only race`, 2 s." in text


def test_the_rest_is_what_no_section_named(results: page.Results) -> None:
    """Benchmarks that the template does not know are on the page all the same."""
    text = page.fill("{{section sweep}}{{rest}}", results, page.ROOT)
    assert "### race" in text
    assert "### sweep" not in text
    assert "not in results/toy.json" in page.fill("{{section chess}}", results, page.ROOT)


def test_the_page_says_where_and_what_was_missed(results: page.Results) -> None:
    """Machine, versions, load, and targets."""
    text = page.fill("{{machine}}\n{{missed}}", results, page.ROOT)
    for fact in (
        "Abacus",
        "Linux 7.0",
        "c0ffee",
        "turtle 1.2.3",
        "| unicorn |",
        "0.50, 0.25, 0.12",
    ):
        assert fact in text
    assert text.splitlines()[-1] == "- `race`: tortoise: median ≤ 7 µs, found 40 µs"


def test_the_command_makes_everything_of_one_file(
    results: page.Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page, README's table and the pictures; once more changes nothing."""
    templates, readme = tmp_path / "templates", tmp_path / "README.md"
    templates.mkdir()
    (templates / "performance.md").write_text("{{section race}}{{rest}}")
    (templates / "figures.md").write_text("hare {{median race | hare}}\n")
    readme.write_text("# a\n<!-- figures from x, b -->\nold\n<!-- end of figures -->\nz\n")
    monkeypatch.setattr(page, "TEMPLATES", templates)
    monkeypatch.setattr(page, "README", readme)
    monkeypatch.setattr(page, "PAGE", tmp_path / "docs" / "performance.md")
    page.PAGE.parent.mkdir()
    made = set()
    for _ in range(2):
        page.main([str(results.path)])
        pictures = sorted((tmp_path / "results" / "toy").iterdir())
        made.add((page.PAGE.read_text(), readme.read_text(), *(p.read_text() for p in pictures)))
    assert len(made) == 1
    assert [picture.name for picture in pictures] == ["race.svg", "sweep.svg"]
    assert "old" not in readme.read_text()
    assert readme.read_text().endswith("hare 2 µs\n<!-- end of figures -->\nz\n")
    assert page.named_by(readme.read_text()) == results.path


def test_this_repositorys_pages_are_what_their_results_file_says() -> None:
    """Nobody has edited a number by hand, or forgotten to make the pages again."""
    readme = page.README.read_text()
    results = page.Results(page.named_by(readme))
    assert page.figures(results) in readme
    assert page.PAGE.read_text() == page.performance(results)
    assert not results.quick
    for found in results.benchmarks.values():
        for picture in plots.pictures(found, results.path.with_suffix("")):
            assert picture.exists(), f"{picture} is missing: python -m benchmarks.page"


# Pictures.


def test_rows_of_one_unit_share_a_picture(results: page.Results, tmp_path: Path) -> None:
    """A row alone, and what no log scale shows, have none; a picture names its rows."""
    race = results.benchmarks["race"]
    (picture,) = plots.draw(race, tmp_path)
    text = picture.read_text()
    assert "tortoise" in text
    assert "2 µs" in text
    assert "laps" not in text
    assert "a | b" not in text


# The command.


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., Outcome]]:
    """In place of the real ones."""
    made: dict[str, Any] = {
        outcome.name: lambda outcome=outcome, **_: outcome for outcome in outcomes()
    }
    monkeypatch.setattr(command, "BENCHMARKS", made)
    return made


def test_the_command_writes_what_was_found(
    benchmarks: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the machine before and after, and says on stderr how far it is."""
    path = tmp_path / "new" / "found.json"
    assert command.main(["--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert [each["name"] for each in found["benchmarks"]] == list(benchmarks)
    assert {"peers", "commit", "kernel", "load_average"} <= found["machine"].keys()
    assert "load_average" in found["afterwards"]
    told = capsys.readouterr()
    assert "[1/2] race, then sweep" in told.err
    assert "hare" in told.out
    assert "unicorn: skipped" in told.out


@pytest.mark.usefixtures("benchmarks")
def test_some_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """By name; a name that nobody has is refused with those that there are."""
    assert command.main(["--only", "sweep"]) == 0
    assert "hare" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main(["--only", "chess"])
    assert "race, sweep" in capsys.readouterr().err
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out == "race\nsweep\n"


@pytest.mark.parametrize(
    ("target", "broken"),
    [
        (Target("ratio", at_least=15, surely=2), False),
        (Target("ratio", at_least=15, surely=21), True),
        (Target("ratio", at_most=1, surely=20.5), False),
        (Target("ratio", at_most=1, surely=19), True),
        (Target("ratio", at_least=100), False),
    ],
)
def test_what_no_machine_explains_is_a_failure(
    benchmarks: dict[str, Any], target: Target, broken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missed target is a finding; beyond what is sure, the exit code is 1."""
    row = Row.of("hare", Series.of([1.0]), "ns", Ratio(20.0, 20.0, 20.0), target)
    benchmarks["race"] = lambda *, quick: Outcome.of("race", [row])  # noqa: ARG005
    assert command.main(["--quick"]) == int(broken)
    assert ("FAILED race" in capsys.readouterr().err) == broken


def test_one_that_fails_does_not_keep_the_others(
    benchmarks: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told, with its traceback; the exit code is 1."""

    def fail(*, quick: bool) -> Outcome:
        raise ZeroDivisionError(quick)

    benchmarks["race"] = fail
    assert command.main([]) == 1
    told = capsys.readouterr()
    assert "1: x" in told.out
    assert "FAILED race: ZeroDivisionError(False)" in told.err


# Peers.


@pytest.mark.parametrize("crew", crews.CREWS, ids=lambda crew: crew.name)
def test_a_peer_gives_every_job_its_own_result_in_order(crew: Crew) -> None:
    """In each of its ways; those that do not come with Python are left to `make bench-quick`."""
    if crew.distribution:
        assert crew.missing() is None or crew.distribution in str(crew.missing())
        return
    function = task.mark if crew.in_place else task.make
    with crew.open(2) as ways:
        for run in ways.values():
            count = 0
            for job, frame in enumerate(run(function, 300)):
                task.check(job, frame)
                count += 1
            del frame
            assert count == 300


def test_a_result_of_another_job_is_noticed() -> None:
    """By either end, and by its size."""
    frame = task.make(300)
    task.check(300, frame)
    for job, wrong in ((44, frame), (301, frame), (300, frame[1:]), (0, np.ones_like(frame))):
        with pytest.raises(task.WrongResultError):
            task.check(job, wrong)
