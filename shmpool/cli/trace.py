"""The command `shmpool trace`: what happens to the slots of a pool, on a timeline."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Self

from shmpool import _core
from shmpool._text import printable
from shmpool._trace import Recorder, Recording, recorder
from shmpool._tracing import EVENTS
from shmpool.cli import chrome, trace_summary, values
from shmpool.cli.exits import UsageError
from shmpool.cli.table import add_parser, show_json
from shmpool.cli.timeline import Timeline, build
from shmpool.errors import SegmentError, ShmpoolError

CODES = {
    0: "traced until the time was over, ^C, or the end of the pool",
    1: "no such pool, it is being traced already, or the output cannot be written",
    2: "wrong arguments",
}
_ABOUT = """\
What happens to every slot of a pool that runs, for a while: who holds it, where it waits and
who waits for it, as a timeline and in numbers. One word is written to the pool, by which its
members know that somebody listens; what they note lies in a segment of its own.
"""
_EXAMPLES = """\
examples:
  shmpool trace films --for 5s -o trace.json     for ui.perfetto.dev
  shmpool trace films --for 2s -o timeline.png   a stall is seen at once
  shmpool trace films                            until ^C: hand-offs, holds and waits

"""
_PICTURES = (".png", ".svg")
_POLL = 0.02  # seconds: at full speed a member fills an eighth of its ring in that time
_LOOK = 25  # polls between two looks whether anybody is left


def add(commands: Any) -> None:
    """Add the parser."""
    about = "record what happens to every slot, as a timeline for Perfetto or as a picture"
    parser = add_parser(commands, "trace", about, CODES)
    parser.description, parser.epilog = _ABOUT, f"{_EXAMPLES}{parser.epilog}"
    parser.set_defaults(run=run)
    parser.add_argument("name", metavar="NAME", help="of the pool, as shmpool ls shows it")
    parser.add_argument(
        "--for", dest="seconds", type=values.duration, metavar="TIME",
        help="such as 5s, 500ms or 2min; until ^C without it",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, action="append", default=[], metavar="FILE",
        help="x.json for ui.perfetto.dev, x.svg or x.png for a picture; may be given twice",
    )  # fmt: skip
    parser.add_argument(
        "--ring", type=_ring, default=EVENTS, metavar="EVENTS",
        help=f"kept for each member until they are read, a power of two ({EVENTS})",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Trace once."""
    _check(options.output)
    try:
        recording = _record(options)
        line = build(recording)
        for path in options.output:
            _write(line, path)
    except (ShmpoolError, OSError) as error:
        print(f"shmpool trace: {printable(error)}", file=sys.stderr)
        return 1
    told = trace_summary.summary(line)
    if options.json:
        show_json(told)
    else:
        print(trace_summary.text(told))
    return 0


def _ring(text: str) -> int:
    number = values.positive(text)
    if number & (number - 1) or not _core.TRACE_LEAST <= number <= _core.TRACE_MOST:
        least, most = _core.TRACE_LEAST, _core.TRACE_MOST
        raise argparse.ArgumentTypeError(f"{text}: a power of two from {least} to {most}")
    return number


def _check(paths: list[Path]) -> None:
    """Before anybody waits for what cannot be written then. Raises UsageError."""
    for path in paths:
        if path.suffix not in (".json", *_PICTURES):
            raise UsageError(f"-o {path}: give a name that ends in .json, .svg or .png")
        if not path.parent.is_dir():
            raise UsageError(f"-o {path}: there is no directory {path.parent}")
        if path.suffix in _PICTURES:
            try:
                import matplotlib as mpl  # noqa: F401
            except ImportError:
                raise UsageError(
                    f"-o {path} needs matplotlib: pip install 'shmpool[trace]'"
                ) from None


def _record(options: argparse.Namespace) -> Recording:
    with _Stop() as stop, recorder(options.name, options.ring) as listening:
        if sys.stderr.isatty():
            print(f"tracing {options.name}, ^C ends it", file=sys.stderr)
        try:
            _listen(listening, stop, options.seconds or math.inf)
        except SegmentError as error:  # somebody cut the segment
            print(f"shmpool trace: {printable(error)}; this is what was seen", file=sys.stderr)
        return listening.stop()


def _listen(listening: Recorder, stop: _Stop, seconds: float) -> None:
    """Until the time is over, somebody asks to stop, or nothing more can come."""
    polls = 0
    while not stop.asked and (left := seconds - listening.age) > 0:
        time.sleep(min(_POLL, left))
        listening.poll()
        polls += 1
        if polls % _LOOK == 0 and listening.over():
            return


class _Stop:
    """Whether ^C or SIGTERM came in the block: what was seen until then is written.

    A SIGINT that was ignored, as in a script's background jobs, stays so.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        asking = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
        self._before = {number: signal.getsignal(number) for number in asking}
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._ask)
        return self

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _write(line: Timeline, path: Path) -> None:
    if path.suffix in _PICTURES:
        from shmpool.cli import trace_picture

        trace_picture.draw(line, path)
        return
    with path.open("w", encoding="utf-8") as file:
        json.dump(chrome.trace_events(line), file, separators=(",", ":"))
