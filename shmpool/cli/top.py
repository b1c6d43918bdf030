"""The command `shmpool top`: a pool, live."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import signal
import sys
import time
from argparse import ArgumentTypeError
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shmpool._look import Look, watching
from shmpool._text import printable
from shmpool.cli import values
from shmpool.cli.exits import INTERRUPTED, TERMINATED, UsageError
from shmpool.cli.motion import SORTS, Motion, flow, motion
from shmpool.cli.table import add_parser, show_json
from shmpool.cli.wishes import Wishes
from shmpool.errors import ShmpoolError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from shmpool.cli.terminal import Event, Terminal

GONE, HUNG_UP = 3, 129
CODES = {
    0: "ended by q, or shown once",
    1: "no such pool, or it cannot be read",
    2: "wrong arguments",
    GONE: "the pool was closed while it was looked at",
    HUNG_UP: "the terminal was closed",
    INTERRUPTED: "interrupted (^C)",
    TERMINATED: "terminated (SIGTERM)",
}
_ABOUT = """\
What is going on in a pool, live: a map of its slots and whose they are, queues, members and
their rates, and who has held a slot for longest. Nothing is written to the pool, and no member
index is taken.

On a terminal it goes on until q; ? shows the keys. Elsewhere, and with --once, --json or
--svg, it looks twice and shows what went on in between.
"""
_EXAMPLES = """\
examples:
  shmpool top films                  watch a pool; q quits
  shmpool top films --interval 2     look every two seconds
  shmpool top films --once           print it: two looks, half a second apart
  shmpool top films --json | jq .tickets
  shmpool top films --svg films.svg --size 110x40

"""
_LETTERS = "FLQSDURX"  # of states, in their order
_LEAST = 0.25  # seconds: four pictures a second are as many as are read
_WINDOW = 2.0  # seconds over which rates are taken on a live screen
_HELD_MOST = 64  # slots of those held longest, on a live screen
_PICTURE = (100, 36)
_SORTS = tuple(SORTS)


def add(commands: Any) -> None:
    """Add the parser."""
    parser = add_parser(commands, "top", "watch a pool: slots, queues, members, live", CODES)
    parser.description, parser.epilog = _ABOUT, f"{_EXAMPLES}{parser.epilog}"
    parser.set_defaults(run=run)
    parser.add_argument("name", metavar="NAME", help="of the pool, as shmpool ls shows it")
    parser.add_argument("--once", action="store_true", help="print it once, and end")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="save one picture of it (100x36)")
    parser.add_argument(
        "--interval", type=_interval, default=0.5, metavar="S",
        help="seconds between two looks, at least 0.25 (default 0.5)",
    )  # fmt: skip
    parser.add_argument(
        "--sort",
        choices=_SORTS,
        default="rate",
        metavar="KEY",
        help=f"order of the members: {', '.join(_SORTS)} (default rate)",
    )
    parser.add_argument(
        "--size",
        type=values.size,
        metavar="WxH",
        help="columns and lines of --once or --svg, as 120x40",
    )


def _interval(text: str) -> float:
    seconds = values.seconds(text)
    if seconds < _LEAST:
        raise ArgumentTypeError(f"{text!r}: seconds, at least {_LEAST:g}: four looks a second")
    return seconds


def run(options: argparse.Namespace) -> int:
    """Watch it, or look twice."""
    if not options.json and find_spec("rich") is None:
        raise UsageError("that needs rich: pip install 'shmpool[look]'; --json works without")
    try:
        with watching(options.name) as look:
            if options.json or options.once or options.svg or not _can_be_live():
                return _once(options, look)
            return _live(options, look)
    except BrokenPipeError:
        raise
    except (ShmpoolError, OSError) as error:
        print(f"shmpool top: {printable(error)}", file=sys.stderr)
        return 1


def _can_be_live() -> bool:
    """Whether stdout is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


# Once.


def _once(options: argparse.Namespace, look: Callable[[], Look]) -> int:
    before = look()
    time.sleep(options.interval)
    now = look()
    seen = motion(before, now)
    if options.json:
        show_json(_plain(seen))
    elif options.svg:
        _save(options, seen)
    else:
        _print(options, seen)
    if _is_over(seen):
        print(f"shmpool top: {_farewell(seen)}", file=sys.stderr)
        return GONE
    return 0


def _plain(seen: Motion) -> dict[str, Any]:
    """For JSON: a letter a slot, and no owners, which `longest` has of all that is held."""
    shown = asdict(seen)
    del shown["owners"]
    shown["states"] = "".join(_LETTERS[state] for state in seen.states)
    return shown


def _print(options: argparse.Namespace, seen: Motion) -> None:
    from shmpool.cli.screen import draw

    width, height = options.size or (None, None)
    console = _console(width=width)
    with console.capture() as captured:  # rich would end the process if the reader has gone
        _put(console, draw(seen, Wishes(options.sort), console.width, height))
    sys.stdout.write(captured.get())


def _save(options: argparse.Namespace, seen: Motion) -> None:
    from rich.terminal_theme import DIMMED_MONOKAI

    from shmpool.cli.screen import draw

    width, height = options.size or _PICTURE
    console = _console(
        width=width, record=True, file=io.StringIO(), force_terminal=True, no_color=False,
        color_system="truecolor",
    )  # fmt: skip
    _put(console, draw(seen, Wishes(options.sort), width, height))
    title = f"shmpool top {printable(seen.name)}"
    options.svg.write_text(console.export_svg(title=title, theme=DIMMED_MONOKAI), encoding="utf-8")


def _put(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        console.print(line, crop=True, no_wrap=True)


def _console(**options: Any) -> Console:
    from rich.console import Console

    from shmpool.cli.slotmap import in_ascii

    if "utf" not in sys.stdout.encoding.lower() and isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("shmpool-ascii", in_ascii)
        sys.stdout.reconfigure(errors="shmpool-ascii")
    return Console(highlight=False, markup=False, emoji=False, **options)


# Live.


def _live(options: argparse.Namespace, look: Callable[[], Look]) -> int:
    from shmpool.cli.terminal import Hangup, Terminal

    wishes = Wishes(options.sort, live=True, every=options.interval)
    show = _Show(look, options.interval, wishes)
    try:
        with Terminal(_console(force_terminal=True)) as terminal:
            code = show.until_the_end(terminal)
    except Hangup:
        code = HUNG_UP
    if code == HUNG_UP:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is flushed at the exit
    elif code == GONE:
        print(f"shmpool top: {_farewell(show.seen)}", file=sys.stderr)
    return code


class _Show:
    """Looks and pictures, one after the other."""

    def __init__(self, look: Callable[[], Look], interval: float, wishes: Wishes) -> None:
        self._look, self._interval, self._wishes = look, interval, wishes
        self._first = look()
        self._looks = deque([self._first])
        self._past: deque[float] = deque(maxlen=64)
        self.seen = motion(self._first, self._first, most=_HELD_MOST)

    def until_the_end(self, terminal: Terminal) -> int:
        """The exit code."""
        due = time.monotonic() + self._interval
        while True:
            self._draw(terminal)
            for event in terminal.wait(due - time.monotonic()):
                code = self._heed(event, terminal)
                if code is not None:
                    return code
            if time.monotonic() < due:
                continue
            due = time.monotonic() + self._interval
            if not self._wishes.paused and _is_over(self._go_on()):
                return GONE

    def _go_on(self) -> Motion:
        now = self._look()
        self._looks.append(now)
        # The window is as long as it may be, and never less than from one look to the next.
        while len(self._looks) > 2 and _seconds(self._looks[1], now) >= _WINDOW:
            self._looks.popleft()
        self._past.append(flow(self._looks[-2], now).rights)
        self.seen = motion(self._looks[0], now, self._first, _HELD_MOST)
        return self.seen

    def _draw(self, terminal: Terminal) -> None:
        from rich.console import Group

        from shmpool.cli.screen import draw

        size = terminal.size
        wishes = replace(self._wishes, past=tuple(self._past))
        terminal.show(Group(*draw(self.seen, wishes, *size)))

    def _heed(self, event: Event, terminal: Terminal) -> int | None:
        """Do as a key or a signal says; the exit code, if it is to end."""
        ends = {"q": 0, "Q": 0, signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED,
                signal.SIGHUP: HUNG_UP}  # fmt: skip
        if event == signal.SIGTSTP:
            terminal.stop()
        elif isinstance(event, str):
            self._wishes = self._wishes.after(event, len(self.seen.members))
        return ends.get(event)


def _seconds(before: Look, now: Look) -> float:
    return (now.when_ns - before.when_ns) / 1e9


# The end of a pool.


def _is_over(seen: Motion) -> bool:
    """Whether it was closed and its name is gone. An orphan goes on as long as one looks."""
    return seen.state == "closed" and not seen.named


def _farewell(seen: Motion) -> str:
    used = sum(seen.by_state.values()) - seen.by_state["free"] - seen.by_state["uncommitted"]
    slots = f"{used} of its {seen.slots} slots"
    return f"pool {seen.name!r} was closed by its coordinator; in the end {slots} were in use"
