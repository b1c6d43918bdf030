"""docs/performance.md, README's table of figures and the plots, all from one results file.

    python -m benchmarks.page benchmarks/results/NAME.json

The words stand in benchmarks/templates/; every number comes from the file.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import plots, report
from benchmarks.plots import Found
from benchmarks.task import SOME

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "benchmarks/templates"
PAGE, README = ROOT / "docs/performance.md", ROOT / "README.md"
_BLANK = re.compile(r"\{\{ *(\w+)(?: +([^|}]*[^|} ]))?(?: *\| *([^}]*[^} ]))? *\}\}")
_TABLE = re.compile(
    r"<!-- figures from (?P<file>\S+)[^>]*-->\n.*?<!-- end of figures -->\n", re.DOTALL
)


class PageError(Exception):
    """A page asks for what the results file does not have."""


class Results:
    """One results file."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.file = self.path.relative_to(ROOT).as_posix()
        found = json.loads(path.read_text())
        self.machine: Found = found["machine"]
        self.afterwards: Found = found.get("afterwards", {})
        self.quick: bool = found["quick"]
        self.benchmarks: dict[str, Found] = {each["name"]: each for each in found["benchmarks"]}

    def row(self, benchmark: str, name: str) -> Found:
        """A row by its name."""
        rows = self.benchmarks[benchmark]["rows"] if benchmark in self.benchmarks else ()
        for row in rows:
            if row["name"] == name:
                found: Found = row
                return found
        raise PageError(
            f"{self.file} has no row {name!r} of a benchmark {benchmark!r}: "
            f"run all benchmarks, or correct the template"
        )


def fill(template: str, results: Results, folder: Path) -> str:
    """A template with its blanks filled in; `folder` is where the page will be."""
    named: set[str] = set()

    def blank(match: re.Match[str]) -> str:
        what, first, second = match[1], match[2] or "", match[3] or ""
        if what == "section":
            named.add(first)
            return section(results, first, folder)
        if what == "rest":
            left = [name for name in results.benchmarks if name not in named]
            return "\n".join(f"### {name}\n\n{section(results, name, folder)}" for name in left)
        if what in _VALUES:
            return _VALUES[what](results.row(first, second))
        if what in _FACTS:
            return _FACTS[what](results)
        raise PageError(f"a template asks for {match[0]}: one of {sorted(_FACTS | _VALUES)}")

    return _BLANK.sub(blank, template)


def section(results: Results, name: str, folder: Path) -> str:
    """Table, words, notes and plots of one benchmark."""
    if name not in results.benchmarks:
        return f"`{name}` is not in {results.file}.\n"
    found = results.benchmarks[name]
    parts = [_rows_as_table(found["rows"]), _words_as_table(found.get("words", ()))]
    parts += ["\n".join(f"- {note}" for note in found["notes"])]
    depth = "../" * len(folder.relative_to(ROOT).parts)
    for picture in plots.pictures(found, results.path.with_suffix("")):
        place = f"{depth}{picture.relative_to(ROOT).as_posix()}"
        parts.append(f"![{name}: medians, with whiskers from p5 to p99]({place})")
    parts.append(f"`python -m benchmarks --only {name}`, {found['seconds']:,.0f} s.\n")
    return "\n\n".join(part for part in parts if part)


def _rows_as_table(rows: Sequence[Found]) -> str:
    head = ["what", "median", "p5", "p99", "ratio", "(pairs)", "target", ""]
    return _as_table(head, [_cells(row) for row in rows]) if rows else ""


def _cells(row: Found) -> list[str]:
    ratio = row["ratio"]
    mark = {"ours": "**", "floor": "*"}.get(row.get("side", ""), "")
    reached = {None: "", True: "reached", False: "**missed**"}[row["reached"]]
    return [
        f"{mark}{row['name']}{mark}",
        *(report.amount(row[at], row["unit"]) for at in ("median", "p5", "p99")),
        report.number(ratio["value"]) if ratio else "",
        f"{report.number(ratio['low'])} .. {report.number(ratio['high'])}" if ratio else "",
        _target(row) if row["target"] else "",
        reached,
    ]


def _target(row: Found) -> str:
    """With its unit, where it is not of a ratio."""
    words = row["target"].replace("<=", "≤").replace(">=", "≥")
    unit = "" if words.startswith("ratio") else f" {row['unit'].replace('us', 'µs')}"
    return f"{words}{unit}"


def _words_as_table(words: Sequence[Found]) -> str:
    cells = [[word["name"], word["text"]] for word in words]
    return _as_table(["who", "what happens"], cells) if words else ""


def _as_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if number > 0 and len(head) > 2 else "---" for number in range(len(head))]
    lines = [head, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _machine(results: Results) -> str:
    about = results.machine
    peers = {name: version for name, version in about["peers"].items() if version}
    absent = [name for name, version in about["peers"].items() if not version]
    base = {name: about[name] for name in ("shmpool", "python", "numpy", "posix_ipc")}
    changed = f", and {about['changed_files']} changed files" * bool(about.get("changed_files"))
    cpu = f"{about['cpu']}, {about['usable_cores']} CPUs, last cache {about['last_level_cache']}"
    rows = [
        ["results", f"[{results.file}](../{results.file})" + ", quick: worthless" * results.quick],
        ["date", about["date"]],
        ["machine", f"{cpu}, Linux {about['kernel']}"],
        ["load averages before", _load(about)],
        ["load averages after", _load(results.afterwards)],
        ["commit", f"{about['commit'] or 'unknown'}{changed}"],
        ["versions", ", ".join(f"{name} {version}" for name, version in (base | peers).items())],
        ["not installed", ", ".join(absent) or "none"],
    ]
    return _as_table(["what", "on this page"], rows)


def _load(about: Found) -> str:
    averages = ", ".join(f"{each:.2f}" for each in about.get("load_average", ()))
    return f"{averages} (1, 5, 15 minutes)" if averages else "unknown"


def _missed(results: Results) -> str:
    """All targets that this run has missed, as a list."""
    lines = [
        f"- `{name}`: {row['name']}: {_target(row)}, found {_aimed(row)}"
        for name, found in results.benchmarks.items()
        for row in found["rows"]
        if row["reached"] is False
    ]
    return "\n".join(lines) or "None."


def _aimed(row: Found) -> str:
    of = row["target"].partition(" ")[0]
    return _VALUES[of](row)


_FACTS: dict[str, Callable[[Results], str]] = {
    "machine": _machine,
    "file": lambda results: results.file,
    "where": lambda results: (
        f"{results.machine['usable_cores']} CPUs ({results.machine['cpu']}, "
        f"Linux {results.machine['kernel']}, Python {results.machine['python']})"
    ),
    "load": lambda results: f"{results.machine['load_average'][0]:.1f}",
    "some": lambda _: str(SOME),
    "missed": _missed,
}
_VALUES: dict[str, Callable[[Found], str]] = {
    "median": lambda row: report.amount(row["median"], row["unit"]),
    "p99": lambda row: report.amount(row["p99"], row["unit"]),
    "ratio": lambda row: report.number(row["ratio"]["value"]),
}


def performance(results: Results) -> str:
    """The page."""
    return fill((TEMPLATES / "performance.md").read_text(), results, PAGE.parent)


def figures(results: Results) -> str:
    """README's table, with the marks around it."""
    text = fill((TEMPLATES / "figures.md").read_text(), results, README.parent)
    head = f"<!-- figures from {results.file}, by python -m benchmarks.page -->"
    return f"{head}\n{text}<!-- end of figures -->\n"


def named_by(readme: str) -> Path:
    """The results file that README's table is from. Raises PageError without a table."""
    match = _TABLE.search(readme)
    if match is None:
        raise PageError("README.md has no table between the marks of figures")
    return ROOT / match["file"].rstrip(",")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, README's table and the plots of a results file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=main.__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="of --json")
    results = Results(parser.parse_args(arguments).results)
    readme = README.read_text()
    named_by(readme)
    # Everything is made before anything is written: a row that is missing changes no file.
    page, table = performance(results), figures(results)
    for found in results.benchmarks.values():
        plots.draw(found, results.path.with_suffix(""))
    PAGE.write_text(page)
    README.write_text(_TABLE.sub(lambda _: table, readme))


if __name__ == "__main__":
    main()
