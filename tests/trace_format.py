"""The rules of the Trace Event Format, and of those who read it."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from typing import Any

import pytest


def check_format(trace: dict[str, Any]) -> None:  # noqa: C901 - a rule after the other
    """The rules of the Trace Event Format, as far as they are used, and those of its readers."""
    assert json.loads(json.dumps(trace)) == trace
    slices, flows, names = defaultdict(list), defaultdict(list), set()
    last: dict[tuple[int, int], float] = {}
    for event in trace["traceEvents"]:
        row = event["pid"], event.get("tid", 0)
        match event["ph"]:
            case "M":
                names.add((event["name"], *row))
                continue
            case "X":
                assert event["dur"] > 0
                slices[row].append((event["ts"], event["ts"] + event["dur"]))
            case "s" | "t" | "f":
                flows[event["id"], event["cat"], event["name"]].append(event)
            case "i":
                assert event["s"] in "gpt"
            case "C":
                assert all(number >= 0 for number in event["args"].values())
            case other:
                pytest.fail(f"{other} is not used")
        assert event["ts"] >= last.get(row, 0.0), "in every row, time goes on"
        last[row] = event["ts"]
        if event["ph"] != "C":
            assert ("thread_name", *row) in names
            assert row[1] not in (0, row[0]), "the main thread's row is shown before all others"
    for row, spans in slices.items():
        for (_, end), (begin, _) in itertools.pairwise(spans):
            assert end < begin, f"slices of row {row} overlap, or would by rounding"
    for flow in flows.values():
        assert [event["ph"] for event in flow] == ["s", "t", "f"]
        for event in flow:
            at, row = event["ts"], (event["pid"], event["tid"])
            # The enclosing slice is what an arrow is bound to.
            assert any(begin <= at < end for begin, end in slices[row]), (event, slices[row])
