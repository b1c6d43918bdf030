"""The command `shmpool doctor`: what will go wrong here, and what to do about it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from shmpool._text import printable
from shmpool.cli import checks
from shmpool.cli.checks import Grade
from shmpool.cli.table import add_parser, show_json, table

CODES = {0: "fine", 1: "there is something to do", 2: "wrong arguments"}


def add(commands: Any) -> None:
    """Add the parser."""
    about = "say what will go wrong on this machine, and the remedy"
    add_parser(commands, "doctor", about, CODES).set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything once; nothing is changed."""
    found = checks.every()
    if options.json:
        show_json([asdict(finding) for finding in found])
    else:
        print(table(["CHECK", "", "FOUND"], [(f.check, f.grade, f.fact) for f in found]))
        for finding in found:
            if finding.remedy:
                print(f"\n{finding.check}: {printable(finding.remedy)}")
    return int(any(finding.grade is Grade.TODO for finding in found))
