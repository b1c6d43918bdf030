"""Run benchmarks, print their numbers, and perhaps write them as JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.catalogue import BENCHMARKS


def main() -> None:
    """Run the benchmarks that the command line names, all by default."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is open is closed
    options = _options()
    if options.list:
        print("\n".join(BENCHMARKS))
        return
    findings = {"machine": machine.describe(), "quick": options.quick}
    _print_machine(findings)
    print(report.line(report.HEADINGS))
    chosen = options.names or list(BENCHMARKS)
    findings["benchmarks"] = [_run(name, quick=options.quick) for name in chosen]
    findings["afterwards"] = machine.load()
    if options.json:
        options.json.write_text(json.dumps(findings, indent=2) + "\n")


def _run(name: str, *, quick: bool) -> dict[str, Any]:
    began = time.perf_counter()
    outcome = BENCHMARKS[name](quick=quick)
    print("\n".join(report.lines(outcome)), flush=True)
    return report.as_json(outcome, round(time.perf_counter() - began, 2))


def _print_machine(findings: dict[str, Any]) -> None:
    about = findings["machine"]
    print(
        f"{about['cpu']}, {about['usable_cores']} CPUs, {about['last_level_cache']} cache, "
        f"Linux {about['kernel']}, Python {about['python']}, numpy {about['numpy']}, "
        f"commit {(about['commit'] or 'unknown')[:9]}, load {about['load_average'][0]:.2f}, "
        f"{about['date']}"
    )
    if findings["quick"]:
        print("--quick: proves that they run; the numbers mean nothing")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", type=_known, metavar="NAME", help="default: all")
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers there")
    parser.add_argument("--list", action="store_true", help="only name the benchmarks")
    return parser.parse_args()


def _known(name: str) -> str:
    if name not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"no benchmark {name!r}: one of {', '.join(BENCHMARKS)}")
    return name


if __name__ == "__main__":
    main()
