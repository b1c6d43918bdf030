"""Count the instructions of each operation, and print them beside the counts that are kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from benchmarks import kept
from benchmarks.callgrind import Cost
from benchmarks.counting import COMPILERS, compiler_name, count_core, count_python, python_name

Found = tuple[str, str, dict[str, Cost]]  # side, what it depends on, costs


def main() -> int:
    """Count; 1 if something has grown by more than 2 %, is not kept, or is no more."""
    options = _options()
    table = kept.Table.load()
    fine = True
    for side, name, costs in _count(options.side):
        counts = {operation: cost.instructions for operation, cost in costs.items()}
        fine &= _show(table, side, name, counts)
        _show_functions(costs, options.functions)
        table.put(side, name, counts)
    if options.write:
        table.save()
    elif not fine:
        print(f"\nnot as it is kept: if that is meant, {kept.ADD}")
    return 0 if fine or options.write else 1


def _count(sides: list[str]) -> Iterator[Found]:
    if "core" in sides:
        for compiler in COMPILERS:
            yield "core", compiler_name(compiler), count_core(compiler)
    if "python" in sides:
        yield "python", python_name(), count_python()


def _show(table: kept.Table, side: str, name: str, counts: kept.Counts) -> bool:
    """Whether all is as it is kept."""
    row, tolerance = table.bound(side, name)
    print(f"\n{side}: {name}")
    if not table.of(side, name):
        against = f"held against others within {tolerance:.0%}" if row else "held against nothing"
        print(f"of this nothing is kept, so it is {against}; to keep it: {kept.ADD}")
    print(f"{'instructions of one':42}{'kept':>12}{'now':>12}{'change':>9}")
    print("\n".join(str(change) for change in kept.changes(row, counts)), flush=True)
    return not kept.complaints(row, counts, tolerance)


def _show_functions(costs: dict[str, Cost], wanted: str | None) -> None:
    """Where the instructions of an operation go, function by function."""
    if wanted not in costs:
        return
    functions = sorted(costs[wanted].functions.items(), key=lambda pair: -abs(pair[1]))
    print(f"\n{wanted}, with the loop around it:")
    print("\n".join(f"{count:12,.1f}  {name}" for name, count in functions if abs(count) >= 1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions", description=__doc__, epilog=main.__doc__
    )
    parser.add_argument("--side", nargs="+", choices=kept.SIDES, default=kept.SIDES,
                        help="the core in C alone, or through Python; default: both")  # fmt: skip
    parser.add_argument("--functions", metavar="OPERATION", help="also where its count goes")
    parser.add_argument("--write", action="store_true", help="keep what was counted")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
