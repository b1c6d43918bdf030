"""The command `shmpool gc`: what dead coordinators left in shared memory."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from shmpool._sizes import show_size
from shmpool._sweep import Verdict, sweep
from shmpool._text import printable
from shmpool._tracing import SUFFIX
from shmpool.cli.table import add_parser, show_json

CODES = {
    0: "no orphan is left, or it was a dry run",
    1: "an orphan could not be removed",
    2: "wrong arguments",
}


def add(commands: Any) -> None:
    """Add the parser."""
    about = "remove pools of this user whose coordinator is provably dead, and nothing else"
    parser = add_parser(commands, "gc", about, CODES)
    parser.set_defaults(run=run)
    parser.add_argument("--dry-run", action="store_true", help="say it, and do nothing")


def run(options: argparse.Namespace) -> int:
    """Sweep once."""
    verdicts = sweep(dry_run=options.dry_run)
    if options.json:
        show_json([asdict(verdict) for verdict in verdicts])
    else:
        for verdict in verdicts:
            print(f"{printable(_line(verdict, dry_run=options.dry_run))}")
        print(_sum(verdicts, dry_run=options.dry_run))
    failed = [verdict for verdict in verdicts if verdict.orphaned and verdict.left]
    return int(bool(failed) and not options.dry_run)


def _line(verdict: Verdict, *, dry_run: bool) -> str:
    if not verdict.orphaned:
        what = "left alone"
    elif dry_run:
        what = f"would remove {', '.join(verdict.left)}"
    else:
        what = f"removed {', '.join(verdict.removed)}" if verdict.removed else "not removed"
    return f"{verdict.name}: {what}: {verdict.reason}"


def _sum(verdicts: list[Verdict], *, dry_run: bool) -> str:
    swept = [verdict for verdict in verdicts if verdict.removed or (dry_run and verdict.orphaned)]
    size = show_size(sum(verdict.bytes for verdict in swept))
    traces = sum(verdict.name.endswith(SUFFIX) for verdict in swept)
    what = _count(len(swept) - traces, "pool") + (f", {_count(traces, 'trace')}" if traces else "")
    return f"{what} {'would be removed' if dry_run else 'removed'}, {size}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
