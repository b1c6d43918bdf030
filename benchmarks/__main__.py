"""Run benchmarks, print their numbers, and perhaps write them as JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.catalogue import BENCHMARKS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that the command line names, all by default.

    The exit code is 1 if one of them failed, or found what cannot be on any machine.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is open is closed
    options = _options(arguments)
    if options.list:
        print("\n".join(BENCHMARKS))
        return 0
    findings = {"machine": machine.describe(), "quick": options.quick, "benchmarks": []}
    _print_machine(findings)
    print(report.line(report.HEADINGS), flush=True)
    failed = _run_all(options, findings)
    for name, why in failed.items():
        print(f"FAILED {name}: {why}", file=sys.stderr)
    return 1 if failed else 0


def _run_all(options: argparse.Namespace, findings: dict[str, Any]) -> dict[str, str]:
    """Add what they find to `findings`: why some failed."""
    failed = {}
    chosen = list(dict.fromkeys(options.only or BENCHMARKS))
    for number, name in enumerate(chosen):
        _say(f"[{number + 1}/{len(chosen)}] {name}", chosen[number + 1 :])
        try:
            found = _run(name, quick=options.quick)
        except Exception as error:  # noqa: BLE001 - the others are still of use
            traceback.print_exc()
            failed[name] = repr(error)
            continue
        findings["benchmarks"].append(found)
        broken = [row["name"] for row in found["rows"] if row["broken"]]
        if broken:
            failed[name] = f"beyond what holds on every machine: {'; '.join(broken)}"
        if options.json:  # after each: what is interrupted has a file of what was done
            findings["afterwards"] = machine.load()
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(findings, indent=2) + "\n")
    return failed


def _run(name: str, *, quick: bool) -> dict[str, Any]:
    began = time.perf_counter()
    outcome = BENCHMARKS[name](quick=quick)
    print("\n".join(report.lines(outcome)), flush=True)
    return report.as_json(outcome, round(time.perf_counter() - began, 2))


def _say(what: str, left: Sequence[str]) -> None:
    then = f", then {', '.join(left[:3])}" + (" ..." if len(left) > 3 else "") if left else ""
    print(f"{what}{then}", file=sys.stderr, flush=True)


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


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument(
        "--only", nargs="+", action="extend", type=_known, metavar="NAME", help="default: all"
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers there")
    parser.add_argument("--list", action="store_true", help="only name the benchmarks")
    return parser.parse_args(arguments)


def _known(name: str) -> str:
    if name not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"no benchmark {name!r}: one of {', '.join(BENCHMARKS)}")
    return name


if __name__ == "__main__":
    raise SystemExit(main())
