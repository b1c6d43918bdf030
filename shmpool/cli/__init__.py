"""The command `shmpool`, or `python -m shmpool`.

    exits       exit codes, and the error that is told before anything starts
    stdout      ... as a command finds it: closed, full, or of a narrow encoding
    values      what options are made of: sizes, ranges of frames, settings
    target      MODULE:FUNCTION, and the renderers that ship
    jobs        what there is to do, numbered
    journal     what is done, on disk, for --resume
    outputs     where frames go: a film, stills, an array, stdout, nowhere
    film        a film in parts, and how they are joined
    stops       what ^C and SIGTERM ask for
    display     the bar, or plain lines
    report      what became of it all: text, or JSON
    run         one run of a farm
    farm        the command `shmpool farm`
    table       plain tables, for the commands that look at pools
    ls          the command `shmpool ls`
    portrait    what is shown of a pool and of a slot
    inspect     the command `shmpool inspect`
    motion      two looks at a pool, made into rates
    grid        columns, bars, and numbers that fit into them
    slotmap     the map of a pool's slots
    wishes      what whoever looks has chosen, and what keys change of it
    sections    tables of queues, members and long holds
    screen      what is shown of what moves in a pool
    terminal    a terminal that is taken whole, and given back
    top         the command `shmpool top`
    gc          the command `shmpool gc`
    checks      what may be wrong with a machine
    doctor      the command `shmpool doctor`
    trace       the command `shmpool trace`
    timeline    ... who held what when, from events
    chrome      ... as JSON for Perfetto
    trace_picture, trace_summary    ... as a picture, and as numbers
    completion  completion for shells

One module a command: each has `add(commands)`, which adds a parser whose `run` is a function of
the parsed options that returns an exit code.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from shmpool import __version__
from shmpool.cli import completion, doctor, farm, gc, inspect, ls, stdout, top, trace
from shmpool.cli.exits import INTERRUPTED, PIPE, UNWRITTEN, USAGE, UsageError

__all__ = ["main"]

_EPILOG = """\
examples:
  shmpool farm workers.whitted:render --frames 0-95 --out film.mp4
  shmpool ls                            what pools there are
  shmpool top films                     watch one of them
  shmpool trace films --for 5s -o x.png what it does for a while, as a picture
  shmpool inspect films --slot 3        what one of its slots is, and whose
  shmpool gc --dry-run                  what killed processes left behind
  eval "$(shmpool --completion bash)"   complete commands and options

shmpool COMMAND --help says more of each.
"""
_COMMANDS = (farm, ls, inspect, top, trace, gc, doctor)


def parser() -> argparse.ArgumentParser:
    """Of the command with all its subcommands."""
    whole = argparse.ArgumentParser(
        prog="shmpool",
        description="Pools of shared memory: work in them, and look at them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"shmpool {__version__}")
    whole.add_argument(
        "--completion",
        choices=completion.SHELLS,
        metavar="SHELL",
        help=f"print a completion script for {', '.join(completion.SHELLS)}",
    )
    commands = whole.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: its exit code."""
    if sys.stdout is None:  # closed, as by `>&-`: nobody wants to see anything
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - descriptor 1
    whole = parser()
    # As `python -m` does: a renderer may lie where one works.
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    stdout.settle()
    options = whole.parse_args(arguments)
    if options.completion:
        print(completion.script(whole, options.completion))
        return 0
    if options.command is None:
        whole.print_help(sys.stderr)
        return USAGE
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, as `head`, has seen enough
        stdout.give_up()
        return PIPE
    except OSError as error:
        if not stdout.is_broken():
            raise
        stdout.give_up()
        print(f"shmpool {options.command}: stdout cannot be written: {error}", file=sys.stderr)
        return UNWRITTEN
    except UsageError as error:
        print(f"shmpool {options.command}: error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:  # before there was anything to drain
        return INTERRUPTED
    return code
